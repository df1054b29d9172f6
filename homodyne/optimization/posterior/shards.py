"""Shards: groups of whole sectors, each with a bit of every direction."""

from __future__ import annotations

import numpy as np

from homodyne.errors import InputError
from homodyne.optimization.source import BlockSource, sector_q

# Sectors of a shard: one alone tells diffusion from shear in no direction.
LEAST_SECTORS = 2
_USUAL_SECTORS = 5


def make_groups(
    source: BlockSource, n_points: int, shards: int | str, max_points_per_shard: int | str
) -> list[np.ndarray]:
    """Sectors of every shard, interleaved in order of q and azimuth.

    Pairs of one map share frames and are not independent, so that shards are made of whole maps.

    Args:
        n_points: of all sectors. shards: how many, or ``auto``: about five sectors each.
        max_points_per_shard: or ``auto``: no limit. More shards are made until it is kept.

    Raises:
        InputError: shards of fewer than two sectors.
    """
    for name, given in (("shards", shards), ("max_points_per_shard", max_points_per_shard)):
        if given != "auto" and not (isinstance(given, int) and given > 0):
            raise InputError(name, given, "is neither auto nor a positive whole number", "leave it out")
    n_phi = len(source.phi)
    most = n_phi // LEAST_SECTORS
    if most < 2:
        raise InputError(
            "method", "cmc", f"needs at least {2 * LEAST_SECTORS} sectors, there are {n_phi}", "use method='nuts'"
        )
    n = max(2, round(n_phi / _USUAL_SECTORS)) if shards == "auto" else int(shards)
    field, value = "shards", shards
    if max_points_per_shard != "auto":
        wanted = -(-n_points // int(max_points_per_shard))
        if wanted > n:
            n, field, value = wanted, "max_points_per_shard", max_points_per_shard
    if n > most or n < 2:
        raise InputError(
            field, value, f"makes {n} shards of {n_phi} sectors; shards are whole sectors, two at least in each, because "
            "pairs of one map share frames",
            f"choose between 2 and {most} shards ({-(-n_points // most)} points each), or use method='nuts', which takes all "
            "data at once",
        )  # fmt: skip
    order = np.lexsort((np.asarray(source.phi), sector_q(source)))
    return [np.sort(order[i::n]) for i in range(n)]
