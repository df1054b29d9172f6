"""A fit as asked for, checked before any data is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from homodyne.errors import InputError
from homodyne.models import Model
from homodyne.optimization.nlsq.cluster import Cluster
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.select import select_nlsq_strategy
from homodyne.optimization.scaling import MODES, make_scaling
from homodyne.optimization.search import STRATEGIES, Auto, Strategy, WarmUp, scale_ratio
from homodyne.optimization.source import BlockSource, all_frames, sector_geometry
from homodyne.optimization.uncertainty.jackknife import LEAST_ANGLES
from homodyne.optimization.uncertainty.repetitions import LEAST_REPETITIONS
from homodyne.parameters import Parameter, check_values, with_bounds
from homodyne.result import Decision

COVARIANCES = ("speckle", "repetitions", "jackknife", "iid")
WEIGHTINGS = ("uniform", "whitened", "auto")


@dataclasses.dataclass(frozen=True)
class Request:
    """A checked request: what is fitted, how, and with which strategy."""

    source: BlockSource
    model: Model
    parameters: tuple[Parameter, ...]
    scaling: str
    strategy: Strategy
    warm_up: WarmUp | None
    start: dict[str, float]
    fixed: dict[str, float]
    covariance: str
    counts: float | None
    pixels: float | None
    min_lag: int
    options: NLSQOptions
    n_points: int
    decision: Decision
    cluster: Cluster | None = None
    weighting: str = "uniform"

    @property
    def free(self) -> np.ndarray:
        """Which parameters move, (p,) bool."""
        return np.array([p.name not in self.fixed for p in self.parameters])

    def feasible(self, points: np.ndarray) -> np.ndarray:
        """Which of the points (n, p) are finite and give the model's rates the right sign on all frames; (n,) bool."""
        source = self.source
        geometry = sector_geometry(self.model, source)
        return np.all(np.isfinite(points), axis=1) & self.model.feasible(points, source.t, geometry)

    def is_feasible(self, theta: np.ndarray) -> bool:
        """The same for one point."""
        return bool(self.feasible(theta[None, :])[0])


def check_request(
    source: BlockSource,
    model: Model,
    *,
    scaling: str,
    strategy: Strategy,
    warm_up: WarmUp | None,
    start: Mapping[str, float],
    fixed: Mapping[str, float],
    bounds: Mapping[str, Sequence[float]],
    covariance: str,
    counts: float | None,
    pixels: float | None,
    min_lag: int,
    options: NLSQOptions,
    client: Any = None,
    weighting: str = "uniform",
) -> Request:
    """Check everything that can be checked without reading data.

    Args:
        client: of ``dask.distributed``, for passes on its workers.

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
    if covariance == "repetitions":
        _check_repetitions(source, options)
    _check_weighting(weighting, covariance, options)
    for name, value in (("counts", counts), ("pixels", pixels)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(name, value, "must be a positive number", "leave it out to estimate it from the data")
    if scaling not in MODES:
        raise InputError("scaling", scaling, "is unknown", f"choose one of {', '.join(MODES)}")
    if min_lag < 1:
        raise InputError("min_lag", min_lag, "must be at least 1: the diagonal is never fitted", "set it to 1")
    sector_geometry(model, source)  # raises where the gap, or a second q, is missing
    n_points = all_frames(source).n_points(min_lag)
    free = len(parameters) - len(checked_fixed) + _free_scaling(scaling, source, options.fourier_order)
    if n_points <= free:
        raise InputError(
            "n_points", n_points, f"is not more than the {free} free parameters", "select more frames or fix parameters"
        )
    decision = decide(strategy, parameters, checked_fixed, n_points, options)
    if client is not None and decision.passes != "distributed":
        raise InputError(
            "client", type(client).__name__, f"is not used by strategy={strategy.name}", "use strategy=distributed"
        )
    return Request(
        source,
        model,
        parameters,
        scaling,
        strategy,
        warm_up,
        checked_start,
        checked_fixed,
        covariance,
        counts,
        pixels,
        min_lag,
        options,
        n_points,
        decision,
        None if client is None else Cluster(client),
        weighting,
    )


def _check_weighting(weighting: str, covariance: str, options: NLSQOptions) -> None:
    if weighting not in WEIGHTINGS:
        raise InputError("weighting", weighting, "is unknown", f"choose one of {', '.join(WEIGHTINGS)}")
    if weighting != "whitened":
        return
    if options.robust is not None:
        raise InputError(
            "weighting", weighting, "does not go with a robust loss: weights mix pairs, a loss judges them one by one",
            "use loss=linear, or weighting=uniform",
        )  # fmt: skip
    if covariance == "iid":
        raise InputError(
            "weighting", weighting, "leaves no pairs that could be counted as independent, which covariance=iid does",
            "use covariance=speckle, or weighting=uniform",
        )  # fmt: skip


def _check_repetitions(source: BlockSource, options: NLSQOptions) -> None:
    n = len(getattr(source, "attrs", {}).get("repetitions", ()))
    if n < LEAST_REPETITIONS:
        raise InputError(
            "covariance", "repetitions", f"needs the files of at least {LEAST_REPETITIONS} repetitions, there are {n}",
            "give dataset.path=[a,b,c], or use covariance=speckle",
        )  # fmt: skip
    if options.robust is not None:
        raise InputError(
            "covariance", "repetitions", "does not go with a robust loss: a loss acts otherwise on noisier data",
            "use loss=linear, or covariance=speckle",
        )  # fmt: skip


def decide(
    strategy: Strategy,
    parameters: Sequence[Parameter],
    fixed: Mapping[str, float],
    n_points: int,
    options: NLSQOptions,
) -> Decision:
    """Which strategy runs and how its passes are summed, as ``select_nlsq_strategy`` says."""
    forced = isinstance(strategy, Auto) and strategy.force
    own = strategy.name not in STRATEGIES
    name = "auto" if own else strategy.name
    decision = select_nlsq_strategy(
        n_points,
        len(parameters) + 2,
        scale_ratio=scale_ratio([p for p in parameters if p.name not in fixed]) if forced else None,
        memory_fraction=options.memory_fraction,
        memory_threshold_gb=options.memory_threshold_gb,
        strategy=name if strategy.passes == "auto" else strategy.passes,
    )
    if not own:
        return decision
    reason = f"{decision.reason}, passes by {decision.passes}"
    lines = (f"Strategy: {strategy.name} ({reason})", *decision.log_lines[1:])
    return dataclasses.replace(decision, strategy=strategy.name, reason=reason, log_lines=lines)


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


def _free_scaling(scaling: str, source: BlockSource, fourier_order: int) -> int:
    return make_scaling(scaling, source.phi, fourier_order, np.zeros((len(source.phi), 2)), source.q).n_free
