"""A profile likelihood: how the best fit worsens as one parameter is moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Profile:
    """Profile of one parameter.

    Attributes:
        name, unit: of the parameter. best: its fitted value.
        values: (n,), ascending. statistic: (n,), rise of chi2 with all others refitted, in squared standard errors of
            ``method``: near the best value ((value - best) / stderr)**2.
        linear: (value, stderr) of the fit, whose parabola the statistic would be if the model were linear.
        intervals: {level: (low, high)}, where the statistic stays below the squared quantile of the level. A side that the
            data leave open within the parameter's bounds is -inf or inf.
        method: of the errors. passes: over the data, that this took.
    """

    name: str
    unit: str
    best: float
    values: np.ndarray
    statistic: np.ndarray
    linear: tuple[float, float]
    intervals: Mapping[float, tuple[float, float]]
    method: str
    passes: int

    @property
    def asymmetry(self) -> float:
        """(upper - lower) / (upper + lower) of the half widths at the lowest level; 0 for a parabola, nan for an open side."""
        low, high = self.intervals[min(self.intervals)]
        up, down = high - self.best, self.best - low
        return float((up - down) / (up + down)) if np.isfinite(up + down) and up + down > 0 else float("nan")

    def interval(self, level: float) -> tuple[float, float]:
        """The interval of one of the levels asked for; KeyError for another."""
        return self.intervals[level]
