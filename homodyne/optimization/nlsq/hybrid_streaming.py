"""Streaming: blocks are read, reduced to per-angle moments and forgotten; memory does not grow with the data."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.moments import Panel, accumulate, zero
from homodyne.optimization.nlsq.stratified_ls import all_sides, inverse_sigma
from homodyne.optimization.normal import PassSums, factors_from_moments
from homodyne.optimization.plan import Plan, make_plan
from homodyne.optimization.source import View

_QUEUE_DEPTH = 2


def streamed_pass(
    model: Model, view: View, min_lag: int, block_points: int
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the streamed evaluation: one pass reads every panel once, in a thread that stays ahead.

    Returns:
        ``evaluate(theta, reference) -> PassSums`` whose factors are square roots of the moments.
    """
    plan = plan_for(view, block_points)

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        sides = all_sides(model, theta, view, plan.width)
        totals = [zero(len(model.parameters)) for _ in range(view.n_phi)]
        for panel in _ahead(_panels(view, plan)):
            part = accumulate(model, plan.shape, panel, sides, jnp.asarray(reference[panel.k]), min_lag)
            totals[panel.k] = jax.block_until_ready(totals[panel.k] + part)
        gram = np.stack([np.asarray(m.gram) for m in totals])
        counts = np.array([float(m.count) for m in totals])
        return PassSums(factors_from_moments(gram), counts, reference)

    return evaluate


def plan_for(view: View, block_points: int) -> Plan:
    """Panels of at most about ``block_points`` pairs."""
    n = view.n_frames
    rows = max(1, int(block_points / max(1, n)))
    return make_plan(n, None if rows >= n / 2 else rows)


def _panels(view: View, plan: Plan) -> Iterator[Panel]:
    """Read every panel of every angle."""
    for k in range(view.n_phi):
        for row0, n_rows in plan.panels:
            rows, cols = slice(row0, row0 + n_rows), slice(row0, plan.n)
            data = np.asarray(view.read(k, rows, cols))
            c2 = np.full((plan.height, plan.width), np.nan, dtype=data.dtype)
            c2[:n_rows, row0 : plan.n] = data
            sigma = view.read_sigma(k, rows, cols)
            weights = None
            if sigma is not None:
                weights = np.zeros((plan.height, plan.width))
                weights[:n_rows, row0 : plan.n] = inverse_sigma(np.asarray(sigma))
                c2[weights == 0] = np.nan  # a point without weight is not a point
            yield Panel(k, row0, n_rows, plan.n, c2, weights)


def _ahead(panels: Iterator[Panel]) -> Iterator[Panel]:
    """Iterate in a thread that stays at most ``_QUEUE_DEPTH`` panels ahead; errors arrive here."""
    ready: queue.Queue[Panel | BaseException | None] = queue.Queue(_QUEUE_DEPTH)
    stop = threading.Event()

    def put(item: Panel | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def read() -> None:
        try:
            for panel in panels:
                put(panel)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # handed over to the consumer, which raises it
            put(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
