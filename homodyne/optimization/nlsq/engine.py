"""One fit from data to result: a warm-up on a subset, exact passes over everything, errors, record."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from homodyne.files import require_writable
from homodyne.optimization.nlsq.beginning import find_beginning, subset_size
from homodyne.optimization.nlsq.bend import Frames
from homodyne.optimization.nlsq.block_pass import block_pass
from homodyne.optimization.nlsq.checkpoint import Contender, Journal, PassFunction, open_journal
from homodyne.optimization.nlsq.distributed import opener_of
from homodyne.optimization.nlsq.identity import identity
from homodyne.optimization.nlsq.memory import MemoryMonitor, release_free_memory
from homodyne.optimization.nlsq.problem import checked, evaluator, problem
from homodyne.optimization.nlsq.progress import Progress
from homodyne.optimization.nlsq.report import History, Outcome, build_result
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.nlsq.select import announce
from homodyne.optimization.nlsq.stratified_ls import full_batch_pass
from homodyne.optimization.normal import PassSums
from homodyne.optimization.scaling import Scaling, make_scaling
from homodyne.optimization.source import View, all_frames, subset
from homodyne.optimization.trust_region import Info, State, Tolerances, minimize
from homodyne.optimization.whitened.finish import weighted
from homodyne.result import FitResult, Status

log = logging.getLogger("homodyne")

# Passes after which an optimum that is no better than the first one is given up.
_CHALLENGE = 10
# Of passes in single precision, see ``stages``: standard errors, and the relative rounding of the cost, measured 1e-9.
_SINGLE_XTOL, _SINGLE_ROUNDING, _LAST_XTOL = 0.5, 1e-7, 1e-2


def solve(request: Request, checkpoint: str | os.PathLike[str] | None) -> FitResult:
    """Run one fit; ``checkpoint`` is the folder of ``homodyne.fit``."""
    began = time.perf_counter()
    options = request.options
    folder = None if checkpoint is None else require_writable(Path(checkpoint), "checkpoint")
    announce(request.decision, len(request.source.phi))
    if options.precision != "float64" and request.decision.passes == "stratified_ls":
        log.info("precision=%s is for streamed passes; stratified_ls sums in float64", options.precision)
    history = History()
    if request.cluster is not None:
        opener_of(request.source)  # raises where no other process could read the data
        request.cluster.tell()
    with MemoryMonitor() as monitor, ThreadPoolExecutor(1) as aside:
        held = subset(request.source, subset_size(request))
        _ = request.source.sigma  # may read: files are read by one thread at a time
        # what passes over all points need is read and compiled while the start is found
        whole = Whole(request, aside)
        journal = Journal() if folder is None else open_journal(folder, identity(request, held))
        beginning = journal.begin(lambda: find_beginning(request, held))
        for info in beginning.passes:
            history.add("subset", info)
        n, mapping, state = compete(request, held, beginning.contenders, journal, history, whole)
        outcome = Outcome(request, state, mapping, beginning, n, held, history, monitor)
        result = (
            assessed(outcome) if request.weighting == "uniform" else weighted(outcome, assessed, whole.run_pass(-1))
        )
    if state.status is not Status.INTERRUPTED:
        journal.remove()
    _tell(result, history.count_full(), time.perf_counter() - began)
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


def compete(
    request: Request, held: View, contenders: Sequence[Contender], journal: Journal, history: History, whole: Whole
) -> tuple[int, Scaling, State]:
    """Minimize over all points from every contender; the number, scaling and state of the one that ends lowest."""
    ended: list[tuple[int, Scaling, State]] = []
    for n, contender in enumerate(contenders):
        if n:
            log.info(
                "Optimum %d of %d, which was nearly as good on the subset: %s", n + 1, len(contenders), contender.origin
            )
        mapping = final_scaling(request, contender.scaling)
        robust = request.options.robust is not None  # whose steps move contrast and offset as well
        frames = None if robust else Frames(request.model, held, mapping, request.is_feasible, request.min_lag)
        stage = "full" if n == 0 else f"full_{n + 1}"
        best = min((state.at.cost for _, _, state in ended), default=np.inf)
        try:
            limit = request.options.max_passes if n == 0 else min(_CHALLENGE, request.options.max_passes)
            state = minimize_all(request, frames, contender, mapping, journal, history, whole, stage, limit)
            if n and state.status is Status.MAX_PASSES and state.at.cost < best:
                again = dataclasses.replace(contender, theta=state.theta)
                state = minimize_all(
                    request, frames, again, mapping, journal, history, whole, stage, request.options.max_passes
                )
        except KeyboardInterrupt:
            if not ended:  # there is no result before the first pass is finished
                raise
            break
        ended.append((n, mapping, state))
        if state.status is Status.INTERRUPTED:
            break
    return min(ended, key=lambda one: one[2].at.cost)


def minimize_all(
    request: Request,
    frames: Frames | None,
    contender: Contender,
    mapping: Scaling,
    journal: Journal,
    history: History,
    whole: Whole,
    stage_name: str,
    max_passes: int,
) -> State:
    """Minimize over all points, with a line in the log for every pass; passes found in the journal are not repeated."""
    before = history.count(stage_name)
    theta, used, state, progress = contender.theta, 0, None, whole.progress
    for n, stage in enumerate(whole.stages):
        tolerances = dataclasses.replace(stage.tolerances, max_passes=max(1, max_passes - used))
        progress.enter(tolerances, stage.after, stage.note)
        run_pass = journal.recorded(whole.run_pass(n))
        evaluate = checked(request, mapping, evaluator(request, run_pass, mapping, contender.scaling))

        def report(info: Info) -> None:
            stored = journal.replayed
            if stored is not None:
                info = dataclasses.replace(info, seconds=stored.seconds)
            history.add(stage_name, info, stored is not None)
            progress.end(info, stored is not None)

        try:
            state = minimize(problem(request, evaluate, frames), theta, tolerances, report, damping=0.0)
        except KeyboardInterrupt:
            if state is None:  # there is no result before the first pass is finished
                raise
            state = dataclasses.replace(state, status=Status.INTERRUPTED)
        theta, used = state.theta, history.count(stage_name) - before
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
    if request.options.precision == "float64" or request.decision.passes == "stratified_ls":
        return (Stage("float64", Tolerances(xtol)),)
    single = Tolerances(_SINGLE_XTOL, rounding=_SINGLE_ROUNDING)
    double = Tolerances(max(xtol, _LAST_XTOL))
    return Stage("float32", single, 1, " in float32"), Stage("float64", double, 0, " in float64")


def passes(request: Request, view: View, progress: Progress, precision: str) -> PassFunction:
    """The strategy's way to sum over a view, ready to run: read, where it holds the points, and compiled."""
    if request.decision.passes == "stratified_ls":
        run_pass = full_batch_pass(request.model, view, request.min_lag, loss=request.options.robust)
    else:
        run_pass = block_pass(request, view, progress.advance, precision, request.options.robust)

    def watched(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        progress.begin()
        return run_pass(theta, reference)

    return watched


def final_scaling(request: Request, pairs: np.ndarray) -> Scaling:
    """The scaling of the final fit; ``constant`` takes the values the warm-up found angle by angle."""
    return make_scaling(request.scaling, request.source.phi, request.options.fourier_order, pairs, request.source.q)
