"""Streaming: panels are read, reduced to per-angle moments and forgotten; memory does not grow with the data."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import Side, can_factor, orthogonalized
from homodyne.optimization.moments import Moments, Panel, accumulate, to_parameters
from homodyne.optimization.nlsq.stratified_ls import all_sides, inverse_sigma, n_workers
from homodyne.optimization.normal import PassSums, factors_from_moments
from homodyne.optimization.plan import Plan, make_plan
from homodyne.optimization.source import View

_AHEAD = 4  # panels that are read before they are needed
_READ_ROWS = 512  # rows read in one go: fewer cost more calls, more cost more bytes below the diagonal
_BATCH_FRAMES = 100_000  # angles times frames whose channels are held at a time, some 10 MB


def streamed_pass(
    model: Model,
    view: View,
    min_lag: int,
    block_points: int,
    advance: Callable[[int], None] | None = None,
    precision: str = "float64",
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the streamed evaluation: one pass reads every panel once.

    Args:
        advance: called with the number of valid pairs of every panel, in order, as its sums are added.
        precision: float32 or float64, see ``moments.accumulate``.

    One thread reads ahead, one thread a processor sums; XLA alone does not keep two processors busy with small tiles.
    Sums are added in the order of the panels, so that the result does not depend on which thread was faster.

    Returns:
        ``evaluate(theta, reference) -> PassSums`` whose factors are square roots of the moments.
    """
    plan = plan_for(view, block_points)
    jobs = [(k, row0, rows) for k in range(view.n_phi) for row0, rows in plan.panels]
    panels = _Panels(view, plan)

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        # the reference as the sums see it, to the last bit
        reference = reference.astype(precision).astype(float)
        channels = ChannelBatches(model, theta, view, plan, precision)

        def reduce(panel: Panel) -> Moments:
            sides, place, factor = channels.of(int(panel.k))
            given = (panel._replace(k=place), sides, jnp.asarray(reference[panel.k]), min_lag, factor, precision)
            part = jax.block_until_ready(accumulate(model, plan.shape, *given))
            panels.give_back(panel)
            return part

        q = sum(len(channel.parameters) for channel in model.channels) + 3
        gram, counts = np.zeros((view.n_phi, q, q)), np.zeros(view.n_phi)
        with contextlib.closing(_pipeline(jobs, panels.read, reduce)) as parts:
            for (k, _, _), part in zip(jobs, parts, strict=True):
                gram[k] += np.asarray(part.gram)
                counts[k] += float(part.count)
                if advance is not None:
                    advance(int(part.count))
        return PassSums(factors_from_moments(gram) @ to_parameters(model, channels.upper()), counts, reference)

    return evaluate


class ChannelBatches:
    """Channels on all frames, of a few angles at a time: for all angles of a large file they would be 100 MB.

    Threads share it. Batches are all of one size, so that one compilation serves them.
    """

    def __init__(self, model: Model, theta: np.ndarray, view: View, plan: Plan, precision: str) -> None:
        self._model, self._theta, self._view, self._plan, self._precision = model, theta, view, plan, precision
        self._size = max(1, min(view.n_phi, _BATCH_FRAMES // plan.width))
        self._held: dict[int, tuple[Side, bool]] = {}
        self._upper: dict[int, tuple[np.ndarray, ...]] = {}
        self._lock = threading.Lock()

    def of(self, k: int) -> tuple[Side, int, bool]:
        """The batch that holds angle ``k``, its place there, and whether exponentials may be factored."""
        batch, place = divmod(k, self._size)
        with self._lock:
            if batch not in self._held:
                self._held = {n: held for n, held in self._held.items() if n == batch - 1}
                self._held[batch] = self._evaluate(batch)
            return self._held[batch][0], place, self._held[batch][1]

    def upper(self) -> tuple[np.ndarray, ...]:
        """R of ``orthogonalized`` of every channel and angle, (n_phi, p_c, p_c), when all batches were evaluated."""
        batches = zip(*(self._upper[n] for n in sorted(self._upper)), strict=True)
        return tuple(np.concatenate(of_channel)[: self._view.n_phi] for of_channel in batches)

    def _evaluate(self, batch: int) -> tuple[Side, bool]:
        angles = np.minimum(np.arange(batch * self._size, (batch + 1) * self._size), self._view.n_phi - 1)
        sides = all_sides(self._model, self._theta, self._view, self._plan.width, angles)
        sides, self._upper[batch] = orthogonalized(sides)
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
        self._free: dict[np.dtype, list[np.ndarray]] = {}

    def read(self, job: tuple[int, int, int]) -> Panel:
        """One panel of one angle; invalid points and points without weight are NaN, beyond the data anything."""
        k, row0, n_rows = job
        c2 = weights = None
        # a few rows at a time from their diagonal on: what lies below it is not read
        for first in range(0, n_rows, _READ_ROWS):
            here = slice(first, min(first + _READ_ROWS, n_rows))
            rows, cols = slice(row0 + here.start, row0 + here.stop), slice(row0 + here.start, self._plan.n)
            data, sigma = np.asarray(self._view.read(k, rows, cols)), self._view.read_sigma(k, rows, cols)
            c2 = self._buffer(data.dtype) if c2 is None else c2
            part = c2[here, cols]
            np.copyto(part, data)
            if sigma is not None:
                weights = self._buffer(np.dtype(float)) if weights is None else weights
                weights[here, cols] = inverse_sigma(np.asarray(sigma))
                part[weights[here, cols] == 0] = np.nan
        assert c2 is not None
        return Panel(k, row0, n_rows, self._plan.n, c2, weights)

    def give_back(self, panel: Panel) -> None:
        """The panel's buffers may be overwritten."""
        for buffer in (panel.c2, panel.weights):
            if isinstance(buffer, np.ndarray):
                self._free.setdefault(buffer.dtype, []).append(buffer)

    def _buffer(self, dtype: np.dtype) -> np.ndarray:
        free = self._free.get(dtype)
        return free.pop() if free else _aligned((self._plan.height, self._plan.width), dtype)


# JAX takes NumPy memory that begins at a multiple of this many bytes as it is, and copies any other.
_ALIGNMENT = 64


def _aligned(shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Zeros that JAX can use without a copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _pipeline(
    jobs: list[tuple[int, int, int]], read: Callable[[tuple[int, int, int]], Panel], reduce: Callable[[Panel], Moments]
) -> Generator[Moments, None, None]:
    """Results of ``reduce(read(job))`` in the order of the jobs; reading and reducing overlap, a few panels in flight."""
    workers = n_workers()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(workers) as summers:

        def submit(job: tuple[int, int, int]) -> Future[Moments]:
            panel = reader.submit(read, job)
            return summers.submit(lambda: reduce(panel.result()))

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
