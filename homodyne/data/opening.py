"""From a file to a Dataset: recognize, tabulate, select; nothing but metadata is read."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from homodyne.data.arrays import check_sigma
from homodyne.data.dataset import ESTIMATED, Dataset
from homodyne.data.formats import open_lazily
from homodyne.data.maps import Maps
from homodyne.data.select import (
    Ring,
    circular_mean,
    merge_angles,
    one_or_several_q,
    require_positive,
    select_frames,
    select_phi,
    select_rings,
)
from homodyne.data.table import MatrixTable, matrix_table
from homodyne.errors import InputError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Angles:
    """Which angles: the wanted list, how near an angle must be, and how near-identical ones are merged [deg]."""

    wanted: Sequence[float | Sequence[float]] | None = None
    tolerance_deg: float = 1.0
    merge: str | None = None
    merge_tolerance_deg: float = 1.0


def open_table(path: str | os.PathLike[str], engine: str | None = None) -> tuple[str, MatrixTable]:
    """Format and table of all matrices of a file.

    Raises:
        InputError: missing, unreadable, unknown or inconsistent file.
    """
    name, opened = open_lazily(path, engine)
    try:
        return name, matrix_table(opened)
    except InputError:
        opened.close()
        raise


def open_dataset(
    path: str | os.PathLike[str],
    *,
    q: float | Sequence[float] | None,
    q_tolerance: float,
    gap: float | None,
    dt: float | None,
    dt_override: bool,
    angles: Angles,
    frames: Sequence[int] | None,
    engine: str | None,
    sigma: float | Sequence[float] | np.ndarray | None,
) -> Dataset:
    """See ``Dataset.open``."""
    name, table = open_table(path, engine)
    dt_s, dt_source = required_dt(dt, table.dt, table.dt_source, dt_override)
    sectors = [s for ring in select_rings(table.rings(), q, q_tolerance) for s in _sectors(table, ring, angles)]
    groups = [sector.bins for sector in sectors]
    first, n_t = select_frames(table.n_t, frames)
    members = tuple(tuple(table.index[i] for i in group) for group in groups)
    maps = Maps(table.c2, members, first, n_t, lower=table.c2.attrs.get("filled_half") == "lower")
    phi = np.array([circular_mean(table.phi[group]) for group in groups])
    given, source = _sigma(sigma, table, maps)
    gap_A, gap_source = _gap(gap, table.gap)
    attrs = {
        **{k: v for k, v in table.attrs.items() if k not in ("dt", "gap", "gap_units", "history")},
        "dt_source": dt_source,
        "gap_source": gap_source,
        "frames": (first + 1, first + n_t),
        "frames_in_file": table.n_t,
        "bytes": _bytes(Path(path)),
        "q_of_angles": [float(np.mean(table.q[group])) for group in groups],
        "merged_angles": _merged(sectors, table, angles),
        "invalid_points": table.c2.attrs.get("invalid_points", "zero rows"),
    }
    if table.pixels is not None:
        attrs["pixels"] = [int(table.pixels[group].sum()) for group in groups]
    return Dataset(
        phi=phi, t=np.arange(n_t) * dt_s, dt=dt_s, q=one_or_several_q([s.q for s in sectors], len(sectors)), gap=gap_A, path=Path(path), engine=name,
        attrs=attrs, maps=maps, sigma_given=given, sigma_source=source,
    )  # fmt: skip


def required_dt(given: float | None, stored: float | None, source: str, override: bool) -> tuple[float, str]:
    """dt [s] and where it is from.

    Raises:
        InputError: neither given nor in the file; not positive; both there and different.
    """
    if given is None:
        if stored is None:
            raise InputError("dataset.dt", None, f"is {source}", "set dataset.dt to the frame spacing in seconds")
        return require_positive("dt", stored, "s"), source
    number = require_positive("dataset.dt", given, "s")
    if stored is None or abs(number - stored) <= 1e-6 * stored:
        return number, "given" if stored is None else source
    if not override:
        raise InputError(
            "dataset.dt", number, f"differs from dt={stored:.9g} s of the file ({source})",
            "leave dataset.dt out, or set dataset.dt_s_override=true to use yours",
        )  # fmt: skip
    return number, f"given, replacing {stored:.9g} s of the file"


@dataclasses.dataclass(frozen=True)
class _Sector:
    """q of its ring, positions in the table of the bins it is made of, and of those that were merged into it or dropped."""

    q: float
    bins: np.ndarray
    alike: np.ndarray


def _sectors(table: MatrixTable, ring: Ring, angles: Angles) -> list[_Sector]:
    """The wanted sectors of one ring."""
    where = f" at q = {ring.q:.6g}"
    bins = ring.bins[select_phi(table.phi[ring.bins], angles.wanted, angles.tolerance_deg, where)]
    groups = merge_angles(table.phi[bins], angles.merge, angles.merge_tolerance_deg)
    alike = merge_angles(table.phi[bins], angles.merge and "average", angles.merge_tolerance_deg)
    return [_Sector(ring.q, bins[g], bins[a]) for g, a in zip(groups, alike, strict=True)]


def _merged(sectors: Sequence[_Sector], table: MatrixTable, angles: Angles) -> list[dict[str, Any]]:
    """Record of what was merged: how, q, and the angles."""
    return [{"how": angles.merge, "q": s.q, "phi": table.phi[s.alike].tolist()} for s in sectors if s.alike.size > 1]


def _gap(given: float | None, stored: float | None) -> tuple[float | None, str]:
    if given is None:
        if stored is None:
            return None, "missing"
        return require_positive("gap", stored, "angstrom"), "file"
    number = require_positive("dataset.gap_angstrom", given, "angstrom")
    if stored is not None and abs(number - stored) > 1e-6 * abs(stored):
        log.warning("gap: %g angstrom given replaces %g angstrom of the file", number, stored)
        return number, f"given, replacing {stored:g} of the file"
    return number, "given"


def _sigma(
    given: float | Sequence[float] | np.ndarray | None, table: MatrixTable, maps: Maps
) -> tuple[np.ndarray | Maps | None, str]:
    """The user's sigma, else the file's, else None (estimated on first use)."""
    n_phi = len(maps.members)
    if given is not None:
        if np.ndim(given) > 1:
            raise InputError(
                "dataset.sigma", np.shape(given), "is not one number per angle", "store sigma per point in the file"
            )
        return check_sigma(given, n_phi, ())
    stored = table.sigma
    if stored is None:
        return None, ESTIMATED
    if stored.dims[-2:] == ("t1", "t2"):
        return dataclasses.replace(maps, variable=stored), "given per point"
    if stored.ndim == 0:
        return check_sigma(float(stored.values), n_phi, ())
    values = np.asarray(stored.values, dtype=np.float64)
    members = [np.array([_at(values, stored, table.c2, index) for index in group]) for group in maps.members]
    return check_sigma(np.array([np.sqrt(np.sum(m**2)) / m.size for m in members]), n_phi, ())


def _at(values: np.ndarray, stored: xr.Variable, c2: xr.Variable, index: tuple[int, ...]) -> float:
    """Sigma of one matrix: the stored dimensions are some of the leading dimensions of c2."""
    where: Mapping[Any, int] = dict(zip(c2.dims, index, strict=False))
    missing = [name for name in stored.dims if name not in where]
    if missing:
        raise InputError("sigma", stored.dims, "has other dimensions than c2", "store sigma(phi) or sigma(phi, t1, t2)")
    return float(values[tuple(where[name] for name in stored.dims)])


def _bytes(path: Path) -> int:
    """Size on disk; a Zarr store is a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size
