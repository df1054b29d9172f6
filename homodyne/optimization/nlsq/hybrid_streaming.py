"""Streaming: panels are read, reduced to per-angle moments and forgotten; memory does not grow with the data."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import can_factor, orthogonalized
from homodyne.optimization.moments import Moments, Panel, accumulate, to_parameters
from homodyne.optimization.nlsq.stratified_ls import all_sides, inverse_sigma
from homodyne.optimization.normal import PassSums, factors_from_moments
from homodyne.optimization.plan import Plan, make_plan
from homodyne.optimization.source import View

_AHEAD = 2  # panels that are read before they are needed


def streamed_pass(
    model: Model, view: View, min_lag: int, block_points: int, advance: Callable[[int], None] | None = None
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the streamed evaluation: one pass reads every panel once.

    Args:
        advance: called with the number of valid pairs of every panel, in order, as its sums are added.

    One thread reads ahead, one thread a processor sums; XLA alone does not keep two processors busy with small tiles.
    Sums are added in the order of the panels, so that the result does not depend on which thread was faster.

    Returns:
        ``evaluate(theta, reference) -> PassSums`` whose factors are square roots of the moments.
    """
    plan = plan_for(view, block_points)
    jobs = [(k, row0, rows) for k in range(view.n_phi) for row0, rows in plan.panels]
    panels = _Panels(view, plan)

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        sides, upper = orthogonalized(all_sides(model, theta, view, plan.width))
        factor = bool(can_factor(model, sides, plan.shape.rows))

        def reduce(panel: Panel) -> Moments:
            ref = jnp.asarray(reference[panel.k])
            part = jax.block_until_ready(accumulate(model, plan.shape, panel, sides, ref, min_lag, factor))
            panels.give_back(panel)
            return part

        to_theta = to_parameters(model, upper)
        q = to_theta.shape[1]
        gram, counts = np.zeros((view.n_phi, q, q)), np.zeros(view.n_phi)
        with contextlib.closing(_pipeline(jobs, panels.read, reduce)) as parts:
            for (k, _, _), part in zip(jobs, parts, strict=True):
                gram[k] += np.asarray(part.gram)
                counts[k] += float(part.count)
                if advance is not None:
                    advance(int(part.count))
        return PassSums(factors_from_moments(gram) @ to_theta, counts, reference)

    return evaluate


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
        view, plan = self._view, self._plan
        rows, cols = slice(row0, row0 + n_rows), slice(row0, plan.n)
        data = np.asarray(view.read(k, rows, cols))
        c2 = self._buffer(data.dtype)
        part = c2[:n_rows, row0 : plan.n]
        np.copyto(part, data)
        sigma = view.read_sigma(k, rows, cols)
        if sigma is None:
            return Panel(k, row0, n_rows, plan.n, c2, None)
        weights = self._buffer(np.dtype(float))
        weights[:n_rows, row0 : plan.n] = inverse_sigma(np.asarray(sigma))
        part[weights[:n_rows, row0 : plan.n] == 0] = np.nan
        return Panel(k, row0, n_rows, plan.n, c2, weights)

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
    workers = max(1, len(os.sched_getaffinity(0)))
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
