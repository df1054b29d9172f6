"""Streaming: blocks are read, reduced to per-angle moments and forgotten; memory does not grow with the data."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import Side
from homodyne.optimization.moments import Moments, accumulate, zero
from homodyne.optimization.nlsq.stratified_ls import angle_side
from homodyne.optimization.normal import PassSums, factors_from_moments
from homodyne.optimization.plan import Panel, Plan, make_plan
from homodyne.optimization.source import View

_QUEUE_DEPTH = 2


class Block(NamedTuple):
    """One panel of one angle, padded to the plan's shape; ``weights`` are square roots, or None for equal ones."""

    k: int
    panel: Panel
    c2: np.ndarray
    weights: np.ndarray | None


def streamed_pass(
    model: Model, view: View, min_lag: int, block_points: int
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the streamed evaluation: one pass reads every block once, in a thread that stays ahead.

    Returns:
        ``evaluate(theta, reference) -> PassSums`` whose factors are square roots of the moments.
    """
    plan = plan_for(view, block_points)

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        totals = [zero(len(model.parameters)) for _ in range(view.n_phi)]
        side: Side | None = None
        current = -1
        for block in _ahead(_blocks(view, plan)):
            if block.k != current:
                side, current = angle_side(model, theta, view, block.k, plan.width), block.k
            totals[block.k] = totals[block.k] + _reduce(model, plan, block, side, reference[block.k], min_lag)
        gram = np.stack([np.asarray(m.gram) for m in totals])
        counts = np.array([float(m.count) for m in totals])
        return PassSums(factors_from_moments(gram), counts, reference)

    return evaluate


def plan_for(view: View, block_points: int) -> Plan:
    """Panels of at most about ``block_points`` pairs."""
    n = view.n_frames
    rows = max(1, int(block_points / max(1, n)))
    return make_plan(n, None if rows >= n / 2 else rows)


def _reduce(model: Model, plan: Plan, block: Block, side: Side | None, reference: np.ndarray, min_lag: int) -> Moments:
    tiles = np.zeros((plan.max_tiles, 2), dtype=np.int32)
    tiles[: len(block.panel.tiles)] = block.panel.tiles
    return jax.block_until_ready(
        accumulate(
            model,
            plan.shape,
            jnp.asarray(tiles),
            len(block.panel.tiles),
            jnp.asarray(block.panel.row0, dtype=jnp.int32),
            jnp.asarray(block.c2),
            None if block.weights is None else jnp.asarray(block.weights),
            side,
            jnp.asarray(reference),
            min_lag,
        )
    )


def _blocks(view: View, plan: Plan) -> Iterator[Block]:
    """Read every panel of every angle."""
    for k in range(view.n_phi):
        for panel in plan.panels:
            rows, cols = slice(panel.row0, panel.row0 + panel.rows), slice(panel.row0, plan.n)
            data = np.asarray(view.read(k, rows, cols))
            c2 = np.full((plan.height, plan.width), np.nan, dtype=data.dtype)
            c2[: panel.rows, panel.row0 : plan.n] = data
            yield Block(k, panel, c2, _weights(view, plan, k, panel, rows, cols, c2))


def _weights(view: View, plan: Plan, k: int, panel: Panel, rows: slice, cols: slice, c2: np.ndarray) -> np.ndarray | None:
    sigma = view.read_sigma(k, rows, cols)
    if sigma is None:
        return None
    weights = np.zeros((plan.height, plan.width))
    usable = np.isfinite(sigma) & (sigma > 0)
    weights[: panel.rows, panel.row0 : plan.n] = np.where(usable, 1.0 / np.where(usable, sigma, 1.0), 0.0)
    c2[weights == 0] = np.nan  # a point without weight is not a point
    return weights


def _ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """Iterate in a thread that stays at most ``_QUEUE_DEPTH`` blocks ahead; errors arrive here."""
    ready: queue.Queue[Block | BaseException | None] = queue.Queue(_QUEUE_DEPTH)
    stop = threading.Event()

    def put(item: Block | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def read() -> None:
        try:
            for block in blocks:
                put(block)
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
