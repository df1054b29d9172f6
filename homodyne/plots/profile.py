"""A profile likelihood beside the parabola that a linear error assumes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from homodyne.plots.canvas import DATA_COLOR, LIMIT_COLOR, MODEL_COLOR, MUTED, new_figure, styled
from homodyne.result import Profile
from homodyne.result.intervals import quantile

#: Confidence levels that are drawn as lines.
LEVELS = (0.6827, 0.95)


@styled
def profile_figure(profile: Profile) -> Figure:
    """The statistic over the parameter, the parabola of the linear error, and the intervals where it crosses the levels."""
    figure = new_figure(5.6, 4.0)
    axis = figure.subplots()
    order = np.argsort(profile.values)
    values, statistic = np.asarray(profile.values)[order], np.asarray(profile.statistic)[order]
    span = (float(values[0]), float(values[-1]))
    # room above the highest line: a profile that climbs further is cut, its shape there means little
    top = max(1.6 * quantile(LEVELS[-1]) ** 2, min(float(np.nanmax(statistic)), 10.0))
    _parabola(axis, profile, span)
    axis.plot(values, statistic, "o-", ms=3.5, color=DATA_COLOR, label="profile: all other parameters fitted anew")
    axis.axvline(profile.best, color=MUTED, lw=0.8, ls=":")
    _levels(axis, profile, span)
    axis.set_xlim(*span)
    axis.set_ylim(-0.03 * top, top)
    axis.set_xlabel(f"{profile.name} [{profile.unit}]" if profile.unit else profile.name)
    axis.set_ylabel(f"rise above the best fit\n[squared {profile.method} errors]")
    figure.legend(loc="outside upper left", ncols=1)
    return figure


def _parabola(axis: Axes, profile: Profile, span: tuple[float, float]) -> None:
    value, stderr = profile.linear
    if not (np.isfinite(stderr) and stderr > 0):
        return
    x = np.linspace(*span, 201)
    label = f"linear error ({profile.method}): {value:.5g} ± {stderr:.2g}".replace("-", "−")
    axis.plot(x, ((x - value) / stderr) ** 2, ls="--", lw=1.0, color=MODEL_COLOR, label=label)


def _levels(axis: Axes, profile: Profile, span: tuple[float, float]) -> None:
    for level in LEVELS:
        height = quantile(level) ** 2
        axis.axhline(height, color="0.7", lw=0.8, zorder=0)
        axis.text(
            0.995,
            height,
            f"{100 * level:.3g} %",
            transform=axis.get_yaxis_transform(),
            ha="right",
            va="bottom",
            fontsize=8,
        )
        if level not in profile.intervals:
            continue
        ends = profile.intervals[level]
        shown = np.clip(ends, *span)
        weight = 1.0 if level == LEVELS[0] else 0.55
        axis.plot(shown, [height] * 2, color=LIMIT_COLOR, lw=2.5, alpha=weight, label=_interval(level, *ends))
        inside = [end for end in ends if span[0] <= end <= span[1]]
        axis.vlines(inside, 0.0, height, color=LIMIT_COLOR, lw=0.8, ls=":")


def _interval(level: float, low: float, high: float) -> str:
    closed = np.isfinite(low), np.isfinite(high)
    text = {
        (True, True): f"{low:.5g} to {high:.5g}",
        (True, False): f"above {low:.5g}",
        (False, True): f"below {high:.5g}",
        (False, False): "open on both sides",
    }[closed]
    return f"{100 * level:.3g} %: {text}".replace("-", "−")
