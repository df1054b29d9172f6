"""Is the noise what we think it is, and does every angle agree with the model?"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from homodyne.plots.canvas import DATA_COLOR, MODEL_COLOR, MUTED, new_figure, styled
from homodyne.result import FitResult


@styled
def residual_figure(result: FitResult) -> Figure:
    """Left: histogram of (data - model) / sigma with the unit Gaussian expected; right: chi2 per point by angle."""
    figure = new_figure(8.2, 3.3)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
    _histogram(left, *result.residual_histogram, result.n_points)
    _chi2(right, result)
    return figure


def expected_counts(edges: np.ndarray, total: float) -> np.ndarray:
    """Counts per bin of ``total`` unit-Gaussian draws, at the bin centers; ``edges`` (n + 1,) -> (n,)."""
    centers = 0.5 * (edges[1:] + edges[:-1])
    return total * np.diff(edges) * np.exp(-0.5 * centers**2) / np.sqrt(2.0 * np.pi)


def moments(edges: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a histogram, in the units of ``edges``."""
    centers = 0.5 * (edges[1:] + edges[:-1])
    total = counts.sum()
    if total == 0:
        return float("nan"), float("nan")
    mean = float(counts @ centers / total)
    return mean, float(np.sqrt(counts @ (centers - mean) ** 2 / total))


def _histogram(axis: Axes, edges: np.ndarray, counts: np.ndarray, n_points: int) -> None:
    mean, spread = moments(edges, counts)
    expected = expected_counts(edges, float(counts.sum()))
    axis.stairs(counts, edges, fill=True, color=DATA_COLOR, alpha=0.35)
    axis.stairs(
        counts, edges, color=DATA_COLOR, label=f"residuals: mean {mean:+.3f}, s.d. {spread:.3f}".replace("-", "−")
    )
    axis.plot(0.5 * (edges[1:] + edges[:-1]), expected, color=MODEL_COLOR, ls="--", label="unit Gaussian, same total")
    axis.set_yscale("log")
    top = max(float(counts.max(initial=1.0)), float(expected.max(initial=1.0)))
    axis.set_ylim(0.5, 12.0 * top)  # room above the curve for the legend
    axis.set_xlim(edges[0], edges[-1])
    axis.set_xlabel("(data − model) / $\\sigma$   (end bins hold all beyond)")
    axis.set_ylabel(f"pairs per bin of {edges[1] - edges[0]:.2g} $\\sigma$")
    axis.set_title(f"{counts.sum():,.0f} of {n_points:,} pairs", loc="left")
    axis.legend(loc="upper left")


def _chi2(axis: Axes, result: FitResult) -> None:
    """chi2 of n independent unit Gaussians scatters by sqrt(2 / n) per point."""
    scatter = np.sqrt(2.0 * len(result.phi) / max(result.n_points, 1))
    axis.axhspan(
        1 - 2 * scatter, 1 + 2 * scatter, color="0.88", lw=0, label="1 ± 2 s.d. for independent noise, exact $\\sigma$"
    )
    axis.axhline(1.0, color=MUTED, lw=0.8)
    order = np.argsort(result.phi)
    axis.plot(result.phi[order], result.chi2_per_angle[order], "o", ms=4.5, color=DATA_COLOR, label="one angle")
    axis.axhline(
        result.chi2_reduced, color=MODEL_COLOR, ls="--", lw=1.0, label=f"all angles, reduced: {result.chi2_reduced:.4f}"
    )
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.45 * (high - low))  # room for the legend
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.set_xlabel("$\\phi$ [degree]")
    axis.set_ylabel("$\\chi^2$ per point")
    axis.set_title(f"$\\sigma$ {result.sigma_source}", loc="left")
    axis.legend(loc="upper left")
