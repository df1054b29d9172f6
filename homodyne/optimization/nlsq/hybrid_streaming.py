"""Streaming: panels are read, reduced to per-angle moments and forgotten; memory does not grow with the data."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.moments import Moments, Panel, accumulate
from homodyne.optimization.nlsq.stratified_ls import all_sides, inverse_sigma
from homodyne.optimization.normal import PassSums, factors_from_moments
from homodyne.optimization.plan import Plan, make_plan
from homodyne.optimization.source import View

_AHEAD = 2  # panels that are read before they are needed


def streamed_pass(
    model: Model, view: View, min_lag: int, block_points: int
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the streamed evaluation: one pass reads every panel once.

    One thread reads ahead, one thread a processor sums; XLA alone does not keep two processors busy with small tiles.
    Sums are added in the order of the panels, so that the result does not depend on which thread was faster.

    Returns:
        ``evaluate(theta, reference) -> PassSums`` whose factors are square roots of the moments.
    """
    plan = plan_for(view, block_points)
    jobs = [(k, row0, rows) for k in range(view.n_phi) for row0, rows in plan.panels]

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        sides = all_sides(model, theta, view, plan.width)

        def reduce(panel: Panel) -> Moments:
            ref = jnp.asarray(reference[panel.k])
            return jax.block_until_ready(accumulate(model, plan.shape, panel, sides, ref, min_lag))

        q = len(model.parameters) + 3
        gram, counts = np.zeros((view.n_phi, q, q)), np.zeros(view.n_phi)
        for (k, _, _), part in zip(
            jobs, _pipeline(jobs, lambda job: read_panel(view, plan, *job), reduce), strict=True
        ):
            gram[k] += np.asarray(part.gram)
            counts[k] += float(part.count)
        return PassSums(factors_from_moments(gram), counts, reference)

    return evaluate


def plan_for(view: View, block_points: int) -> Plan:
    """Panels of at most about ``block_points`` pairs."""
    n = view.n_frames
    rows = max(1, int(block_points / max(1, n)))
    return make_plan(n, None if rows >= n / 2 else rows)


def read_panel(view: View, plan: Plan, k: int, row0: int, n_rows: int) -> Panel:
    """One panel of one angle, padded to the plan's shape; invalid points and points without weight are NaN."""
    rows, cols = slice(row0, row0 + n_rows), slice(row0, plan.n)
    data = np.asarray(view.read(k, rows, cols))
    c2 = np.empty((plan.height, plan.width), dtype=data.dtype)
    c2[:n_rows, row0 : plan.n] = data
    # what lies left of the diagonal is never looked at; beyond the data no pair is valid
    c2[:, plan.n :] = np.nan
    c2[n_rows:] = np.nan
    sigma = view.read_sigma(k, rows, cols)
    if sigma is None:
        return Panel(k, row0, n_rows, plan.n, c2, None)
    weights = np.zeros((plan.height, plan.width))
    weights[:n_rows, row0 : plan.n] = inverse_sigma(np.asarray(sigma))
    c2[weights == 0] = np.nan
    return Panel(k, row0, n_rows, plan.n, c2, weights)


def _pipeline(
    jobs: list[tuple[int, int, int]], read: Callable[[tuple[int, int, int]], Panel], reduce: Callable[[Panel], Moments]
) -> Iterator[Moments]:
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
