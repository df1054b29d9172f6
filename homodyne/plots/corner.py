"""Draws of a posterior by pairs of parameters, beside the normal distribution that the fit's errors stand for."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter

from homodyne.plots.canvas import DATA_COLOR, MODEL_COLOR, MUTED, new_figure, styled
from homodyne.result.posterior import Posterior

#: Probabilities inside the contours and the ellipses.
LEVELS = (0.6827, 0.95)
#: Part of the draws that is cut off at either end of an axis, and bins of a histogram and of a density.
OUTSIDE, BINS, CELLS = 0.001, 40, 48
#: Width of the kernel that smooths a density, in its cells.
SMOOTHING = 1.3
SYMBOLS = {
    "D0": "$D_0$", "alpha": r"$\alpha$", "D_offset": r"$D_\mathrm{offset}$", "gamma_dot_0": r"$\dot\gamma_0$", "beta": r"$\beta$",
    "gamma_dot_offset": r"$\dot\gamma_\mathrm{offset}$", "phi0": r"$\phi_0$",
}  # fmt: skip
UNITS = {"angstrom^2 s^-1": "Å$^2$/s", "s^-1": "1/s", "degree": "deg", "": "", "1": ""}


@styled
def corner_figure(posterior: Posterior) -> Figure:
    """Diagonal: histogram and the fit's normal distribution; below: contours of the draws and ellipses of the fit."""
    names, weights = posterior.names, posterior.weights
    draws = {name: posterior.draws(name) for name in names}
    n = len(names)
    figure = new_figure(max(1.45 * n + 0.8, 4.4), max(1.45 * n + 1.0, 4.6))
    axes = figure.subplots(n, n, squeeze=False)
    limits = {name: _limits(draws[name], weights) for name in names}
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            axis = axes[i, j]
            if j > i:
                axis.set_axis_off()
            elif i == j:
                _marginal(axis, posterior, row, draws[row], weights, limits[row])
            else:
                _pair(axis, posterior, (j, i), draws[column], draws[row], weights, (limits[column], limits[row]))
            if j <= i:
                _axis_labels(axis, posterior, i, j, limits)
    figure.legend(handles=_legend(posterior), loc="outside upper right")
    return figure


def _limits(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    order = np.argsort(values)
    low, high = np.interp([OUTSIDE, 1 - OUTSIDE], np.cumsum(weights[order]), values[order])
    pad = 0.05 * (high - low) or abs(low) * 0.01 or 1.0
    return float(low - pad), float(high + pad)


def _marginal(axis: Axes, posterior: Posterior, name: str, values, weights, limits: tuple[float, float]) -> None:
    density, edges = np.histogram(values, bins=BINS, range=limits, weights=weights, density=True)
    axis.stairs(density, edges, fill=True, color=DATA_COLOR, alpha=0.45)
    position = posterior.names.index(name)
    error = float(np.sqrt(posterior.fit_covariance[position, position]))
    if np.isfinite(error) and error > 0:
        x = np.linspace(*limits, 201)
        unit = (x - posterior.fit_theta[name]) / error
        axis.plot(x, np.exp(-0.5 * unit**2) / (error * np.sqrt(2 * np.pi)), color=MODEL_COLOR, lw=1.0, ls="--")
    low, high = posterior.interval(name, 0.95)
    for end in (low, high):
        axis.axvline(end, color=MUTED, lw=0.7, ls=":")
    axis.set_xlim(*limits)
    axis.set_ylim(bottom=0.0)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_title(f"{posterior.mean[name]:.4g} ± {posterior.sd[name]:.2g}".replace("-", "−"), fontsize=7.5)


def _pair(axis: Axes, posterior: Posterior, where: tuple[int, int], x, y, weights, limits) -> None:
    density, x_edges, y_edges = np.histogram2d(x, y, bins=CELLS, range=limits, weights=weights)
    smooth = gaussian_filter(density, SMOOTHING)
    heights = sorted({height for height in (_height(smooth, level) for level in LEVELS) if height > 0})
    if heights:
        centers = [0.5 * (edges[1:] + edges[:-1]) for edges in (x_edges, y_edges)]
        shades = [(*_rgb(DATA_COLOR), alpha) for alpha in (0.22, 0.5)][-len(heights) :]
        axis.contourf(*centers, smooth.T, levels=[*heights, smooth.max() * 1.0001], colors=shades)
        axis.contour(*centers, smooth.T, levels=heights, colors=DATA_COLOR, linewidths=0.7)
    for level in LEVELS:
        ellipse = _ellipse(posterior, where, level)
        if ellipse is not None:
            axis.plot(*ellipse, color=MODEL_COLOR, lw=0.9, ls="--")
    axis.set_xlim(*limits[0])
    axis.set_ylim(*limits[1])


def _height(density: np.ndarray, level: float) -> float:
    """The height above which a part ``level`` of a density lies."""
    ordered = np.sort(density.ravel())[::-1]
    inside = np.cumsum(ordered)
    return float(ordered[np.searchsorted(inside, level * inside[-1])]) if inside[-1] > 0 else 0.0


def _rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _ellipse(posterior: Posterior, where: tuple[int, int], level: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The curve that holds a part ``level`` of the fit's normal distribution; None where it has none."""
    covariance = posterior.fit_covariance[np.ix_(where, where)]
    scale = np.sqrt(np.diag(covariance))
    if not (np.all(np.isfinite(covariance)) and np.all(scale > 0)):
        return None
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    angle = np.linspace(0, 2 * np.pi, 121)
    # of two normal variables the squared radius exceeds r**2 with probability exp(-r**2 / 2)
    radius = np.sqrt(-2.0 * np.log1p(-level))
    circle = radius * np.sqrt(np.maximum(values, 0.0))[:, None] * np.stack([np.cos(angle), np.sin(angle)])
    x, y = (vectors @ circle) * scale[:, None]
    center = [posterior.fit_theta[posterior.names[i]] for i in where]
    return center[0] + x, center[1] + y


def _axis_labels(axis: Axes, posterior: Posterior, i: int, j: int, limits) -> None:
    last = len(posterior.names) - 1
    axis.xaxis.set_major_locator(MaxNLocator(2))
    axis.tick_params(labelsize=6.5, labelrotation=0)
    if j < i:
        axis.yaxis.set_major_locator(MaxNLocator(3))
    if i == last:
        axis.set_xlabel(label(posterior, j))
    else:
        axis.tick_params(labelbottom=False)
    if j == 0 and i > 0:
        axis.set_ylabel(label(posterior, i))
    elif j != i:
        axis.tick_params(labelleft=False)


def label(posterior: Posterior, position: int) -> str:
    """Symbol and unit of a parameter."""
    name, unit = posterior.names[position], posterior.units[position]
    shown = UNITS.get(unit, unit)
    return f"{SYMBOLS.get(name, name)} [{shown}]" if shown else SYMBOLS.get(name, name)


def _legend(posterior: Posterior) -> list[Line2D | Patch]:
    state = "" if posterior.converged else f"; NOT CONVERGED ({posterior.status})"
    return [
        Patch(
            color=DATA_COLOR,
            alpha=0.5,
            lw=0,
            label=f"draws, {posterior.method}, {posterior.likelihood} likelihood{state}",
        ),
        Line2D([], [], color=MODEL_COLOR, ls="--", lw=1.0, label="fit and its errors, as a normal distribution"),
        Line2D([], [], color=MUTED, ls=":", lw=0.8, label="95 % interval; contours hold 68 % and 95 %"),
    ]
