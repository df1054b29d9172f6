"""How the fit converged: excess cost and scaled gradient by pass, warm-up and full data told apart."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from homodyne.plots.canvas import DATA_COLOR, LIMIT_COLOR, MODEL_COLOR, MUTED, new_figure, styled
from homodyne.result import FitResult

#: Rounding of a sum of float64 squares: excess costs below it are zero, and drawn at it.
FLOOR = 1e-16
STAGE_COLORS = {"subset": "#b8860b", "full": DATA_COLOR, "full_2": "#7b3294", "full_3": "#1b7837"}
_STAGE_LABELS = {"full_2": "full, second optimum", "full_3": "full, third optimum"}


@styled
def history_figure(result: FitResult) -> Figure:
    """Upper: (cost - lowest cost of its stage) / lowest, by pass; lower: gradient and step in iid standard errors.

    The stages sum over different points, so each is measured against its own lowest cost.
    """
    history = result.history
    figure = new_figure(6.4, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1.0))
    passes = np.arange(1, history.sizes["pass"] + 1)
    _excess_panel(upper, passes, history)
    _gradient_panel(lower, passes, history)
    seconds = float(history["seconds"].sum())
    upper.set_title(f"{result.status.value} after {len(passes)} passes, {seconds:.2g} s in passes", loc="left")
    figure.legend(handles=_legend(history), loc="outside upper left", ncols=2)
    return figure


def excess_cost(history: xr.Dataset) -> np.ndarray:
    """Cost above the lowest accepted cost of the same stage, relative to it, (pass,); zero where it is the lowest."""
    cost, stage = history["cost"].values, history["stage"].values.astype(str)
    usable = np.isfinite(cost) & (history["accepted"].values > 0)
    out = np.full(cost.shape, np.nan)
    for name in np.unique(stage):
        inside = stage == name
        if not np.any(inside & usable):
            continue
        best = cost[inside & usable].min()
        out[inside] = (cost[inside] - best) / best if best > 0 else cost[inside] - best
    return out


def _excess_panel(axis: Axes, passes: np.ndarray, history: xr.Dataset) -> None:
    stage, accepted = history["stage"].values.astype(str), history["accepted"].values > 0
    excess = excess_cost(history)
    drawn = np.where(excess > FLOOR, excess, FLOOR)
    drawn[~np.isfinite(excess)] = np.nan
    for name, color in STAGE_COLORS.items():
        inside = stage == name
        if not inside.any():
            continue
        good, zero = inside & accepted, inside & accepted & (excess <= FLOOR)
        above = good & ~zero
        axis.plot(passes[above], drawn[above], "o-", ms=4.5, color=color)
        axis.plot(passes[zero], drawn[zero], "v", ms=6, mfc="white", color=color, zorder=3)
        bad = inside & ~accepted
        axis.plot(passes[bad], drawn[bad], "x", ms=6, color=LIMIT_COLOR)
        axis.axvspan(passes[inside][0] - 0.5, passes[inside][-1] + 0.5, color=color, alpha=0.07, lw=0)
    axis.set_yscale("log")
    axis.set_ylabel("cost above the stage's\nlowest, relative")


def _legend(history: xr.Dataset) -> list[Line2D]:
    stage, points = history["stage"].values.astype(str), history["points"].values
    handles = [
        Line2D(
            [],
            [],
            marker="o",
            ms=4.5,
            color=color,
            label=f"{_STAGE_LABELS.get(name, name)}: {_count(points[stage == name].max())} points a pass",
        )
        for name, color in STAGE_COLORS.items()
        if np.any(stage == name)
    ]
    handles.append(
        Line2D([], [], marker="v", ms=6, mfc="white", ls="", color=MUTED, label="lowest of its stage (zero)")
    )
    if np.any(history["accepted"].values == 0):
        handles.append(Line2D([], [], marker="x", ms=6, ls="", color=LIMIT_COLOR, label="rejected trial"))
    return handles


def _gradient_panel(axis: Axes, passes: np.ndarray, history: xr.Dataset) -> None:
    stage = history["stage"].values.astype(str)
    rows = (("gradient_norm", "gradient", "0.15", "o-"), ("step_norm", "step", MODEL_COLOR, "s--"))
    for name, label, color, line in rows:
        values = history[name].values.astype(float)
        drawn = np.where(values > 0, values, np.nan)  # a zero has no place on a log axis
        for nth, kind in enumerate(k for k in STAGE_COLORS if np.any(stage == k)):
            inside = stage == kind
            axis.plot(passes[inside], drawn[inside], line, ms=4, color=color, label=label if nth == 0 else None)
    for name, color in STAGE_COLORS.items():
        inside = stage == name
        if inside.any():
            axis.axvspan(passes[inside][0] - 0.5, passes[inside][-1] + 0.5, color=color, alpha=0.07, lw=0)
    axis.set_yscale("log")
    axis.set_xlim(0.5, len(passes) + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("pass over the data")
    axis.set_ylabel("largest component\n[iid standard errors]")
    axis.legend(loc="upper right")


def _count(points: float) -> str:
    """A count as people read it: 812, 45 k, 0.45 M, 15 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if points >= 0.1 * size and points >= 1e3:
            return f"{points / size:.3g} {unit}"
    return f"{points:.0f}"
