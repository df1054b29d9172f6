"""Where the passes over all points begin: optima that a strategy finds on a subset held in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from homodyne.optimization.nlsq.checkpoint import Beginning, Contender
from homodyne.optimization.nlsq.problem import evaluator, least_squares_evaluator, problem
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.nlsq.stratified_ls import full_batch_pass
from homodyne.optimization.normal import Linearization
from homodyne.optimization.scaling import make_scaling
from homodyne.optimization.search import Landscape, Optimum, search
from homodyne.optimization.search.base import UNDECIDED
from homodyne.optimization.search.coarse import CoarseCost, small_view
from homodyne.optimization.search.local import given_origin
from homodyne.optimization.source import View
from homodyne.optimization.trust_region import Info, State, Tolerances, minimize
from homodyne.parameters import unpack
from homodyne.result import Status

log = logging.getLogger("homodyne")

_SUBSET_POINTS = 300_000
# Of a search: passes that tell basins apart, on the coarse frames and on the subset.
_DESCENT, _SEARCH = Tolerances(xtol=1e-1, max_passes=40), Tolerances(xtol=1e-1, max_passes=20)
_WARM_UP = Tolerances(xtol=1e-2, max_passes=60)
# Distance between optima, in (iid) standard errors, below which they are one.
_APART = 5.0
# Constant scaling is what the warm-up found: it must not depend on the path there.
_EXACT = Tolerances(xtol=1e-7, max_passes=100)


def subset_size(request: Request) -> int:
    """Frames of the warm-up subset: few enough that many passes over it cost less than one over all points."""
    by_points = int((2 * _SUBSET_POINTS / len(request.source.phi)) ** 0.5)
    return max(16, min(request.options.subset_frames, by_points))


def find_beginning(request: Request, held: View) -> Beginning:
    """Find optima on the subset, contrast and offset free at every angle: where the passes begin, not a result.

    The search is by least squares, which needs no contrast and offset to begin with; a robust fit goes on from there.
    """
    evaluate = _individual(request, held)
    landscape = _landscape(request, held, evaluate)
    state = search(request.strategy, landscape)
    if len(state.found) > 1 or not state.best.origin.startswith(("given", "defaults")):
        named = ", ".join(f"{n}={v:.4g}" for n, v in unpack(state.best.theta, request.parameters).items())
        log.info("Start %s: %s", state.best.origin, named)
    tolerances = _EXACT if request.scaling == "constant" else _WARM_UP
    infos: list[Info] = []
    contenders: list[Contender] = []
    warmed: list[State] = []
    for optimum in landscape.contenders(state.found):
        warm = _on_subset(request, evaluate, optimum.theta, infos.append, 1e-3, tolerances)
        if not _still_undecided(warm, warmed):
            continue
        warmed.append(warm)
        if request.options.robust is not None:
            warm = _robust(request, held, warm, infos.append, tolerances)
        given = landscape.given if optimum.origin == given_origin(landscape) else None
        start = optimum.theta if given is None else given
        contenders.append(Contender(start, optimum.origin, warm.theta, warm.at.scaling))
    return Beginning(tuple(contenders), state.found, infos[0].points, tuple(infos))


def _landscape(request: Request, held: View, evaluate: Callable[[np.ndarray], Linearization]) -> Landscape:
    """The subset as strategies see it."""
    coarse = CoarseCost(request.model, held, request.feasible)

    coarse_fit = _individual(request, small_view(held))

    def warm(theta: np.ndarray) -> np.ndarray:
        if request.warm_up is None:
            return theta
        return request.warm_up.run(coarse, request.parameters, request.free, theta)

    def descend(theta: np.ndarray) -> tuple[np.ndarray, float]:
        state = _on_subset(request, coarse_fit, warm(theta), _ignore, 1e-2, _DESCENT)
        return state.theta, state.at.cost

    def refine(theta: np.ndarray, origin: str) -> Optimum:
        state = _on_subset(request, evaluate, theta, _ignore, 1e-2, _SEARCH)
        return Optimum(state.theta, state.at.cost, origin)

    return Landscape(
        request.parameters, request.start, request.fixed, coarse, request.feasible, warm, descend, refine,
        lambda theta: evaluate(theta).cost,
    )  # fmt: skip


def _still_undecided(state: State, others: list[State]) -> bool:
    """Whether a converged fit of the subset is another optimum than those before it, and none of them is clearly better."""

    def apart(other: State) -> float:
        noise = (2 * other.at.cost / max(1.0, float(other.at.counts.sum()))) ** 0.5
        return float(np.linalg.norm(other.at.jacobian @ (state.theta - other.theta)) / max(noise, 1e-300))

    return all(apart(other) > _APART and state.at.cost <= other.at.cost * (1 + UNDECIDED) for other in others)


def _on_subset(
    request: Request,
    evaluate: Callable[..., Linearization],
    theta: np.ndarray,
    report: Callable[[Info], None],
    damping: float,
    tolerances: Tolerances,
) -> State:
    """A fit of the subset. Ctrl-C is passed on: there is no result before the first pass over all points."""
    state = minimize(problem(request, evaluate), theta, tolerances, report, damping)
    if state.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return state


def _individual(request: Request, view: View) -> Callable[[np.ndarray], Linearization]:
    phi = np.asarray(request.source.phi)
    reference = np.tile([0.0, 1.0], (len(phi), 1))
    run_pass = full_batch_pass(request.model, view, request.min_lag, precise=False)
    return least_squares_evaluator(request, run_pass, make_scaling("individual", phi), reference)


def _robust(request: Request, view: View, warm: State, report: Callable[[Info], None], tolerances: Tolerances) -> State:
    """The warm-up fit goes on with the loss of the request."""
    run_pass = full_batch_pass(request.model, view, request.min_lag, precise=False, loss=request.options.robust)
    mapping = make_scaling("individual", np.asarray(request.source.phi))
    evaluate = evaluator(request, run_pass, mapping, warm.at.scaling)
    return _on_subset(request, evaluate, warm.theta, report, 1e-3, tolerances)


def _ignore(info: Info) -> None:
    """Passes over a few frames are not worth a line."""
