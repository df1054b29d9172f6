"""Which strategy fits a problem: a pure function of sizes and limits."""

from __future__ import annotations

import logging

from homodyne.errors import InputError
from homodyne.optimization.nlsq.memory import (
    BASE_GB,
    BYTES_PER_POINT,
    GB,
    estimate_peak_memory_gb,
    get_adaptive_memory_threshold,
)
from homodyne.optimization.search import SCALE_RATIO, STRATEGIES
from homodyne.result import Decision

log = logging.getLogger("homodyne")

#: How passes over all points are summed.
PASSES = ("stratified_ls", "hybrid_streaming", "distributed")
FULL_BATCH_POINTS = 10_000_000
# Bytes per point of a panel: those being read and summed at the same time, with their temporaries; measured.
_BYTES_PER_BLOCK_POINT = 40
DEFAULT_BLOCK_POINTS = 2_000_000
_NEAR = 0.8  # share of the threshold from which memory is worth a line


def select_nlsq_strategy(
    n_points: int,
    n_params: int,
    *,
    scale_ratio: float | None = None,
    memory_fraction: float = 0.75,
    memory_threshold_gb: float | None = None,
    strategy: str = "auto",
) -> Decision:
    """Choose a strategy, with the reason, as the table of the documentation says.

    ``cmaes_nlsq`` where the scale ratio exceeds 1000. Else ``stratified_ls`` up to 10 M points if its predicted peak is
    within the threshold, and ``hybrid_streaming`` otherwise. The objective is always the same; ``passes`` of the decision
    says how the passes of a global strategy are summed. (``homodyne.fit`` gives no scale ratio here, unless
    ``strategy.force`` asks for it: it looks first whether local fits agree.)

    Args:
        n_points: unordered pairs over all angles.
        n_params: physical parameters plus 2, see ``estimate_peak_memory_gb``.
        scale_ratio: widest over narrowest range of the bounds, see ``search.scale_ratio``.
        memory_fraction, memory_threshold_gb: what may be used, see ``get_adaptive_memory_threshold``.
        strategy: force one by name.

    Raises:
        InputError: unknown strategy; a threshold below what one streamed block needs.
    """
    if strategy not in STRATEGIES:
        raise InputError("strategy", strategy, "is unknown", f"choose one of {', '.join(STRATEGIES)}")
    if scale_ratio is not None and not scale_ratio >= 1:
        raise InputError("scale_ratio", scale_ratio, "must be at least 1", "give the widest over the narrowest range")
    threshold = get_adaptive_memory_threshold(memory_fraction, memory_threshold_gb)
    estimate = estimate_peak_memory_gb(n_points, n_params)
    block = _block_points(n_points, threshold)
    too_many, too_large = n_points > FULL_BATCH_POINTS, estimate > threshold
    passes = strategy if strategy in PASSES else PASSES[int(too_many or too_large)]
    scaled = strategy == "auto" and scale_ratio is not None and scale_ratio > SCALE_RATIO
    chosen = "cmaes_nlsq" if scaled else (passes if strategy == "auto" else strategy)
    relation = f"est. peak={estimate:.1f} GB {'>' if too_large else '<='} threshold {threshold:.1f} GB"
    size = f"n={_count(n_points)} pts" + (" > 10M pts" if too_many and not too_large else "")
    reason = f"{size}, {relation}"
    if scaled:
        reason = f"scale ratio {scale_ratio:.3g} > {SCALE_RATIO:g}, {reason}"
    if chosen not in PASSES:
        reason += f", passes by {passes}"
    if strategy != "auto":
        reason += ", chosen by the user"
    lines = [f"Strategy: {chosen} ({reason})"]
    if passes != "stratified_ls":
        lines.append(f"Streaming block size: {_count(block)} points")
    return Decision(chosen, reason, estimate, threshold, block, n_points, n_params, passes, tuple(lines))


def announce(decision: Decision, n_phi: int) -> None:
    """Log the decision in the form the documentation shows, and what to do where memory is short."""
    for line in (*decision.log_lines, *memory_tips(decision, n_phi)):
        log.info("%s", line)


def memory_tips(decision: Decision, n_phi: int) -> list[str]:
    """What changes the memory of a fit whose full batch nears or exceeds the threshold, with the effect in GB.

    Contrast and offset are eliminated angle by angle, so ``per_angle_mode`` has no effect, and that is said.
    """
    estimate, threshold = decision.estimate_gb, decision.threshold_gb
    if estimate < _NEAR * threshold:
        return []
    angle = decision.n_points * BYTES_PER_POINT / GB / max(1, n_phi)
    streaming = streaming_peak_gb(decision.block_points)
    if decision.passes != "stratified_ls":
        lines = [
            f"Memory: streaming takes about {streaming:.2f} GB, {max(0.0, estimate - streaming):.2f} GB less than full batch"
        ]
        over = estimate - threshold
        if over > 0:
            lines[0] += (
                f", which is {over:.2f} GB above the threshold; raising memory_fraction to fit it changes no result"
            )
    else:
        lines = [
            f"Memory: the estimate is {100 * estimate / threshold:.0f} % of the threshold; a lower memory_fraction makes the fit "
            f"stream in {streaming:.2f} GB, {max(0.0, estimate - streaming):.2f} GB less, with the same result"
        ]
    return [
        *lines,
        f"Memory: every angle less saves {angle:.2f} GB of full batch; per_angle_mode saves 0.00 GB, whatever its value",
    ]


def streaming_peak_gb(block_points: int) -> float:
    """Predicted peak of the streaming strategy in GB, whatever the number of points."""
    return BASE_GB + block_points * _BYTES_PER_BLOCK_POINT / GB


def predicted_peak_gb(decision: Decision) -> float:
    """Predicted peak of the passes that were decided on, in GB."""
    if decision.passes == "stratified_ls":
        return estimate_peak_memory_gb(decision.n_points, decision.n_params)
    return streaming_peak_gb(decision.block_points)


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
    return max(1, min(DEFAULT_BLOCK_POINTS, room, n_points))


def _count(n: int) -> str:
    """15M, 500K, 1.2M: counts as people read them."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if n >= 0.9995 * size:  # what rounds to a thousand of the smaller unit is one of this
            return f"{n / size:.3g}{unit}"
    return str(n)
