"""Which strategy fits a problem: a pure function of sizes and limits."""

from __future__ import annotations

import logging

from homodyne.errors import InputError
from homodyne.optimization.nlsq.memory import BASE_GB, GB, estimate_peak_memory_gb, get_adaptive_memory_threshold
from homodyne.result import Decision

log = logging.getLogger("homodyne")

STRATEGIES = ("stratified_ls", "hybrid_streaming")
FULL_BATCH_POINTS = 10_000_000
# Bytes per point of a panel: those being read and summed at the same time, with their temporaries; measured.
_BYTES_PER_BLOCK_POINT = 40
_DEFAULT_BLOCK_POINTS = 2_000_000


def select_nlsq_strategy(
    n_points: int,
    n_params: int,
    *,
    memory_fraction: float = 0.75,
    memory_threshold_gb: float | None = None,
    strategy: str = "auto",
) -> Decision:
    """Choose between full batch and streaming, with the reason.

    ``stratified_ls`` below 10 M points if its predicted peak is within the threshold, ``hybrid_streaming`` otherwise.
    The objective is the same; only memory and speed differ.

    Args:
        n_points: unordered pairs over all angles.
        n_params: physical parameters plus 2, see ``estimate_peak_memory_gb``.
        memory_fraction, memory_threshold_gb: what may be used, see ``get_adaptive_memory_threshold``.
        strategy: force one by name.

    Raises:
        InputError: unknown strategy; a threshold below what one streamed block needs.
    """
    if strategy not in ("auto", *STRATEGIES):
        raise InputError("strategy", strategy, "is unknown", f"choose one of auto, {', '.join(STRATEGIES)}")
    threshold = get_adaptive_memory_threshold(memory_fraction, memory_threshold_gb)
    estimate = estimate_peak_memory_gb(n_points, n_params)
    block = _block_points(n_points, threshold)
    too_many, too_large = n_points > FULL_BATCH_POINTS, estimate > threshold
    chosen = strategy if strategy != "auto" else STRATEGIES[int(too_many or too_large)]
    relation = f"est. peak={estimate:.1f} GB {'>' if too_large else '<='} threshold {threshold:.1f} GB"
    size = f"n={_count(n_points)} pts" + (" > 10M pts" if too_many and not too_large else "")
    forced = ", chosen by the user" if strategy != "auto" else ""
    lines = [f"Strategy: {chosen} ({size}, {relation}{forced})"]
    if chosen == "hybrid_streaming":
        lines.append(f"Streaming block size: {_count(block)} points")
    reason = f"{size}, {relation}{forced}"
    return Decision(chosen, reason, estimate, threshold, block, n_points, n_params, tuple(lines))


def announce(decision: Decision) -> None:
    """Log the decision in the form the documentation shows."""
    for line in decision.log_lines:
        log.info("%s", line)


def streaming_peak_gb(block_points: int) -> float:
    """Predicted peak of the streaming strategy in GB, whatever the number of points."""
    return BASE_GB + block_points * _BYTES_PER_BLOCK_POINT / GB


def _block_points(n_points: int, threshold_gb: float) -> int:
    """Points of a block: enough to keep the processor busy, small against the threshold."""
    room = int((threshold_gb - BASE_GB) * GB / _BYTES_PER_BLOCK_POINT)
    if room < 10_000:
        raise InputError(
            "memory_threshold_gb",
            float(f"{threshold_gb:.3g}"),
            f"is less than one streamed block needs ({streaming_peak_gb(10_000):.2f} GB)",
            "raise optimization.nlsq.memory_threshold_gb or memory_fraction",
        )
    return max(1, min(_DEFAULT_BLOCK_POINTS, room, n_points))


def _count(n: int) -> str:
    """15M, 500K, 1.2M: counts as people read them."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if n >= 0.9995 * size:  # what rounds to a thousand of the smaller unit is one of this
            return f"{n / size:.3g}{unit}"
    return str(n)
