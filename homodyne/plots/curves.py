"""The rates J(t), gamma_dot(t) with their errors: what the data determine, also where single parameters are open."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

from homodyne.plots.canvas import DATA_COLOR, MODEL_COLOR, MUTED, new_figure, styled
from homodyne.result import FitResult
from homodyne.result.intervals import quantile

#: Where the relative error exceeds this a curve is grayed: the data do not determine it there.
LARGEST_RELATIVE_ERROR = 0.25
LEVELS = (0.6827, 0.95)
#: Factor beyond the curve to which bands are followed on a logarithmic axis; an infinite error fills the panel.
REACH = 5.0
UNDETERMINED_COLOR = "0.86"
SYMBOLS = {"J": "$J$", "gamma_dot": r"$\dot\gamma$", "A": "$A = \\int J\\,dt$", "G": r"$\Gamma = \int\dot\gamma\,dt$"}
UNITS = {"angstrom^2 s^-1": "Å$^2$ s$^{-1}$", "s^-1": "s$^{-1}$", "angstrom^2": "Å$^2$"}
#: Errors shown beside the chosen ones.
COMPARED = {
    "speckle": ("#3b7a57", ":", "speckle: the noise of speckle"),
    "repetitions": ("#8a5a9e", (0, (5, 1)), "repetitions: scatter between them"),
    "jackknife": (MODEL_COLOR, "-.", "jackknife: scatter between angles"),
    "uniform": (MUTED, "--", "uniform: with equal weights for all pairs"),
    "iid": (MUTED, "--", "iid: were all pairs independent (too small)"),
}


@styled
def curves_figure(result: FitResult) -> Figure:
    """One column a rate: the rate with 68 % and 95 % bands, its relative error by every method, its integral."""
    columns = rates_and_integrals(result.curve_table)
    with_integrals = any(integral for _, integral in columns)
    rows = 3 if with_integrals else 2
    figure = new_figure(max(4.6 * len(columns), 6.6), 7.0 if with_integrals else 5.2)
    figure.set_layout_engine("constrained", w_pad=0.08)
    axes = figure.subplots(rows, len(columns), squeeze=False, sharex="col", height_ratios=(2.2, 1.3, 1.2)[:rows])
    for column, (rate, integral) in zip(axes.T, columns, strict=True):
        _curve(column[0], result, rate)
        _relative_errors(column[1], result, rate)
        if with_integrals and integral:
            _curve(column[2], result, integral)
        elif with_integrals:
            column[2].set_axis_off()
        _time_axis(column, result.curve_table["t"].values)
    figure.legend(handles=_legend(result), loc="outside upper left", ncols=2)
    return figure


def rates_and_integrals(table: xr.Dataset) -> list[tuple[str, str]]:
    """Names of the rates, each with that of its integral: the first left that has its unit times a second, "" for none."""
    left = {str(n): table[n].attrs.get("units", "") for n in table.data_vars if f"{n}_stderr" in table}
    found = []
    while left:
        rate = next((n for n, unit in left.items() if unit.endswith("s^-1")), next(iter(left)))
        wanted = left.pop(rate).removesuffix("s^-1").strip() or "1"
        integral = next((n for n, unit in left.items() if unit == wanted), "")
        left.pop(integral, None)
        found.append((rate, integral))
    return found


def undetermined(values: np.ndarray, stderr: np.ndarray) -> np.ndarray:
    """True where the error exceeds ``LARGEST_RELATIVE_ERROR`` of the value, or is not known."""
    return ~(stderr <= LARGEST_RELATIVE_ERROR * np.abs(values))


def _shown(table: xr.Dataset) -> np.ndarray:
    """Positions with a place on a logarithmic time axis: all but the first frame."""
    return np.flatnonzero(table["t"].values > 0)


def _curve(axis: Axes, result: FitResult, name: str) -> None:
    table = result.curve_table
    at = _shown(table)
    t, values, stderr = (table[n].values[at] for n in ("t", name, f"{name}_stderr"))
    low, high = _limits(axis, values, stderr * quantile(LEVELS[1], result.uncertainty.dof))
    for level, alpha in zip(LEVELS, (0.38, 0.18), strict=True):
        half = np.where(np.isfinite(stderr), quantile(level, result.uncertainty.dof) * stderr, np.nan)
        below, above = np.clip(values - half, low, high), np.clip(values + half, low, high)
        axis.fill_between(t, below, above, color=DATA_COLOR, alpha=alpha, lw=0)
    beside = next((f"{name}_stderr_{m}" for m in ("uniform", "iid") if f"{name}_stderr_{m}" in table), None)
    if result.covariance_method != "iid" and beside is not None:
        half = quantile(LEVELS[1]) * table[beside].values[at]
        for edge in (values - half, values + half):
            axis.plot(t, np.where(np.isfinite(edge) & (edge > low), edge, np.nan), ls="--", lw=0.7, color="0.25")
    axis.plot(t, values, color=DATA_COLOR)
    _gray(axis, t, undetermined(values, stderr))
    axis.set_ylim(low, high)
    if low > 0:
        _decades(axis, low, high)
    axis.set_ylabel(_label(name, table))


def _limits(axis: Axes, values: np.ndarray, half: np.ndarray) -> tuple[float, float]:
    """Axis limits that hold the curve and its band as far as it is of use; logarithmic where all is positive."""
    finite = np.nan_to_num(half, nan=0.0, posinf=0.0)
    smallest, largest = float(values.min()), float(values.max())
    if smallest > 0:
        axis.set_yscale("log")
        below = np.where(values - finite > 0, values - finite, values / REACH)
        low = max(smallest / REACH, float(below.min()))
        high = min(largest * REACH, float((values + finite).max()))
        return low / 1.3, high * 1.3
    span = max(largest - smallest, 1e-300)
    low = max(smallest - REACH * span, float((values - finite).min()))
    high = min(largest + REACH * span, float((values + finite).max()))
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _decades(axis: Axes, low: float, high: float) -> None:
    """Labels at powers of ten where there are two of them, at 2 and 5 otherwise."""
    if np.floor(np.log10(high)) > np.ceil(np.log10(low)):
        axis.yaxis.set_minor_formatter(NullFormatter())
    else:
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))


def _gray(axis: Axes, t: np.ndarray, where: np.ndarray) -> None:
    """Gray over every run of True, to halfway (in log t) between it and its neighbors."""
    between = np.sqrt(t[1:] * t[:-1])
    borders = np.concatenate([[t[0] / 1.5], between, [t[-1] * 1.5]])
    steps = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(int)))
    for first, last in zip(steps[::2], steps[1::2], strict=True):
        axis.axvspan(borders[first], borders[last], color=UNDETERMINED_COLOR, lw=0, zorder=0)


def _relative_errors(axis: Axes, result: FitResult, name: str) -> None:
    table = result.curve_table
    at = _shown(table)
    t, values = table["t"].values[at], np.abs(table[name].values[at])
    methods = [m for m in (*COMPARED, result.covariance_method) if f"{name}_stderr_{m}" in table]
    for method in methods:
        with np.errstate(divide="ignore", invalid="ignore"):
            percent = 100.0 * table[f"{name}_stderr_{method}"].values[at] / values
        percent[~(np.isfinite(percent) & (percent > 0))] = np.nan
        if method == result.covariance_method:
            axis.plot(t, percent, color=DATA_COLOR)
        else:
            axis.plot(t, percent, color=COMPARED[method][0], ls=COMPARED[method][1], lw=1.0)
    axis.axhline(100.0 * LARGEST_RELATIVE_ERROR, color=MUTED, lw=0.7)
    _gray(axis, t, undetermined(values, table[f"{name}_stderr"].values[at]))
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(min(max(low, 1e-3), 1.0), min(max(high, 40.0), 1e3))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel(f"error of {_symbol(name)}\n(one s.d.) [%]")


def _time_axis(column: np.ndarray, t: np.ndarray) -> None:
    positive = t[t > 0]
    column[0].set_xscale("log")
    column[0].set_xlim(positive[0], positive[-1])
    lowest = [axis for axis in column if axis.axison][-1]
    lowest.set_xlabel("$t$ [s]")
    lowest.tick_params(labelbottom=True)
    lowest.xaxis.set_major_formatter("{x:g}")


def _symbol(name: str) -> str:
    return SYMBOLS.get(name, name).partition(" =")[0].rstrip("$") + "$" if name in SYMBOLS else name


def _label(name: str, table: xr.Dataset) -> str:
    unit = table[name].attrs.get("units", "")
    shown = "" if unit in ("", "1") else f" [{UNITS.get(unit, unit)}]"
    return f"{SYMBOLS.get(name, name)}{shown}"


def _legend(result: FitResult) -> list[Line2D | Patch]:
    chosen = result.covariance_method
    state = "fit" if result.converged else f"NOT CONVERGED ({result.status.value})"
    percent = f"{100 * LARGEST_RELATIVE_ERROR:.0f} %"
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=DATA_COLOR, label=f"{state}, errors: {chosen}"),
        Patch(color=DATA_COLOR, alpha=0.5, lw=0, label="68 % and (lighter) 95 % band"),
        Patch(color=UNDETERMINED_COLOR, lw=0, label=f"error above {percent}: not determined"),
    ]
    if "q_exponent" in result.theta:
        handles.append(Line2D([], [], ls="", label=f"$J$ and $A$ at $q$ = {result.q_ref:g} Å$^{{-1}}$"))
    for method, (color, line, label) in COMPARED.items():
        if method != chosen and any(str(n).endswith(f"_stderr_{method}") for n in result.curve_table):
            handles.append(Line2D([], [], color=color, ls=line, lw=1.0, label=label))
    return handles
