"""Landscapes of closed form, in which all optima are known: what strategies see, without data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.optimize

from homodyne.optimization.search import Landscape, Optimum
from homodyne.parameters import Parameter

Cost = Callable[[np.ndarray], float]


def parameter(
    name: str, lower: float, upper: float, search: tuple[float, float] | None = None, **settings
) -> Parameter:
    """A parameter that starts in the middle of its bounds."""
    return Parameter(name, "", 0.5 * (lower + upper), lower, upper, settings.get("scale", 1.0), search=search)


def landscape(
    cost: Cost,
    parameters: Sequence[Parameter],
    start: Mapping[str, float] | None = None,
    fixed: Mapping[str, float] | None = None,
    *,
    coarse: Cost | None = None,
    feasible: Callable[[np.ndarray], bool] = lambda theta: True,
    warm: Callable[[np.ndarray], np.ndarray] = lambda theta: theta,
    descend: Callable[[np.ndarray], tuple[np.ndarray, float]] | None = None,
) -> Landscape:
    """The landscape of ``cost``; local fits are SciPy's, within the bounds, and so short-sighted that they stay in a basin."""
    fixed, start, rough = dict(fixed or {}), dict(start or {}), coarse or cost
    free = np.array([p.name not in fixed for p in parameters])
    low, high = (np.array([getattr(p, side) for p in parameters]) for side in ("lower", "upper"))

    def local(theta: np.ndarray) -> tuple[np.ndarray, float]:
        moved = np.array(theta, dtype=float)
        if not free.any():
            return moved, float(cost(moved))

        def partial(x):
            moved[free] = x
            return cost(moved)

        options = {"maxls": 50, "ftol": 1e-14, "gtol": 1e-10}
        found = scipy.optimize.minimize(
            partial,
            theta[free],
            method="L-BFGS-B",
            bounds=list(zip(low[free], high[free], strict=True)),
            options=options,
        )
        moved[free] = found.x
        return moved.copy(), float(found.fun)

    def refine(theta: np.ndarray, origin: str) -> Optimum:
        return Optimum(*local(theta), origin)

    def compare(points: np.ndarray) -> np.ndarray:
        return np.array([rough(x) if feasible(x) else np.inf for x in points])

    return Landscape(
        tuple(parameters), start, fixed, compare, lambda points: np.array([feasible(x) for x in points]), warm,
        descend or (lambda theta: local(warm(theta))), refine, lambda theta: float(cost(theta)),
    )  # type: ignore[arg-type]  # fmt: skip
