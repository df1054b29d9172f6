"""c2 that a posterior allows, along cuts through the maps, beside the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from homodyne.plots.canvas import DATA_COLOR, MODEL_COLOR, MUTED, new_figure, styled
from homodyne.result.predictive import PredictiveCut


@styled
def predictive_figure(cuts: Sequence[PredictiveCut]) -> Figure:
    """One row a t1, one column a sector: data, median and bands of the model, and fainter those of a noisy measurement."""
    sectors = list(dict.fromkeys((cut.q, cut.phi_deg) for cut in cuts))
    times = list(dict.fromkeys(cut.t1_s for cut in cuts))
    by_place = {((cut.q, cut.phi_deg), cut.t1_s): cut for cut in cuts}
    figure = new_figure(2.6 * len(sectors) + 0.8, 1.9 * len(times) + 1.1)
    axes = figure.subplots(len(times), len(sectors), squeeze=False, sharex=True, sharey=True)
    for i, t1 in enumerate(times):
        for j, sector in enumerate(sectors):
            axis = axes[i, j]
            _cut(axis, by_place[sector, t1])
            if i == 0:
                several = len({q for q, _ in sectors}) > 1
                axis.set_title(
                    f"φ = {sector[1]:.4g}°".replace("-", "−") + (f", q = {sector[0]:.4g}" if several else "")
                )
            if i == len(times) - 1:
                axis.set_xlabel("lag $t_2 - t_1$ [s]")
            if j == 0:
                axis.set_ylabel(f"$c_2$ at $t_1$ = {t1:.3g} s")
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_ylim(*_limits(cuts))
    figure.legend(handles=_legend(cuts[0].levels), loc="outside upper left", ncols=2)
    return figure


def _cut(axis, cut: PredictiveCut) -> None:
    for (low, high), alpha in zip(cut.noisy, (0.26, 0.15), strict=True):
        axis.fill_between(cut.lag_s, low, high, color=MUTED, alpha=alpha, lw=0)
    axis.plot(cut.lag_s, cut.data, ".", ms=2.6, color=DATA_COLOR)
    for (low, high), alpha in zip(cut.model, (0.55, 0.28), strict=True):
        axis.fill_between(cut.lag_s, low, high, color=MODEL_COLOR, alpha=alpha, lw=0)
    axis.plot(cut.lag_s, cut.median, color=MODEL_COLOR, lw=0.8)


def _limits(cuts: Sequence[PredictiveCut]) -> tuple[float, float]:
    """All bands and nearly all data: an outlier does not flatten the rest."""
    data = np.concatenate([cut.data[np.isfinite(cut.data)] for cut in cuts] or [np.zeros(0)])
    ends = [np.concatenate([cut.noisy[-1, side] for cut in cuts]) for side in (0, 1)]
    low, high = float(ends[0].min()), float(ends[1].max())
    if data.size:
        low, high = min(low, float(np.quantile(data, 0.005))), max(high, float(np.quantile(data, 0.995)))
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _legend(levels: Sequence[float]) -> list[Line2D | Patch]:
    words = " and (lighter) ".join(f"{100 * level:.0f} %" for level in levels)
    return [
        Line2D([], [], ls="", marker=".", color=DATA_COLOR, label="data"),
        Line2D([], [], color=MODEL_COLOR, lw=0.8, label="model: median of the posterior"),
        Patch(color=MODEL_COLOR, alpha=0.5, lw=0, label=f"model: {words} band"),
        Patch(color=MUTED, alpha=0.25, lw=0, label=f"with the noise of one point: {words} band"),
    ]
