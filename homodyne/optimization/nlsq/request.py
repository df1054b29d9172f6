"""A fit as asked for, checked before any data is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from homodyne.errors import InputError
from homodyne.models import Model
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.select import select_nlsq_strategy
from homodyne.optimization.scaling import MODES, make_scaling
from homodyne.optimization.source import BlockSource, all_frames
from homodyne.optimization.uncertainty.jackknife import LEAST_ANGLES
from homodyne.parameters import Parameter, check_values, unpack, with_bounds
from homodyne.result import Decision

COVARIANCES = ("speckle", "jackknife", "iid")


@dataclasses.dataclass(frozen=True)
class Request:
    """A checked request: what is fitted, how, and with which strategy."""

    source: BlockSource
    model: Model
    parameters: tuple[Parameter, ...]
    scaling: str
    start: dict[str, float]
    fixed: dict[str, float]
    covariance: str
    counts: float | None
    pixels: float | None
    min_lag: int
    options: NLSQOptions
    n_points: int
    decision: Decision

    @property
    def free(self) -> np.ndarray:
        """Which parameters move, (p,) bool."""
        return np.array([p.name not in self.fixed for p in self.parameters])

    def feasible(self, points: np.ndarray) -> np.ndarray:
        """Which of the points (n, p) are finite and give the model's rates the right sign on all frames; (n,) bool."""
        source = self.source
        geometry = self.model.geometry(float(source.phi[0]), source.q, source.gap, source.dt)
        return np.all(np.isfinite(points), axis=1) & self.model.feasible(points, source.t, geometry)

    def is_feasible(self, theta: np.ndarray) -> bool:
        """The same for one point."""
        return bool(self.feasible(theta[None, :])[0])


def check_request(
    source: BlockSource,
    model: Model,
    scaling: str,
    strategy: str,
    start: Mapping[str, float],
    fixed: Mapping[str, float],
    bounds: Mapping[str, Sequence[float]],
    covariance: str,
    counts: float | None,
    pixels: float | None,
    min_lag: int,
    options: NLSQOptions,
) -> Request:
    """Check everything that can be checked without reading data.

    Raises:
        InputError: naming field, value and remedy.
    """
    parameters = with_bounds(model.parameters, bounds)
    checked_fixed = check_values(fixed, parameters, "fixed")
    checked_start = check_values(start, parameters, "start")
    if covariance not in COVARIANCES:
        raise InputError("covariance", covariance, "is unknown", f"choose one of {', '.join(COVARIANCES)}")
    if covariance == "jackknife" and len(np.asarray(source.phi)) < LEAST_ANGLES:
        raise InputError(
            "covariance", covariance, f"needs at least {LEAST_ANGLES} angles, there are {len(np.asarray(source.phi))}",
            "use covariance=speckle",
        )  # fmt: skip
    for name, value in (("counts", counts), ("pixels", pixels)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(name, value, "must be a positive number", "leave it out to estimate it from the data")
    if scaling not in MODES:
        raise InputError("scaling", scaling, "is unknown", f"choose one of {', '.join(MODES)}")
    if min_lag < 1:
        raise InputError("min_lag", min_lag, "must be at least 1: the diagonal is never fitted", "set it to 1")
    phi = np.asarray(source.phi)
    model.geometry(float(phi[0]), source.q, source.gap, source.dt)
    n_points = all_frames(source).n_points(min_lag)
    free = len(parameters) - len(checked_fixed) + _free_scaling(scaling, phi, options.fourier_order)
    if n_points <= free:
        raise InputError(
            "n_points", n_points, f"is not more than the {free} free parameters", "select more frames or fix parameters"
        )
    decision = select_nlsq_strategy(
        n_points,
        len(parameters) + 2,
        memory_fraction=options.memory_fraction,
        memory_threshold_gb=options.memory_threshold_gb,
        strategy=strategy,
    )
    return Request(
        source,
        model,
        parameters,
        scaling,
        checked_start,
        checked_fixed,
        covariance,
        counts,
        pixels,
        min_lag,
        options,
        n_points,
        decision,
    )


def infeasible(values: Mapping[str, float]) -> InputError:
    """The error for values with which no fit can begin."""
    return InputError(
        "start",
        dict(values),
        "makes a rate that must be positive, J(t), zero or negative at some frame",
        "raise D_offset or D0 (start, fixed or bounds)",
    )


def check_start(request: Request, theta: np.ndarray) -> None:
    """Raise InputError for a start at which the model makes no sense."""
    if not request.is_feasible(theta):
        raise infeasible(unpack(theta, request.parameters))


def check_counts(request: Request, n_free_scaling: int, counts: np.ndarray) -> None:
    """Raise InputError for an angle without valid points, or fewer valid points than free parameters.

    Args:
        counts: valid pairs per angle that a pass over all data has found, (n_phi,).
    """
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        raise InputError(
            "phi",
            float(request.source.phi[empty[0]]),
            "has no valid point: all values are NaN, zero or without weight",
            "leave this angle out (dataset.phi)",
        )
    free = int(request.free.sum()) + n_free_scaling
    if counts.sum() <= free:
        raise InputError(
            "n_points",
            int(counts.sum()),
            f"valid points are not more than the {free} free parameters",
            "select more frames or fix parameters",
        )


def _free_scaling(scaling: str, phi: np.ndarray, fourier_order: int) -> int:
    return make_scaling(scaling, phi, fourier_order, np.zeros((len(phi), 2))).n_free
