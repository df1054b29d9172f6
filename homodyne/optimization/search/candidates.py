"""Points from which a search sets out: quasi-random ones in the ranges where truth is likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from homodyne.errors import InputError
from homodyne.parameters import Parameter, pack

SAMPLERS = ("sobol", "lhs")


def candidates(
    parameters: Sequence[Parameter], known: Mapping[str, float], n: int, sampler: str = "sobol", seed: int = 0
) -> np.ndarray:
    """Points (n, p) that fill the parameters' search ranges, on a log scale where a range is positive.

    The seed is fixed: the same data give the same fit.

    Args:
        known: values that are kept as they are; parameters without a search range keep their default.
        sampler: ``sobol`` or ``lhs`` (Latin hypercube).
    """
    if sampler not in SAMPLERS:
        raise InputError("strategy.sampler", sampler, "is unknown", f"choose one of {', '.join(SAMPLERS)}")
    searched = [p for p in parameters if p.search is not None and p.name not in known]
    points = np.tile(pack({p.name: known.get(p.name, p.start) for p in parameters}, parameters), (n, 1))
    if not searched:
        return points[:1]
    from scipy.stats import qmc  # half a second that a fit from a given start does without

    if sampler == "sobol":
        # the balance of Sobol points needs a power of two; any first n of them fill the box as well
        unit = qmc.Sobol(len(searched), seed=seed).random_base2(max(0, (n - 1).bit_length()))[:n]
    else:
        unit = qmc.LatinHypercube(len(searched), seed=seed).random(n)
    order = [p.name for p in parameters]
    for column, p in zip(unit.T, searched, strict=True):
        assert p.search is not None
        low, high = (min(max(x, p.lower), p.upper) for x in p.search)
        log_scale = low > 0
        edges = np.log([low, high]) if log_scale else np.array([low, high])
        values = edges[0] + column * (edges[1] - edges[0])
        points[:, order.index(p.name)] = np.exp(values) if log_scale else values
    return points
