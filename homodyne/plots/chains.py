"""Did the chains mix? Traces, and histograms of ranks that are flat where they did."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import rankdata

from homodyne.plots.canvas import LIMIT_COLOR, MUTED, new_figure, styled
from homodyne.plots.corner import label
from homodyne.result.posterior import Posterior

RANK_BINS = 20
#: Draws of a trace that are drawn; of more every n-th.
MOST_DRAWN = 1000


@styled
def chains_figure(posterior: Posterior) -> Figure:
    """One row a parameter: trace of every chain, and its ranks among all draws; R-hat and effective sample size beside them.

    Of a consensus of shards the draws are those of the combination, which are independent; R-hat and effective sample
    size are those of the shards' chains.
    """
    n = len(posterior.names)
    figure = new_figure(9.0, 1.15 * n + 1.0)
    axes = figure.subplots(n, 2, squeeze=False, width_ratios=(2.2, 1.0))
    for position, (name, (trace, ranks)) in enumerate(zip(posterior.names, axes, strict=True)):
        values = posterior.idata.posterior[name].values
        _trace(trace, posterior, name, values)
        trace.set_ylabel(label(posterior, position))
        _ranks(ranks, values)
        for axis in (trace, ranks):
            axis.tick_params(labelbottom=position == n - 1)
    axes[-1, 0].set_xlabel("draw after warm-up")
    axes[-1, 1].set_xlabel("rank among all draws")
    figure.suptitle(_title(posterior), fontsize=9.0)
    return figure


def _trace(axis: Axes, posterior: Posterior, name: str, values: np.ndarray) -> None:
    step = max(1, -(-values.shape[1] // MOST_DRAWN))
    at = np.arange(0, values.shape[1], step)
    for chain, color in zip(values, _colors(len(values)), strict=True):
        axis.plot(at, chain[::step], color=color, lw=0.4, alpha=0.8)
    axis.set_xlim(0, values.shape[1])
    axis.yaxis.set_major_locator(_few())
    rhat, ess = posterior.rhat[name], posterior.ess[name]
    words = f"R-hat {rhat:.3f}, ESS {ess:.0f}"
    good = rhat < 1.01 and ess >= 400
    axis.text(
        0.995, 0.97, words, transform=axis.transAxes, ha="right", va="top", fontsize=7.5, color="0.1" if good else LIMIT_COLOR,
        bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.5},
    )  # fmt: skip


def _ranks(axis: Axes, values: np.ndarray) -> None:
    """Chains that explore the same distribution have ranks as even as chance leaves them: the gray band, two standard deviations."""
    bins = min(RANK_BINS, max(2, values.shape[1] // 5))
    ranks = rankdata(values, method="ordinal").reshape(values.shape)
    edges = np.linspace(0.5, values.size + 0.5, bins + 1)
    expected = values.shape[1] / bins
    share = 1.0 / bins
    spread = 2.0 * np.sqrt(expected * (1 - share) * (1 - 1.0 / len(values)))
    axis.axhspan(1 - spread / expected, 1 + spread / expected, color="0.92", lw=0, zorder=0)
    axis.axhline(1.0, color=MUTED, lw=0.7, ls=":")
    for chain, color in zip(ranks, _colors(len(values)), strict=True):
        axis.stairs(np.histogram(chain, edges)[0] / expected, edges, color=color, lw=0.9, baseline=None)
    axis.set_xlim(edges[0], edges[-1])
    axis.set_ylim(0.0, max(2.0, axis.get_ylim()[1]))
    axis.set_ylabel("share", fontsize=7.5)
    axis.yaxis.set_major_locator(_few())


def _few() -> MaxNLocator:
    return MaxNLocator(3)


def _colors(n: int) -> np.ndarray:
    return colormaps["viridis"](np.linspace(0.05, 0.85, n))


def _title(posterior: Posterior) -> str:
    what = (
        "draws of the consensus, before weights; R-hat and ESS: worst of the shards' chains"
        if posterior.method == "cmc"
        else "chains"
    )
    return f"{what} — {posterior.status.replace('_', ' ')}, {posterior.divergences} divergences"
