"""Fits of many files side by side, against temperature, time or their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from homodyne.plots.canvas import DATA_COLOR, LIMIT_COLOR, MUTED, new_figure, styled
from homodyne.plots.windows import scale_values
from homodyne.result import FitResult
from homodyne.result.intervals import quantile

_PER_ROW = 3
_ERROR = 0.6827


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The fit of one file; ``x`` is where it stands in the series, NaN where it does not say."""

    file: str
    x: float
    result: FitResult

    @staticmethod
    def free(fits: Sequence[Fitted]) -> list[str]:
        """Parameters that are fitted in any file, in the order of the model."""
        return [p.name for p in fits[0].result.parameters if any(p.name not in f.result.fixed for f in fits)]

    def with_error(self, name: str) -> str:
        """Value and error for a table."""
        value, error = self.result.theta[name], self.result.stderr[name]
        if np.isfinite(error):
            return f"{value:.5g} ± {error:.2g}"
        return f"{value:.5g} at bound" if np.isnan(error) else f"{value:.5g} undetermined"


@styled
def batch_figure(fits: Sequence[Fitted], against: str) -> Figure:
    """A panel for every free parameter with one standard error, and one for chi2/N; ``against`` names the axis."""
    names = Fitted.free(fits)
    columns = min(_PER_ROW, len(names) + 1)
    rows = -(-(len(names) + 1) // columns)
    figure = new_figure(max(3.4 * columns, 5.0), 0.7 + 2.5 * rows)
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.08)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    x = np.array([fit.x for fit in fits])
    for axis, name in zip(axes.flat, names, strict=False):
        _parameter(axis, fits, x, name)
    axis = axes.flat[len(names)]
    axis.set_axis_on()
    axis.plot(x, [fit.result.chi2_reduced for fit in fits], "o", ms=3.5, color=DATA_COLOR)
    axis.set_ylabel(r"$\chi^2$/N")
    for axis in axes.flat[: len(names) + 1]:
        axis.set_xlabel(against)
    figure.legend(handles=_legend(fits), loc="outside upper left", ncols=3)
    return figure


def _parameter(axis: Axes, fits: Sequence[Fitted], x: np.ndarray, name: str) -> None:
    axis.set_axis_on()
    values = np.array([fit.result.theta[name] for fit in fits])
    errors = np.array([fit.result.stderr[name] for fit in fits])
    known = np.isfinite(errors)
    for fit, at, value, error in zip(fits, x, values, errors, strict=True):
        color = DATA_COLOR if fit.result.converged else LIMIT_COLOR
        bar = quantile(_ERROR, fit.result.uncertainty.dof) * error if np.isfinite(error) else None
        axis.errorbar(
            at, value, bar, fmt="o", ms=3.5, lw=1.0, color=color if bar is not None else MUTED,
            mec=color, mfc=color if bar is not None else "white",
        )  # fmt: skip
    scale_values(
        axis, next(p for p in fits[0].result.parameters if p.name == name), values, np.where(known, errors, 0.0)
    )


def _legend(fits: Sequence[Fitted]) -> list[Line2D]:
    method = fits[0].result.covariance_method
    handles = [Line2D([], [], marker="o", ms=3.5, color=DATA_COLOR, label=f"one file, one error: {method}")]
    if any(not np.isfinite(f.result.stderr[n]) for f in fits for n in Fitted.free(fits)):
        handles.append(
            Line2D(
                [], [], marker="o", ms=3.5, color=MUTED, mfc="white", mec=DATA_COLOR, label="undetermined or at a bound"
            )
        )
    if not all(f.result.converged for f in fits):
        handles.append(Line2D([], [], marker="o", ms=3.5, color=LIMIT_COLOR, label="not converged"))
    return handles
