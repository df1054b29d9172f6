"""Streaming: panels are read, reduced to per-angle moments and forgotten; memory does not grow with the data."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import BATCH_FRAMES, Side, can_factor, orthogonalized
from homodyne.optimization.loss import Loss
from homodyne.optimization.moments import Moments, Panel, accumulate
from homodyne.optimization.nlsq.partial import PartialSums
from homodyne.optimization.nlsq.stratified_ls import aligned, all_sides, inverse_sigma
from homodyne.optimization.normal import PassSums
from homodyne.optimization.plan import Plan, make_plan
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import View

Job = tuple[int, int, int]  # angle, first row, rows
_AHEAD = 2  # panels that are read before they are needed
_READ_ROWS = 512  # rows read in one go: whole panels take the same time, and more memory while they are read


def streamed_pass(
    model: Model,
    view: View,
    min_lag: int,
    block_points: int,
    advance: Callable[[int], None] | None = None,
    precision: str = "float64",
    loss: Loss | None = None,
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the streamed evaluation: one pass reads every panel once.

    Args:
        advance: called with the number of valid pairs of every panel, in order, as its sums are added.
        precision: float32 or float64, see ``moments.accumulate``. loss: None for least squares.

    Returns:
        ``evaluate(theta, reference) -> PassSums`` whose factors are square roots of the moments.
    """
    summation = Summation(model, view, min_lag, block_points, precision, loss)
    jobs = all_jobs(summation.plan, view.n_phi)

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        total = summation.over(jobs, theta, reference, advance)
        return total.of_all(model, as_summed(reference, precision))

    return evaluate


def all_jobs(plan: Plan, n_phi: int) -> list[Job]:
    """Every panel of every angle."""
    return [(k, row0, rows) for k in range(n_phi) for row0, rows in plan.panels]


def angles_at_a_time(view: View, plan: Plan) -> int:
    """Angles of a batch of channels."""
    return max(1, min(view.n_phi, BATCH_FRAMES // plan.width))


def as_summed(reference: np.ndarray, precision: str) -> np.ndarray:
    """The reference as the sums see it, to the last bit."""
    return reference.astype(precision).astype(float)


class Summation:
    """Sums over any panels of a view; compiled when it is made.

    One thread reads ahead, one thread a processor sums; XLA alone does not keep two processors busy with small tiles.
    Sums are added in the order of the panels, so that the result does not depend on which thread was faster.

    Args:
        sigma: noise of every angle, which only a robust loss needs; that of the view's source by default.
        angles: whose channels are evaluated at a time, see ``angles_at_a_time``; as many as fit by default.
    """

    def __init__(
        self,
        model: Model,
        view: View,
        min_lag: int,
        block_points: int,
        precision: str,
        loss: Loss | None,
        sigma: np.ndarray | None = None,
        angles: int | None = None,
    ) -> None:
        self.plan = plan_for(view, block_points)
        self._angles = angles or angles_at_a_time(view, self.plan)
        self._model, self._view, self._min_lag, self._precision, self._loss = model, view, min_lag, precision, loss
        self._panels = _Panels(view, self.plan)
        self._compiled: set[bool] = set()
        self._compiling = threading.Lock()
        self._sigma = None
        if loss is not None:
            self._sigma = np.asarray(view.source.sigma if sigma is None else sigma, dtype=float)
        # compiled by a panel without rows; nearly all parameters allow factors
        start = np.array([parameter.start for parameter in model.parameters])
        sides = self._channels(start, np.array([0])).of(0)[0]
        self._sums(self._panels.empty(), sides, True, jnp.zeros(2), 1.0)

    def over(
        self,
        jobs: Sequence[Job],
        theta: np.ndarray,
        reference: np.ndarray,
        advance: Callable[[int], None] | None = None,
        workers: int | None = None,
    ) -> PartialSums:
        """Sums of the panels ``jobs``, angles ascending, with residuals against ``reference``, (n_phi, 2).

        Args:
            workers: threads that sum; one a processor by default.
        """
        reference = as_summed(reference, self._precision)
        angles = np.unique([k for k, _, _ in jobs])
        channels = self._channels(theta, angles)

        def read(job: Job) -> tuple[Panel, Side, bool, jax.Array, float]:
            sides, place, factor = channels.of(job[0])
            noise = 1.0 if self._sigma is None else float(self._sigma[job[0]])
            return self._panels.read(job)._replace(k=place), sides, factor, jnp.asarray(reference[job[0]]), noise

        def reduce(panel: Panel, sides: Side, factor: bool, ref: jax.Array, noise: float) -> Moments:
            part = self._sums(panel, sides, factor, ref, noise)
            self._panels.give_back(panel)
            return part

        total = PartialSums.zero(self._model, angles, self._loss is not None)
        places = np.searchsorted(angles, [k for k, _, _ in jobs])
        with contextlib.closing(_pipeline(jobs, read, reduce, workers or n_workers())) as parts:
            for place, part in zip(places, parts, strict=True):
                count = float(part.count)
                total.gram[place] += np.asarray(part.gram)
                total.counts[place] += count
                if total.terms is not None:
                    total.terms[place] += np.asarray(part.terms)
                if advance is not None:
                    advance(int(count))
        return dataclasses.replace(total, upper=channels.upper())

    def _channels(self, theta: np.ndarray, angles: np.ndarray) -> ChannelBatches:
        return ChannelBatches(self._model, theta, self._view, self.plan, self._precision, angles, self._angles)

    def _sums(self, panel: Panel, sides: Side, factor: bool, ref: jax.Array, noise: float) -> Moments:
        # threads that meet code that is not compiled would each compile it
        with contextlib.nullcontext() if factor in self._compiled else self._compiling:
            part = accumulate(
                self._model,
                self.plan.shape,
                panel,
                sides,
                ref,
                self._min_lag,
                factor,
                self._precision,
                self._loss,
                noise,
            )
            self._compiled.add(factor)
        return jax.block_until_ready(part)


class ChannelBatches:
    """Channels on all frames, of a few angles at a time: for all angles of a large file they would be 100 MB.

    Batches are all of one size, so that one compilation serves them. The thread that reads evaluates them, ahead of
    those that sum.

    Args:
        angles: those that will be asked for, ascending. size: of a batch.
    """

    def __init__(
        self, model: Model, theta: np.ndarray, view: View, plan: Plan, precision: str, angles: np.ndarray, size: int
    ) -> None:
        self._model, self._theta, self._view, self._plan, self._precision = model, theta, view, plan, precision
        self._angles, self._size = angles, size
        self._batch = -1
        self._held: tuple[Side, bool] | None = None
        self._upper: dict[int, tuple[np.ndarray, ...]] = {}

    def of(self, k: int) -> tuple[Side, int, bool]:
        """The batch that holds angle ``k``, its place there, and whether exponentials may be factored; k ascending."""
        batch, place = divmod(int(np.searchsorted(self._angles, k)), self._size)
        if self._held is None or batch != self._batch:
            self._batch, self._held = batch, self._evaluate(batch * self._size)
        return self._held[0], place, self._held[1]

    def upper(self) -> tuple[np.ndarray, ...]:
        """R of ``orthogonalized`` of every channel and angle, (m, p_c, p_c) each, when all batches were evaluated."""
        batches = [self._upper[first] for first in range(0, len(self._angles), self._size)]
        return tuple(np.concatenate(r)[: len(self._angles)] for r in zip(*batches, strict=True))

    def _evaluate(self, first: int) -> tuple[Side, bool]:
        here = self._angles[np.minimum(np.arange(first, first + self._size), len(self._angles) - 1)]
        sides, upper = orthogonalized(all_sides(self._model, self._theta, self._view, self._plan.width, here))
        self._upper[first] = upper
        return sides, bool(can_factor(self._model, sides, self._plan.shape.rows, self._precision))


def plan_for(view: View, block_points: int) -> Plan:
    """Panels of at most about ``block_points`` pairs."""
    n = view.n_frames
    rows = max(1, int(block_points / max(1, n)))
    return make_plan(n, None if rows >= n / 2 else rows)


class _Panels:
    """Reads panels into buffers that are used again and again: new memory costs more than reading into old."""

    def __init__(self, view: View, plan: Plan) -> None:
        self._view, self._plan = view, plan
        # apart: what a buffer of c2 leaves behind may be NaN, which weights of pairs that are not used must not be
        self._free: dict[str, list[np.ndarray]] = {"c2": [], "weights": []}

    def read(self, job: Job) -> Panel:
        """One panel of one angle; invalid points and points without weight are NaN, beyond the data anything."""
        k, row0, n_rows = job
        c2 = weights = None
        # a few rows at a time from their diagonal on: what lies below it is not read
        for first in range(0, n_rows, _READ_ROWS):
            here = slice(first, min(first + _READ_ROWS, n_rows))
            rows, cols = slice(row0 + here.start, row0 + here.stop), slice(row0 + here.start, self._plan.n)
            data, sigma = np.asarray(self._view.read(k, rows, cols)), self._view.read_sigma(k, rows, cols)
            c2 = self._buffer("c2", data.dtype) if c2 is None else c2
            part = c2[here, cols]
            np.copyto(part, data)
            if sigma is not None:
                weights = self._buffer("weights", np.dtype(float)) if weights is None else weights
                weights[here, cols] = inverse_sigma(np.asarray(sigma))
                part[weights[here, cols] == 0] = np.nan
        assert c2 is not None
        return Panel(k, row0, n_rows, self._plan.n, c2, weights)

    def empty(self) -> Panel:
        """A panel without rows."""
        one = slice(0, 1)
        c2, sigma = np.asarray(self._view.read(0, one, one)), self._view.read_sigma(0, one, one)
        weights = None if sigma is None else self._buffer("weights", np.dtype(float))
        panel = Panel(0, 0, 0, self._plan.n, self._buffer("c2", c2.dtype), weights)
        self.give_back(panel)
        return panel

    def give_back(self, panel: Panel) -> None:
        """The panel's buffers may be overwritten."""
        for name, buffer in (("c2", panel.c2), ("weights", panel.weights)):
            if isinstance(buffer, np.ndarray):
                self._free[name].append(buffer)

    def _buffer(self, name: str, dtype: np.dtype) -> np.ndarray:
        free = self._free[name]
        return free.pop() if free else aligned((self._plan.height, self._plan.width), dtype)


def _pipeline(
    jobs: Sequence[Job], read: Callable[[Job], tuple[Any, ...]], reduce: Callable[..., Moments], workers: int
) -> Generator[Moments, None, None]:
    """Results of ``reduce(*read(job))`` in the order of the jobs; both overlap, a few panels in flight."""
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(workers) as summers:

        def submit(job: Job) -> Future[Moments]:
            loaded = reader.submit(read, job)
            return summers.submit(lambda: reduce(*loaded.result()))

        waiting = iter(jobs)
        flying = deque(submit(job) for job in itertools.islice(waiting, workers + _AHEAD))
        try:
            while flying:
                yield flying.popleft().result()
                for job in itertools.islice(waiting, 1):
                    flying.append(submit(job))
        finally:
            for future in flying:
                future.cancel()
