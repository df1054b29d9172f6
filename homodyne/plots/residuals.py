"""The distribution of residuals beside that of the noise."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from homodyne.plots.canvas import DATA_COLOR, MODEL_COLOR, MUTED
from homodyne.result import FitResult


def expected_counts(edges: np.ndarray, total: float, sd: float = 1.0) -> np.ndarray:
    """Counts per bin of ``total`` Gaussian draws of standard deviation ``sd``, at the bin centers; (n + 1,) -> (n,)."""
    centers = 0.5 * (edges[1:] + edges[:-1])
    return total * np.diff(edges) * np.exp(-0.5 * (centers / sd) ** 2) / (sd * np.sqrt(2.0 * np.pi))


def moments(edges: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a histogram, in the units of ``edges``."""
    centers = 0.5 * (edges[1:] + edges[:-1])
    total = counts.sum()
    if total == 0:
        return float("nan"), float("nan")
    mean = float(counts @ centers / total)
    return mean, float(np.sqrt(counts @ (centers - mean) ** 2 / total))


def residual_histogram(axis: Axes, result: FitResult) -> None:
    """(data - model) / sigma with the Gaussian of width 1, and of the width that the noise of speckle has."""
    edges, counts = result.residual_histogram
    mean, spread = moments(edges, counts)
    centers, total = 0.5 * (edges[1:] + edges[:-1]), float(counts.sum())
    text = f"{total:,.0f} pairs: mean {mean:+.3f}, s.d. {spread:.3f}".replace("-", "−")
    axis.stairs(counts, edges, fill=True, color=DATA_COLOR, alpha=0.35)
    axis.stairs(counts, edges, color=DATA_COLOR, label=text)
    axis.plot(centers, expected_counts(edges, total), color=MUTED, ls=":", label="Gaussian, s.d. 1")
    if "chi2_expected" in result.diagnostics:
        sd = float(np.sqrt(result.diagnostics["chi2_expected"].mean()))
        label = f"Gaussian, s.d. {sd:.3f} as of speckle noise"
        axis.plot(centers, expected_counts(edges, total, sd), color=MODEL_COLOR, ls="--", label=label)
    axis.set_yscale("log")
    highest = max(float(counts.max(initial=1.0)), float(expected_counts(edges, total).max(initial=1.0)))
    axis.set_ylim(0.5, 30.0 * highest)  # room above the curve for the legend
    axis.set_xlim(edges[0], edges[-1])
    axis.set_xlabel("(data − model) / $\\sigma$   (end bins hold all beyond)")
    axis.set_ylabel(f"pairs per bin of {edges[1] - edges[0]:.2g} $\\sigma$")
    axis.set_title(f"$\\sigma$ {result.sigma_source}", loc="left")
    axis.legend(loc="upper left")
