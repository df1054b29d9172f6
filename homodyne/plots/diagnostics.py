"""Is the noise what speckle makes, does every angle agree with the model, and what does the model miss?"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from homodyne.plots.canvas import DATA_COLOR, MODEL_COLOR, MUTED, new_figure, styled
from homodyne.plots.residuals import residual_histogram
from homodyne.result import FitResult

#: Influence beyond this many standard errors has the darkest color.
INFLUENCE_REACH = 2.0
#: Influence from here on is written into its cell: without one of many equal angles little should change.
INFLUENCE_WRITTEN = 0.5
#: Angles above which cells are too narrow for numbers, and bars too near each other.
MOST_NUMBERED_ANGLES = 16
#: Bins of few pairs are noisy: the colors of the map hold this part of |residual|.
MAP_PERCENTILE = 98.0
#: One for every q.
MARKERS = "os^Dv"
RESIDUAL_LABEL = "(data − model) / contrast [%]"


@styled
def diagnostics_figure(result: FitResult) -> Figure:
    """Upper row: chi2 by angle, influence of angles, histogram of residuals; lower: mean residual by lag, by age, by both."""
    figure = new_figure(12.0, 7.0)
    axes = figure.subplots(2, 3, height_ratios=(1.1, 1.0))
    _chi2(axes[0, 0], result)
    _influence(axes[0, 1], result)
    residual_histogram(axes[0, 2], result)
    table = result.diagnostics
    _mean_residual(axes[1, 0], table, "lag", "lag $t_2 - t_1$ [s]")
    axes[1, 0].set_xscale("log")
    _mean_residual(axes[1, 1], table, "age", "age $(t_1 + t_2) / 2$ [s]")
    _lag_age_map(axes[1, 2], table)
    for letter, axis in zip("abcdef", axes.flat, strict=True):
        axis.set_title(f"({letter}) {axis.get_title(loc='left')}", loc="left")
    return figure


def _chi2(axis: Axes, result: FitResult) -> None:
    """Neighboring pairs share frames, so chi2 scatters far more than that of as many independent numbers."""
    phi, found = _side_by_side(result), result.chi2_per_angle
    if "chi2_expected" in result.diagnostics:
        few = len(phi) <= MOST_NUMBERED_ANGLES
        expected, sd = (result.diagnostics[n].values for n in ("chi2_expected", "chi2_sd"))
        axis.errorbar(
            phi, expected, 2.0 * sd, fmt="_", ms=9 if few else 4, color="0.6", elinewidth=5 if few else 2, alpha=0.7, zorder=1,
            label="noise of speckle ± 2 s.d.",
        )  # fmt: skip
        axis.set_title("does every angle fit?", loc="left")
    else:
        axis.set_title("every angle (expectation not known)", loc="left")
    rings = sorted(result.q_values)
    for n, q in enumerate(rings):
        here = result.q == q
        color = DATA_COLOR if len(rings) == 1 else colormaps["viridis"](0.85 * n / (len(rings) - 1))
        label = "data" if len(rings) == 1 else f"data, $q = {q:.4g}$ Å$^{{-1}}$"
        axis.plot(phi[here], found[here], MARKERS[n % len(MARKERS)], ms=4.5, color=color, label=label)
    axis.axhline(
        result.chi2_reduced, color=MODEL_COLOR, ls="--", lw=1.0, label=f"all angles, reduced: {result.chi2_reduced:.4g}"
    )
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.4 * (high - low))  # room for the legend
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.set_xlabel("$\\phi$ [degree]")
    axis.set_ylabel("$\\chi^2$ per point")
    axis.legend(loc="upper left")


def _side_by_side(result: FitResult) -> np.ndarray:
    """Positions of the sectors on an axis of phi, those of several q a little apart."""
    rings = sorted(result.q_values)
    step = 0.012 * max(float(np.ptp(result.phi)), 1.0)
    return result.phi + step * (np.searchsorted(rings, result.q) - 0.5 * (len(rings) - 1))


def scaled_influence(result: FitResult) -> xr.DataArray:
    """Shift of every free parameter without a sector, in its standard errors, (free_parameter, phi); by q, then phi."""
    table = result.diagnostics
    stderr = np.array([result.stderr[str(n)] for n in table["free_parameter"].values])
    usable = np.where(np.isfinite(stderr) & (stderr > 0), stderr, np.nan)
    return (
        (table["influence"] / xr.DataArray(usable, dims="free_parameter"))
        .transpose("free_parameter", "phi")
        .isel(phi=np.lexsort((result.phi, result.q)))
    )


def _influence(axis: Axes, result: FitResult) -> None:
    axis.set_title("does one angle decide?", loc="left")
    if "influence" not in result.diagnostics:
        _say(axis, f"influence of single angles:\nnot computed for {len(result.phi)} angles")
        return
    shifts = scaled_influence(result)
    values, phi = shifts.values, shifts["phi"].values
    axis.set_facecolor("0.8")
    image = axis.imshow(
        np.ma.masked_invalid(values), cmap="RdBu_r", vmin=-INFLUENCE_REACH, vmax=INFLUENCE_REACH, aspect="auto", interpolation="nearest"
    )  # fmt: skip
    if len(phi) <= MOST_NUMBERED_ANGLES:
        for row, column in np.argwhere(np.abs(np.nan_to_num(values)) >= INFLUENCE_WRITTEN):
            v = values[row, column]
            axis.text(
                column, row, f"{v:.1f}".replace("-", "−"), ha="center", va="center", fontsize=7,
                color="white" if abs(v) > 0.7 * INFLUENCE_REACH else "black",
            )  # fmt: skip
    every = 1 if len(phi) <= 12 else int(np.ceil(len(phi) / 8))
    axis.set_xticks(np.arange(len(phi))[::every], [f"{p:.0f}".replace("-", "−") for p in phi[::every]])
    axis.set_yticks(np.arange(len(values)), [str(n) for n in shifts["free_parameter"].values])
    axis.tick_params(length=0)
    axis.spines[["left", "bottom"]].set_visible(False)
    rings, counts = np.unique(result.q, return_counts=True)
    for edge in np.cumsum(counts)[:-1]:
        axis.axvline(edge - 0.5, color="black", lw=1.0)
    where = " | ".join(f"{q:.4g}" for q in rings)
    axis.set_xlabel("angle left out, $\\phi$ [degree]" + (f"\nat $q$ = {where} Å$^{{-1}}$" if len(rings) > 1 else ""))
    bar = axis.figure.colorbar(image, ax=axis, extend="both", pad=0.02)
    bar.set_label("shift [standard errors]")


def _mean_residual(axis: Axes, table: xr.Dataset, by: str, label: str) -> None:
    values = 100.0 * table[f"by_{by}"]
    axis.axhline(0.0, color=MUTED, lw=0.8)
    axis.plot(table[by].values, values.values, "o-", ms=3.5, lw=1.0, color=DATA_COLOR)
    reach = 1.15 * _reach(values.values)
    axis.set_ylim(-reach, reach)
    axis.set_xlabel(label)
    axis.set_ylabel(RESIDUAL_LABEL)
    axis.set_title(f"mean residual by {by}", loc="left")


def _lag_age_map(axis: Axes, table: xr.Dataset) -> None:
    percent = 100.0 * table["by_lag_and_age"].transpose("age", "lag").values
    reach = _reach(percent, MAP_PERCENTILE)
    axis.set_facecolor("0.8")  # no pair has this lag at this age
    image = axis.pcolormesh(
        log_edges(table["lag"].values), edges(table["age"].values), np.ma.masked_invalid(percent),
        cmap="RdBu_r", norm=Normalize(-reach, reach), rasterized=True,
    )  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlabel("lag $t_2 - t_1$ [s]")
    axis.set_ylabel("age $(t_1 + t_2) / 2$ [s]")
    axis.set_title("mean residual by lag and age", loc="left")
    axis.figure.colorbar(image, ax=axis, extend="both", pad=0.02).set_label(RESIDUAL_LABEL)


def edges(centers: np.ndarray) -> np.ndarray:
    """Borders (n + 1,) halfway between ``centers`` (n,)."""
    if len(centers) < 2:
        return np.array([0.5, 1.5]) * centers[0]
    between = 0.5 * (centers[1:] + centers[:-1])
    return np.concatenate([[2 * centers[0] - between[0]], between, [2 * centers[-1] - between[-1]]])


def log_edges(centers: np.ndarray) -> np.ndarray:
    """Borders halfway between ``centers`` in logarithms."""
    return np.exp(edges(np.log(centers))) if len(centers) > 1 else np.array([0.7, 1.4]) * centers[0]


def _reach(values: np.ndarray, percentile: float = 100.0) -> float:
    """Half width of a symmetric range that holds this part of the finite values; 1 where they vanish."""
    finite = np.abs(values[np.isfinite(values)])
    return (float(np.percentile(finite, percentile)) if finite.size else 0.0) or 1.0


def _say(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="0.3")
    axis.set_axis_off()
