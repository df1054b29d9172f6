"""Fits of windows of one measurement, side by side over the time of the laboratory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from homodyne.parameters import Parameter
from homodyne.plots.canvas import DATA_COLOR, LIMIT_COLOR, MUTED, new_figure, styled
from homodyne.plots.curves import SYMBOLS, UNITS, rates_and_integrals, undetermined
from homodyne.result import FitResult
from homodyne.result.intervals import quantile

#: Values that span more than this factor are drawn on a logarithmic axis.
DECADE = 10.0
_PER_ROW = 3
_ERROR = 0.6827


@dataclasses.dataclass(frozen=True)
class Window:
    """The fit of the frames ``first`` to ``last`` (inclusive, counted from 1), ``dt`` seconds apart.

    Times of the result count from the first frame of the window; frame i of the measurement is at (i - 1) dt in the
    laboratory.
    """

    first: int
    last: int
    dt: float
    result: FitResult

    @property
    def start_s(self) -> float:
        """Time of the laboratory [s] of the first frame."""
        return (self.first - 1) * self.dt

    @property
    def center_s(self) -> float:
        """Time of the laboratory [s] of the middle."""
        return 0.5 * (self.first + self.last - 2) * self.dt


@styled
def windows_figure(windows: Sequence[Window]) -> Figure:
    """A panel for every free parameter, theta with its error at the middle of each window, and one for every rate.

    Bars along the time are the windows, along the parameter one standard error by the method of the fits.
    """
    ordered = sorted(windows, key=lambda w: w.first)
    names = free_parameters(ordered)
    rates = [rate for rate, _ in rates_and_integrals(ordered[0].result.curve_table)]
    columns = min(_PER_ROW, max(len(names), len(rates)))
    rows = -(-len(names) // columns) + -(-len(rates) // columns)
    figure = new_figure(max(3.4 * columns, 5.0), 0.7 + 2.5 * rows)
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.08)
    axes = figure.subplots(rows, columns, squeeze=False)
    first_rate = -(-len(names) // columns) * columns
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        _parameter(axis, ordered, name)
    for axis, rate in zip(axes.flat[first_rate:], rates, strict=False):
        _rate(axis, ordered, rate)
    figure.legend(handles=_legend(ordered), loc="outside upper left", ncols=2)
    return figure


def free_parameters(windows: Sequence[Window]) -> list[str]:
    """Parameters that are fitted in any window, in the order of the model."""
    return [p.name for p in windows[0].result.parameters if any(p.name not in w.result.fixed for w in windows)]


def _parameter(axis: Axes, windows: Sequence[Window], name: str) -> None:
    axis.set_axis_on()
    values = np.array([w.result.theta[name] for w in windows])
    errors = np.array([w.result.stderr[name] for w in windows])
    known = np.isfinite(errors)
    for w, value, error in zip(windows, values, errors, strict=True):
        color = DATA_COLOR if w.result.converged else LIMIT_COLOR
        half = 0.5 * (w.last - w.first) * w.dt
        bar = quantile(_ERROR, w.result.uncertainty.dof) * error if np.isfinite(error) else None
        axis.errorbar(
            w.center_s, value, bar, half, fmt="o", ms=4.0, lw=1.1, color=color if bar is not None else MUTED,
            mec=color, mfc=color if bar is not None else "white",
        )  # fmt: skip
    scale_values(
        axis, next(p for p in windows[0].result.parameters if p.name == name), values, np.where(known, errors, 0.0)
    )
    _time(axis, windows)


def scale_values(axis: Axes, parameter: Parameter, values: np.ndarray, errors: np.ndarray) -> None:
    """Limits that hold values and errors, logarithmic where values span more than a decade, and a label with the unit."""
    low, high = (values - errors).min(), (values + errors).max()
    if low > 0 and values.max() > DECADE * values.min():
        axis.set_yscale("log")
    elif high > low:
        axis.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    name, unit = parameter.name, parameter.unit
    axis.set_ylabel(f"{name} [{UNITS.get(unit, unit)}]" if unit not in ("", "1") else name)


def _rate(axis: Axes, windows: Sequence[Window], name: str) -> None:
    """Curves of all windows; dotted where the data do not determine them."""
    axis.set_axis_on()
    values, lows, highs = [], [], []
    for w in windows:
        table = w.result.curve_table
        at = np.flatnonzero(table["t"].values > 0)  # power laws may diverge at the first frame
        t, value, error = (table[n].values[at] for n in ("t", name, f"{name}_stderr"))
        t, half = t + w.start_s, quantile(_ERROR, w.result.uncertainty.dof) * error
        half = np.where(np.isfinite(half), half, np.nan)
        color = DATA_COLOR if w.result.converged else LIMIT_COLOR
        known = ~undetermined(value, error)
        axis.fill_between(t, value - half, value + half, color=color, alpha=0.22, lw=0)
        axis.plot(t, np.where(known, np.nan, value), color=color, lw=1.0, ls=":")
        axis.plot(t, np.where(known, value, np.nan), color=color)
        values.append(value)
        lows.append(np.nanmin(np.where(known, value - half, value)))
        highs.append(np.nanmax(np.where(known, value + half, value)))
    low, high, all_values = min(lows), max(highs), np.concatenate(values)
    if low > 0 and all_values.max() > DECADE * all_values.min():
        axis.set_yscale("log")
    elif high > low:
        axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    unit = windows[0].result.curve_table[name].attrs.get("units", "")
    axis.set_ylabel(f"{SYMBOLS.get(name, name)} [{UNITS.get(unit, unit)}]" if unit not in ("", "1") else name)
    _time(axis, windows)


def _time(axis: Axes, windows: Sequence[Window]) -> None:
    begin, end = windows[0].start_s, max((w.last - 1) * w.dt for w in windows)
    margin = 0.03 * (end - begin)
    axis.set_xlim(begin - margin, end + margin)
    axis.set_xlabel("time of the measurement [s]")


def _legend(windows: Sequence[Window]) -> list[Line2D]:
    method = windows[0].result.covariance_method
    overlap = any(a.last >= b.first for a, b in pairwise(windows))
    shared = "; windows overlap: neighbors share data" if overlap else ""
    handles = [
        Line2D([], [], marker="o", ms=4.0, color=DATA_COLOR, label=f"fit of a window, one error: {method}{shared}")
    ]
    if any(not np.isfinite(w.result.stderr[n]) for w in windows for n in free_parameters(windows)):
        handles.append(
            Line2D(
                [], [], marker="o", ms=4.0, color=MUTED, mfc="white", mec=DATA_COLOR, label="undetermined or at a bound"
            )
        )
    if not all(w.result.converged for w in windows):
        handles.append(Line2D([], [], marker="o", ms=4.0, color=LIMIT_COLOR, label="not converged"))
    return handles
