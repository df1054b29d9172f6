"""One fit from data to result: a warm-up on a subset, exact passes over everything, errors, record."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from homodyne.files import require_writable
from homodyne.models import Model
from homodyne.optimization.nlsq.checkpoint import Beginning, Journal, PassFunction, open_journal
from homodyne.optimization.nlsq.hybrid_streaming import streamed_pass
from homodyne.optimization.nlsq.identity import identity
from homodyne.optimization.nlsq.memory import MemoryMonitor, release_free_memory
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.progress import Progress
from homodyne.optimization.nlsq.report import History, Outcome, build_result
from homodyne.optimization.nlsq.request import Request, check_counts, check_request, check_start, infeasible
from homodyne.optimization.nlsq.select import announce
from homodyne.optimization.nlsq.stratified_ls import full_batch_pass
from homodyne.optimization.normal import Linearization, PassSums, linearize
from homodyne.optimization.scaling import Scaling, make_scaling
from homodyne.optimization.source import BlockSource, View, all_frames, subset
from homodyne.optimization.start import candidates, rank, small_view
from homodyne.optimization.trust_region import Info, Problem, State, Tolerances, minimize
from homodyne.parameters import Parameter, pack, unpack
from homodyne.result import FitResult, Status

log = logging.getLogger("homodyne")

# The cost has several basins in phi0, and the best of a thousand points need not lie in the deepest: on files with four
# angles three of them missed it, four found it. Twenty passes over the subset tell the basins apart.
_REFINED_STARTS = 8
_SEARCH = Tolerances(xtol=1e-1, max_passes=20)
_SUBSET_POINTS = 300_000
_WARM_UP = Tolerances(xtol=1e-2, max_passes=60)
# Of passes in single precision, see ``stages``: standard errors, and the relative rounding of the cost, measured 1e-9.
_SINGLE_XTOL, _SINGLE_ROUNDING, _LAST_XTOL = 0.5, 1e-7, 1e-2


def solve(
    source: BlockSource,
    model: Model,
    *,
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
    checkpoint: str | os.PathLike[str] | None,
) -> FitResult:
    """Run one fit; the arguments are those of ``homodyne.fit``."""
    began = time.perf_counter()
    request = check_request(
        source, model, scaling, strategy, start, fixed, bounds, covariance, counts, pixels, min_lag, options
    )
    folder = None if checkpoint is None else require_writable(Path(checkpoint), "checkpoint")
    announce(request.decision)
    if options.precision != "float64" and request.decision.strategy == "stratified_ls":
        log.info("precision=%s is for streamed passes; stratified_ls sums in float64", options.precision)
    history = History()
    with MemoryMonitor() as monitor, ThreadPoolExecutor(1) as aside:
        held = subset(source, subset_size(request))
        _ = request.source.sigma  # may read: files are read by one thread at a time
        # what passes over all points need is read and compiled while the start is found
        whole = Whole(request, aside)
        journal = Journal() if folder is None else open_journal(folder, identity(request, held))
        beginning = journal.begin(lambda: find_beginning(request, held))
        for info in beginning.passes:
            history.add("subset", info)
        mapping = final_scaling(request, beginning.scaling)
        state = minimize_all(request, beginning, mapping, journal, history, whole)
        named = unpack(beginning.start, request.parameters)
        result = assessed(Outcome(request, state, mapping, named, beginning.origin, held, history, monitor))
    if state.status is not Status.INTERRUPTED:
        journal.remove()
    _tell(result, history.count("full"), time.perf_counter() - began)
    return result


def assessed(outcome: Outcome) -> FitResult:
    """The result with its errors; Ctrl-C while they are computed leaves the fit, with iid errors."""
    request = outcome.request
    if request.covariance == "speckle":
        log.info("Errors from the noise of speckle, %d angles", len(request.source.phi))
    try:
        return build_result(outcome)
    except KeyboardInterrupt:
        log.warning("Interrupted while errors were computed: the fit stays, with iid errors, which are too small")
        return build_result(dataclasses.replace(outcome, request=dataclasses.replace(request, covariance="iid")))


def _tell(result: FitResult, n_passes: int, seconds: float) -> None:
    log.info(
        "%s after %d passes over %d points in %.1f s: chi2/N = %.4f, peak memory %.2f GB",
        result.status.value, n_passes, result.n_points, seconds, result.chi2_reduced, result.memory.measured_peak_gb,
    )  # fmt: skip
    for text in result.warnings:
        log.warning("%s", text)


class Whole:
    """Passes over all points, prepared in a thread of their own, and their progress."""

    def __init__(self, request: Request, aside: ThreadPoolExecutor) -> None:
        self.stages = stages(request)
        self.progress = Progress(request.n_points, self.stages[0].tolerances)
        view = all_frames(request.source)
        self._ready: dict[int, PassFunction] = {}
        self._prepared = [aside.submit(passes, request, view, self.progress, s.precision) for s in self.stages]

    def run_pass(self, n: int) -> PassFunction:
        """The pass function of a stage, when it is ready."""

        def run(theta: np.ndarray, reference: np.ndarray) -> PassSums:
            if (ready := self._ready.get(n)) is None:
                ready = self._ready[n] = self._prepared[n].result()
                release_free_memory()
            return ready(theta, reference)

        return run


def minimize_all(
    request: Request, beginning: Beginning, mapping: Scaling, journal: Journal, history: History, whole: Whole
) -> State:
    """Minimize over all points, with a line in the log for every pass; passes found in the journal are not repeated."""
    theta, used, state, progress = beginning.theta, 0, None, whole.progress
    for n, stage in enumerate(whole.stages):
        tolerances = dataclasses.replace(stage.tolerances, max_passes=max(1, request.options.max_passes - used))
        progress.enter(tolerances, stage.after, stage.note)
        run_pass = journal.recorded(whole.run_pass(n))
        evaluate = checked(request, mapping, evaluator(request, run_pass, mapping, beginning.scaling))

        def report(info: Info) -> None:
            stored = journal.replayed
            if stored is not None:
                info = dataclasses.replace(info, seconds=stored.seconds)
            history.add("full", info, stored is not None)
            progress.end(info, stored is not None)

        try:
            state = minimize(problem(request, evaluate), theta, tolerances, report, damping=0.0)
        except KeyboardInterrupt:
            if state is None:  # there is no result before the first pass is finished
                raise
            state = dataclasses.replace(state, status=Status.INTERRUPTED)
        theta, used = state.theta, history.count("full")
        if state.status is Status.INTERRUPTED:
            journal.keep()
            break
    assert state is not None
    return state


@dataclasses.dataclass(frozen=True)
class Stage:
    """Passes of one precision, when they end, and how many are expected after them; ``note`` marks them in the log."""

    precision: str
    tolerances: Tolerances
    after: int = 0
    note: str = ""


def stages(request: Request) -> tuple[Stage, ...]:
    """Double precision to the end; with ``precision=float32``, single precision first.

    Single precision ends once its step, which is still taken, is below half a standard error: the step after it is a
    thousandth of that. The passes in double precision then end below a hundredth.
    """
    xtol = request.options.xtol
    if request.options.precision == "float64" or request.decision.strategy == "stratified_ls":
        return (Stage("float64", Tolerances(xtol)),)
    single = Tolerances(_SINGLE_XTOL, rounding=_SINGLE_ROUNDING)
    double = Tolerances(max(xtol, _LAST_XTOL))
    return Stage("float32", single, 1, " in float32"), Stage("float64", double, 0, " in float64")


def subset_size(request: Request) -> int:
    """Frames of the warm-up subset: few enough that many passes over it cost less than one over all points."""
    by_points = int((2 * _SUBSET_POINTS / len(request.source.phi)) ** 0.5)
    return max(16, min(request.options.subset_frames, by_points))


def passes(request: Request, view: View, progress: Progress, precision: str) -> PassFunction:
    """The strategy's way to sum over a view, ready to run: read, where it holds the points, and compiled."""
    if request.decision.strategy == "stratified_ls":
        run_pass = full_batch_pass(request.model, view, request.min_lag)
    else:
        block_points = request.decision.block_points
        run_pass = streamed_pass(request.model, view, request.min_lag, block_points, progress.advance, precision)

    def watched(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        progress.begin()
        return run_pass(theta, reference)

    return watched


def evaluator(
    request: Request, run_pass: PassFunction, mapping: Scaling, reference: np.ndarray
) -> Callable[[np.ndarray], Linearization]:
    """theta -> reduced problem; residuals are formed against ``reference``, (n_phi, 2) contrast and offset."""
    sigma = np.asarray(request.source.sigma, dtype=float)
    return lambda theta: linearize(run_pass(theta, reference), mapping, sigma)


def checked(
    request: Request, mapping: Scaling, evaluate: Callable[[np.ndarray], Linearization]
) -> Callable[[np.ndarray], Linearization]:
    """The same evaluation; raises InputError when the valid points of a pass cannot carry the fit."""

    def evaluate_checked(theta: np.ndarray) -> Linearization:
        at = evaluate(theta)
        check_counts(request, mapping.n_free, at.counts)
        return at

    return evaluate_checked


def problem(request: Request, evaluate: Callable[[np.ndarray], Linearization]) -> Problem:
    """The bounded minimization of the request with a given evaluation."""
    parameters = request.parameters
    return Problem(
        evaluate=evaluate,
        feasible=request.is_feasible,
        lower=np.array([p.lower for p in parameters]),
        upper=np.array([p.upper for p in parameters]),
        free=request.free,
    )


def final_scaling(request: Request, pairs: np.ndarray) -> Scaling:
    """The scaling of the final fit; ``constant`` takes the values the warm-up found angle by angle."""
    return make_scaling(request.scaling, np.asarray(request.source.phi), request.options.fourier_order, pairs)


def find_start(request: Request, held: View) -> tuple[np.ndarray, str]:
    """Where to begin: the user's values; whatever is missing is found on a few frames of the data."""
    known = {**request.start, **request.fixed}
    missing = [p for p in request.parameters if p.name not in known]
    if not any(p.search for p in missing):
        theta = pack({p.name: known.get(p.name, p.start) for p in request.parameters}, request.parameters)
        check_start(request, theta)
        return theta, _origin(request, missing)
    points = candidates(request.parameters, known)
    points = points[request.feasible(points)]
    if not len(points):
        raise infeasible(known)
    ranked = rank(request.model, small_view(held), points)
    evaluate = _individual(request, held)
    best = min(
        (_on_subset(request, evaluate, x, _ignore, 1e-2, _SEARCH) for x in ranked[:_REFINED_STARTS]),
        key=lambda state: state.at.cost,
    )
    source = "found from the data" if not request.start else "given by the user, the rest found from the data"
    log.info(
        "Start %s: %s", source, ", ".join(f"{n}={v:.4g}" for n, v in unpack(best.theta, request.parameters).items())
    )
    return best.theta, source


def _origin(request: Request, missing: Sequence[Parameter]) -> str:
    """Where a start comes from that was not looked for in the data."""
    defaults = f"defaults of the model for {', '.join(p.name for p in missing)}" if missing else ""
    given = "given by the user" if request.start or request.fixed else ""
    return ", ".join(text for text in (given, defaults) if text)


def find_beginning(request: Request, held: View) -> Beginning:
    """Find a start and fit the subset, contrast and offset free at every angle: where the passes begin, not a result."""
    theta, origin = find_start(request, held)
    infos: list[Info] = []
    warm = _on_subset(request, _individual(request, held), theta, infos.append, 1e-3, _WARM_UP)
    return Beginning(theta, origin, warm.theta, warm.at.scaling, tuple(infos))


def _on_subset(
    request: Request,
    evaluate: Callable[[np.ndarray], Linearization],
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
    return evaluator(request, run_pass, make_scaling("individual", phi), reference)


def _ignore(info: Info) -> None:
    """Passes over a few frames are not worth a line."""
