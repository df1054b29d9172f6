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
from homodyne.models import reference_q
from homodyne.optimization.dense import residuals
from homodyne.optimization.nlsq.checkpoint import Beginning
from homodyne.optimization.nlsq.memory import MemoryMonitor, detect_total_system_memory
from homodyne.optimization.nlsq.repeated import repeated_passes
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.nlsq.select import predicted_peak_gb
from homodyne.optimization.nlsq.stratified_ls import all_sides, inverse_sigma, signal
from homodyne.optimization.normal import Linearization, freed
from homodyne.optimization.scaling import Scaling, make_scaling
from homodyne.optimization.search.base import settings
from homodyne.optimization.source import View, sector_geometry, sector_names, sector_q
from homodyne.optimization.trust_region import Info, State
from homodyne.optimization.uncertainty.assess import Assessment, assess
from homodyne.optimization.uncertainty.fitted import Fitted, Whitened
from homodyne.optimization.uncertainty.robust import Robust, scatter
from homodyne.parameters import unpack
from homodyne.result import HISTORY_VARIABLES, Decision, FitResult, Memory, Status

_REFUTED_LEVEL = 1e-3
_EXCESS = 1.2  # chi2/N; the estimate of sigma itself scatters by a percent
_HISTOGRAM_EDGES = np.linspace(-6.0, 6.0, 122)


class History:
    """Rows of the record, one a pass."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, Info, bool]] = []

    def add(self, stage: str, info: Info, from_checkpoint: bool = False) -> None:
        """Record a pass of ``stage``: subset, full, or full_N for the N-th of several optima."""
        self._rows.append((stage, info, from_checkpoint))

    def count(self, stage: str) -> int:
        """Passes of a stage so far."""
        return sum(row[0] == stage for row in self._rows)

    def count_full(self) -> int:
        """Passes over all points so far, of all contenders."""
        return sum(row[0].startswith("full") for row in self._rows)

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
    """A finished minimization with everything the record needs; ``contender`` is the one that ended lowest.

    ``whitened``: the state is where these sums end, with the sums of uniform weights there.
    """

    request: Request
    state: State
    scaling: Scaling
    beginning: Beginning
    contender: int
    held: View
    history: History
    monitor: MemoryMonitor
    whitened: Whitened | None = None


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
    loss = request.options.robust
    unit = chi2_reduced if loss is None else at.variance * n_points / max(1, n_points - n_parameters)
    found = assess(
        Fitted(
            request.source, request.model, parameters, state.theta, at, outcome.scaling, moved, unit,
            request.min_lag, request.covariance, request.counts, request.pixels, request.free,
            state.status is Status.CONVERGED, state.status is Status.BORDER,
            None if loss is None else Robust(loss, scatter(residual * weight)), _repeated(outcome), outcome.whitened,
        ),
        residual if loss is None else residual * np.asarray(loss.weights(np.nan_to_num(residual * weight))[0]),
        outcome.held.frames,
        lambda theta: subset_signal(outcome, theta),
    )  # fmt: skip
    status, decision = _status(state, found), _decision(request, outcome.beginning)
    names = [p.name for p in parameters]
    return FitResult(
        model=request.model.name,
        convention=request.model.convention,
        scaling=request.scaling,
        strategy=decision.strategy,
        optima=optima(request, outcome.beginning),
        parameters=parameters,
        theta=unpack(state.theta, parameters),
        uncertainties=found.uncertainties,
        covariance_method=found.method,
        undetermined=found.undetermined,
        at_bound=dict(zip(names, at_bound.tolist(), strict=True)),
        fixed=request.fixed,
        start=unpack(outcome.beginning.contenders[outcome.contender].start, parameters),
        start_source=outcome.beginning.contenders[outcome.contender].origin,
        phi=np.asarray(request.source.phi, dtype=float),
        q=sector_q(request.source),
        q_ref=reference_q(request.source.q),
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
        decision=decision,
        residual_histogram=residual_histogram(residual, weight),
        findings=found.findings,
        warnings=(*_warnings(outcome, chi2_reduced, at_bound, found.method), *found.warnings),
        provenance=_provenance(request)
        | ({} if loss is None else {"loss": {**dataclasses.asdict(loss), "unit": unit}}),
    )


def _repeated(outcome: Outcome) -> tuple[Linearization, ...]:
    """A pass over every repetition, where c2 is the mean of some; none after Ctrl-C."""
    request, state = outcome.request, outcome.state
    if outcome.whitened is not None:
        return outcome.whitened.repeated
    if state.status is Status.INTERRUPTED:
        return ()
    return repeated_passes(request, state.theta, outcome.scaling, state.at.scaling)


def _decision(request: Request, beginning: Beginning) -> Decision:
    """What ran: the automatic choice may have called for CMA-ES only after local fits had disagreed."""
    decision = request.decision
    if not any(optimum.origin.startswith("CMA-ES") for optimum in beginning.found) or "cmaes" in decision.strategy:
        return decision
    reason = f"{decision.reason}; local fits disagreed, and CMA-ES looked for a better optimum"
    return dataclasses.replace(decision, strategy="cmaes_nlsq", reason=reason)


def optima(request: Request, beginning: Beginning) -> xr.Dataset:
    """Every local optimum that was found on the subset, best first: where, how good, and how it was found."""
    found = sorted(beginning.found, key=lambda optimum: optimum.cost)
    chi2 = np.array([2 * optimum.cost for optimum in found]) / max(1, beginning.points)
    return xr.Dataset(
        {
            "theta": (("optimum", "parameter"), np.array([optimum.theta for optimum in found])),
            "chi2": ("optimum", chi2, {"description": "chi2 per point on the subset"}),
            "origin": ("optimum", [optimum.origin for optimum in found]),
        },
        coords={"parameter": [p.name for p in request.parameters]},
    )


def _status(state: State, found: Assessment) -> Status:
    # a loop that wanders along an open direction may find no way down any more, or no end
    wandering = (Status.CONVERGED, Status.STALLED, Status.MAX_PASSES, Status.FLAT)
    if state.status in wandering and found.undetermined:
        return Status.NOT_IDENTIFIABLE
    assert state.status is not None
    return state.status


def _message(status: Status, found: Assessment) -> str:
    open_ones = ", ".join(found.undetermined)
    return status.advice + (f" Undetermined: {open_ones}." if open_ones else "")


def _memory(outcome: Outcome) -> Memory:
    decision, monitor = outcome.request.decision, outcome.monitor
    predicted = predicted_peak_gb(decision)
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
    geometry = sector_geometry(request.model, source)
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
    n_phi = len(outcome.request.source.phi)
    at = outcome.state.at if outcome.whitened is None else outcome.whitened.at
    saved = 2 * n_phi - outcome.scaling.n_free
    if outcome.request.scaling not in ("auto", "fourier") or saved <= 0:
        return []
    phi = np.asarray(outcome.request.source.phi)
    sigma = np.asarray(outcome.request.source.sigma, dtype=float) if outcome.whitened is None else np.ones(n_phi)
    chi2, pairs, noise = freed(at, make_scaling("individual", phi), sigma)
    drop = (at.chi2.sum() - chi2.sum()) / noise
    limit = chdtri(saved, _REFUTED_LEVEL)  # the value that chi2 exceeds with that probability
    if drop <= limit:
        return []
    worst = np.argsort(chi2 - at.chi2)[:3]
    spread = float(np.ptp(pairs[:, 0]) / max(abs(pairs[:, 0].mean()), 1e-30))
    return [
        f"The {outcome.request.scaling} scaling is refuted by the data: a free contrast and offset per angle lowers chi2 by "
        f"{drop:.4g} for {saved} parameters (limit {limit:.4g}); contrasts differ by {100 * spread:.0f} %, most at "
        f"phi = {', '.join(sector_names(outcome.request.source)[k] for k in worst)} deg. Physical parameters are biased: use scaling=individual."
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
    return signal(request.model, theta, held)


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
        "strategy": settings(request.strategy),
        "warm_up": None if request.warm_up is None else dataclasses.asdict(request.warm_up),
        "min_lag": request.min_lag,
        "bounds": {p.name: [p.lower, p.upper] for p in request.parameters},
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "git_commit": commit(),
        **({} if request.cluster is None else {"cluster": request.cluster.record()}),
    }
