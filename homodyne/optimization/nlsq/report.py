"""From the final state to a FitResult: errors, checks of the scaling, warnings, history."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform

import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.special import chdtri

from homodyne.checkout import commit
from homodyne.optimization.dense import residuals
from homodyne.optimization.nlsq.memory import MemoryMonitor, detect_total_system_memory, estimate_peak_memory_gb
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.nlsq.select import streaming_peak_gb
from homodyne.optimization.nlsq.stratified_ls import all_sides, inverse_sigma
from homodyne.optimization.normal import linearize
from homodyne.optimization.scaling import Scaling, make_scaling
from homodyne.optimization.source import View
from homodyne.optimization.trust_region import Info, State
from homodyne.optimization.uncertainty.assess import Assessment, Fitted, assess
from homodyne.parameters import unpack
from homodyne.result import HISTORY_VARIABLES, FitResult, Memory, Status

_REFUTED_LEVEL = 1e-3
_EXCESS = 1.2  # chi2/N; the estimate of sigma itself scatters by a percent
_HISTOGRAM_EDGES = np.linspace(-6.0, 6.0, 122)


class History:
    """Rows of the record, one a pass."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, Info, bool]] = []

    def add(self, stage: str, info: Info, from_checkpoint: bool = False) -> None:
        """Record a pass of ``stage``: subset or full."""
        self._rows.append((stage, info, from_checkpoint))

    def count(self, stage: str) -> int:
        """Passes of a stage so far."""
        return sum(row[0] == stage for row in self._rows)

    def to_dataset(self) -> xr.Dataset:
        """The record, dimension ``pass``; variables as in ``result.HISTORY_VARIABLES``."""
        infos = [info for _, info, _ in self._rows]
        columns: dict[str, list] = {
            "stage": [stage for stage, _, _ in self._rows],
            "from_checkpoint": [int(found) for _, _, found in self._rows],
            "cost": [i.cost for i in infos],
            "chi2": [2 * i.cost / max(i.points, 1) for i in infos],
            "accepted": [int(i.accepted) for i in infos],
            "points_per_second": [i.points / max(i.seconds, 1e-9) for i in infos],
            **{
                name: [getattr(i, name) for i in infos]
                for name in ("gradient_norm", "step_norm", "radius", "points", "seconds")
            },
        }
        return xr.Dataset({n: ("pass", columns[n], {"description": text}) for n, text in HISTORY_VARIABLES.items()})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished minimization with everything the record needs."""

    request: Request
    state: State
    scaling: Scaling
    start: dict[str, float]
    start_source: str
    held: View
    history: History
    monitor: MemoryMonitor


def build_result(outcome: Outcome) -> FitResult:
    """Errors, warnings and record of a finished fit."""
    request, state, at = outcome.request, outcome.state, outcome.state.at
    parameters = request.parameters
    n_points = int(at.counts.sum())
    lower, upper = (np.array([getattr(p, side) for p in parameters]) for side in ("lower", "upper"))
    at_bound = request.free & ((state.theta <= lower) | (state.theta >= upper))
    moved = request.free & ~at_bound
    n_parameters = int(moved.sum()) + outcome.scaling.n_free
    chi2_reduced = 2 * at.cost / max(1, n_points - n_parameters)
    residual, weight = subset_residuals(outcome)
    found = assess(
        Fitted(
            request.source, request.model, parameters, state.theta, at, outcome.scaling, moved, chi2_reduced,
            request.min_lag, request.covariance, request.counts, request.pixels, request.free,
            state.status is Status.CONVERGED, state.status is Status.BORDER,
        ),
        residual,
        outcome.held.frames,
        lambda theta: subset_signal(outcome, theta),
    )  # fmt: skip
    status = _status(state, found)
    names = [p.name for p in parameters]
    return FitResult(
        model=request.model.name,
        convention=request.model.convention,
        scaling=request.scaling,
        strategy=request.decision.strategy,
        parameters=parameters,
        theta=unpack(state.theta, parameters),
        uncertainties=found.uncertainties,
        covariance_method=found.method,
        undetermined=found.undetermined,
        at_bound=dict(zip(names, at_bound.tolist(), strict=True)),
        fixed=request.fixed,
        start=outcome.start,
        start_source=outcome.start_source,
        phi=np.asarray(request.source.phi, dtype=float),
        contrast=at.scaling[:, 0],
        offset=at.scaling[:, 1],
        n_points=n_points,
        n_parameters=n_parameters,
        chi2_reduced=chi2_reduced,
        chi2_per_angle=at.chi2 / np.maximum(at.counts, 1),
        sigma=np.asarray(request.source.sigma, dtype=float),
        sigma_source=str(getattr(request.source, "sigma_source", "given")),
        condition=found.condition,
        status=status,
        message=_message(status, found),
        curve_table=found.curves,
        diagnostics=found.diagnostics,
        history=outcome.history.to_dataset(),
        memory=_memory(outcome),
        decision=request.decision,
        residual_histogram=residual_histogram(residual, weight),
        findings=found.findings,
        warnings=(*_warnings(outcome, chi2_reduced, at_bound, found.method), *found.warnings),
        provenance=_provenance(request),
    )


def _status(state: State, found: Assessment) -> Status:
    # a loop that wanders along an open direction may find no way down any more, or no end
    wandering = (Status.CONVERGED, Status.STALLED, Status.MAX_PASSES)
    if state.status in wandering and found.undetermined:
        return Status.NOT_IDENTIFIABLE
    assert state.status is not None
    return state.status


def _message(status: Status, found: Assessment) -> str:
    open_ones = ", ".join(found.undetermined)
    return status.advice + (f" Undetermined: {open_ones}." if open_ones else "")


def _memory(outcome: Outcome) -> Memory:
    decision, monitor = outcome.request.decision, outcome.monitor
    full = decision.strategy == "stratified_ls"
    predicted = (
        estimate_peak_memory_gb(decision.n_points, decision.n_params)
        if full
        else streaming_peak_gb(decision.block_points)
    )
    seconds, gb = monitor.series()
    return Memory(
        detect_total_system_memory(), decision.threshold_gb, predicted, float(gb.max()), float(gb[0]), seconds, gb
    )


def _warnings(outcome: Outcome, chi2_reduced: float, at_bound: np.ndarray, method: str) -> list[str]:
    request, theta = outcome.request, outcome.state.theta
    texts = []
    for p, x, flag in zip(request.parameters, theta, at_bound, strict=True):
        if flag:
            side = "lower" if x <= p.lower else "upper"
            texts.append(
                f"{p.name} = {x:g} sits at its {side} bound; its error is not defined. Widen bounds or fix it."
            )
    source = request.source
    geometry = request.model.geometry(float(source.phi[0]), source.q, source.gap, source.dt)
    for name, values in request.model.rate_curves(theta, source.t, geometry).items():
        if values.min() < 0 < values.max():
            when = float(source.t[np.flatnonzero(np.diff(np.sign(values)))[0]])
            texts.append(f"{name}(t) changes its sign near t = {when:g} s.")
    refuted = shared_scaling_refuted(outcome)
    return texts + (refuted or (_excess_noise(outcome, chi2_reduced) if method == "iid" else []))


def _excess_noise(outcome: Outcome, chi2_reduced: float) -> list[str]:
    """A sentence where residuals exceed the noise that was estimated from differences of neighbors."""
    estimated = str(getattr(outcome.request.source, "sigma_source", "")).startswith("estimated")
    if not estimated or chi2_reduced < _EXCESS:
        return []
    return [
        f"chi2/N = {chi2_reduced:.3g} although sigma was estimated from the data: points share noise, as pairs with a "
        "common frame do, or the model misses something (look at the residual maps). The errors assume independent "
        "points and are too small."
    ]


def shared_scaling_refuted(outcome: Outcome) -> list[str]:
    """Compare the chosen scaling with a free pair per angle, from the sums of the last pass; no data is read.

    For independent noise the drop in chi2 follows a chi2 distribution with as many degrees of freedom as parameters
    were saved; ``refuted`` means a probability below 0.1 %.
    """
    at, n_phi = outcome.state.at, len(outcome.request.source.phi)
    saved = 2 * n_phi - outcome.scaling.n_free
    if outcome.request.scaling not in ("auto", "fourier") or saved <= 0:
        return []
    phi = np.asarray(outcome.request.source.phi)
    sigma = np.asarray(outcome.request.source.sigma, dtype=float)
    free = linearize(at.sums, make_scaling("individual", phi), sigma)
    noise = 2 * free.cost / max(1.0, at.counts.sum())
    drop = (at.chi2.sum() - free.chi2.sum()) / noise
    limit = chdtri(saved, _REFUTED_LEVEL)  # the value that chi2 exceeds with that probability
    if drop <= limit:
        return []
    worst = np.argsort(free.chi2 - at.chi2)[:3]
    spread = float(np.ptp(free.scaling[:, 0]) / max(abs(free.scaling[:, 0].mean()), 1e-30))
    return [
        f"The {outcome.request.scaling} scaling is refuted by the data: a free contrast and offset per angle lowers chi2 by "
        f"{drop:.4g} for {saved} parameters (limit {limit:.4g}); contrasts differ by {100 * spread:.0f} %, most at "
        f"phi = {', '.join(f'{phi[k]:g}' for k in worst)} deg. Physical parameters are biased: use scaling=individual."
    ]


def subset_residuals(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Residuals on the subset's frames at the solution, NaN where nothing was fitted, and 1 / sigma; (n_phi, m, m)."""
    request, state, held = outcome.request, outcome.state, outcome.held
    assert held.held is not None
    sides = all_sides(request.model, state.theta, held)
    r = np.asarray(residuals(request.model, sides, jnp.asarray(held.held), jnp.asarray(state.at.scaling)))
    if held.held_sigma is None:
        weight = np.broadcast_to(inverse_sigma(np.asarray(request.source.sigma, dtype=float))[:, None, None], r.shape)
    else:
        weight = inverse_sigma(held.held_sigma)
    upper = np.triu(np.ones((held.n_frames, held.n_frames), dtype=bool), request.min_lag)
    return np.where(upper & np.isfinite(held.held) & (weight > 0), r, np.nan), weight


def subset_signal(outcome: Outcome, theta: np.ndarray) -> np.ndarray | None:
    """s on the subset's frames, (n_phi, m, m), at another theta; None outside the bounds or where a rate has the wrong sign."""
    request, held = outcome.request, outcome.held
    inside = all(p.lower <= x <= p.upper for p, x in zip(request.parameters, theta, strict=True))
    if not (inside and request.is_feasible(theta)):
        return None
    sides = all_sides(request.model, theta, held)
    nothing = jnp.zeros((held.n_phi, held.n_frames, held.n_frames))
    return np.asarray(residuals(request.model, sides, nothing, jnp.tile(jnp.array([-1.0, 0.0]), (held.n_phi, 1))))


def residual_histogram(residual: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Histogram of (c2 - model) / sigma over the subset's pairs: (edges, counts)."""
    z = (residual * weight)[np.isfinite(residual)]
    return _HISTOGRAM_EDGES, np.histogram(np.clip(z, -6, 6), _HISTOGRAM_EDGES)[0].astype(float)


def _provenance(request: Request) -> dict:
    packages = ("homodyne", "jax", "jaxlib", "numpy", "scipy", "xarray")
    fingerprint = getattr(request.source, "fingerprint", None)
    return {
        "dataset": fingerprint() if fingerprint else {},
        "options": dataclasses.asdict(request.options),
        "min_lag": request.min_lag,
        "bounds": {p.name: [p.lower, p.upper] for p in request.parameters},
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "git_commit": commit(),
    }
