"""Passes whose sums are taken block by block, here or on a cluster."""

from __future__ import annotations

from collections.abc import Callable

from homodyne.optimization.loss import Loss
from homodyne.optimization.nlsq.checkpoint import PassFunction
from homodyne.optimization.nlsq.distributed import distributed_pass
from homodyne.optimization.nlsq.hybrid_streaming import streamed_pass
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.source import View


def block_pass(
    request: Request,
    view: View,
    advance: Callable[[int], None] | None = None,
    precision: str = "float64",
    loss: Loss | None = None,
) -> PassFunction:
    """Passes over a view by streaming, on the workers of the request where it has a cluster."""
    model, min_lag, block_points = request.model, request.min_lag, request.decision.block_points
    if request.cluster is None:
        return streamed_pass(model, view, min_lag, block_points, advance, precision, loss)
    return distributed_pass(model, view, min_lag, block_points, request.cluster, advance, precision, loss)
