"""Memory over the fit: what was resident, what was predicted, what was allowed."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from homodyne.plots.canvas import DATA_COLOR, LIMIT_COLOR, MODEL_COLOR, MUTED, new_figure, styled
from homodyne.result import FitResult, Memory

#: A limit this many times above everything else is written as text: drawn to scale it would flatten the curve.
OFF_SCALE = 4.0


@styled
def memory_figure(result: FitResult) -> Figure:
    """Resident-set size [GB = 2**30 bytes] against seconds since the start, with prediction and threshold."""
    memory = result.memory
    figure = new_figure(6.4, 3.8)
    axis = figure.subplots()
    axis.fill_between(memory.series_seconds, memory.series_gb, color=DATA_COLOR, alpha=0.18, lw=0)
    axis.plot(
        memory.series_seconds,
        memory.series_gb,
        color=DATA_COLOR,
        label=f"resident (RSS), peak {memory.measured_peak_gb:.2f} GB",
    )
    axis.axhline(memory.baseline_gb, color=MUTED, ls=":", label=f"before the fit, {memory.baseline_gb:.2f} GB")
    axis.axhline(
        memory.predicted_peak_gb, color=MODEL_COLOR, ls="--", label=f"predicted peak, {memory.predicted_peak_gb:.2f} GB"
    )
    _limit(axis, memory)
    axis.set_xlim(0.0, max(float(memory.series_seconds[-1]), 1e-3) if len(memory.series_seconds) else 1.0)
    axis.set_xlabel("time since the start of the fit [s]")
    axis.set_ylabel("memory [GB = $2^{30}$ bytes]")
    axis.set_title(f"{result.strategy}: {result.n_points:,} points, {result.n_parameters} parameters", loc="left")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _limit(axis: Axes, memory: Memory) -> None:
    highest = max(memory.measured_peak_gb, memory.predicted_peak_gb, memory.baseline_gb)
    label = f"threshold, {memory.threshold_gb:.1f} GB of {memory.available_gb:.1f} GB available"
    if memory.threshold_gb <= OFF_SCALE * highest:
        axis.axhline(memory.threshold_gb, color=LIMIT_COLOR, label=label)
        axis.set_ylim(0.0, 1.12 * max(highest, memory.threshold_gb))
        return
    axis.set_ylim(0.0, 1.3 * highest)
    text = f"▲ {label} (off this scale)"
    axis.text(0.012, 0.96, text, transform=axis.transAxes, color=LIMIT_COLOR, fontsize=8, va="top")
