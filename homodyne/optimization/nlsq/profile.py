"""Profile likelihood: the parameter held at one value after another, everything else fitted again over all points.

The rise of chi2 is measured in honest units. Where noise is not independent, 2 (cost - least cost) / chi2_reduced is not
chi2 distributed; divided by the ratio of honest to iid variance of the parameter it is, to first order (Rotnitzky and
Jewell 1990), and it keeps the asymmetry of the model. Of a whitened fit the cost is that of its weights.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from homodyne.errors import InputError
from homodyne.models import Model
from homodyne.optimization.nlsq.finished import Finished, request_of
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.problem import problem
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.source import BlockSource
from homodyne.optimization.trust_region import Info, Tolerances, minimize
from homodyne.parameters import pack
from homodyne.result import FitResult
from homodyne.result.intervals import quantile
from homodyne.result.profile import Profile

log = logging.getLogger("homodyne")

# Steps of half a standard error at first; a step whose statistic grew less than expected is followed by a longer one.
_FIRST, _LONGER, _MOST, _HALVINGS = 0.5, 2.0, 14, 4
_TOLERANCES = Tolerances(xtol=3e-2, max_passes=15)


@dataclasses.dataclass
class _Walk:
    """The fits along one parameter; ``passes`` counts what they cost."""

    request: Request
    index: int
    evaluate: Callable
    slope: np.ndarray  # d theta / d theta_index along the valley
    least: float
    unit: float  # of 2 cost, for one squared honest standard error
    passes: int = 0

    def refit(self, theta: np.ndarray, value: float) -> tuple[np.ndarray, float]:
        """Everything but the parameter fitted again from a guess along the valley; its theta and statistic."""
        lower, upper = (np.array([getattr(p, side) for p in self.request.parameters]) for side in ("lower", "upper"))
        along = np.clip(theta + self.slope * (value - theta[self.index]), lower, upper)
        guesses = []
        for guess in (along, theta.copy()):
            guess[self.index] = value
            if self.request.is_feasible(guess):
                guesses.append(guess)
        if not guesses:
            return theta, np.inf
        # a valley may bend: whichever of the two guesses lies deeper
        if len(guesses) > 1:
            self.passes += 2
        guess = min(guesses, key=lambda x: self.evaluate(x).lowest) if len(guesses) > 1 else guesses[0]
        held = dataclasses.replace(problem(self.request, self.evaluate))
        held.free[self.index] = False
        state = minimize(held, guess, _TOLERANCES, self._count, damping=1e-4)
        return state.theta, max(0.0, (2 * state.at.cost - self.least) / self.unit)

    def _count(self, info: Info) -> None:
        self.passes += 1


def profile(
    source: BlockSource,
    model: Model,
    result: FitResult,
    name: str,
    *,
    levels: Sequence[float] = (0.6827, 0.95),
    options: NLSQOptions | None = None,
    client: Any = None,
) -> Profile:
    """Profile of one parameter of a finished fit, with honest intervals.

    Args:
        source: the data of the fit. model: its model. name: the parameter. levels: of the intervals.
        options: memory settings, as for the fit. client: of ``dask.distributed``: passes of a distributed fit run on its
            workers; without it in this process.

    Raises:
        InputError: a parameter that is unknown, fixed, or numerically undetermined, or a level outside (0, 1).
    """
    index = _index(result, name)
    request = request_of(source, model, result, options or NLSQOptions(), client)
    best = pack(result.theta, result.parameters)
    walk = _start(request, result, index)
    error = float(np.sqrt((result.uncertainty.root[index] ** 2).sum()))
    most = max(quantile(level) for level in levels) ** 2
    sides = [_side(walk, best, error * sign, most) for sign in (-1.0, 1.0)]
    values = np.concatenate([sides[0][0][::-1], [best[index]], sides[1][0]])
    statistic = np.concatenate([sides[0][1][::-1], [0.0], sides[1][1]])
    found = Profile(
        name, result.parameters[index].unit, float(best[index]), values, statistic, (float(best[index]), error),
        {level: _interval(values, statistic, float(best[index]), quantile(level) ** 2) for level in levels},
        result.covariance_method, walk.passes,
    )  # fmt: skip
    log.info(
        "Profile of %s: %s, %d passes", name,
        "; ".join(f"{100 * level:.4g} %: {low:.4g} to {high:.4g}" for level, (low, high) in found.intervals.items()),
        walk.passes,
    )  # fmt: skip
    return found


def _index(result: FitResult, name: str) -> int:
    names = [p.name for p in result.parameters]
    if name not in names or name in result.fixed:
        free = ", ".join(n for n in names if n not in result.fixed)
        problem_text = "is fixed" if name in result.fixed else "is not a parameter"
        raise InputError("name", name, problem_text, f"choose one of {free}")
    index = names.index(name)
    honest = float((result.uncertainty.root[index] ** 2).sum())
    if not (np.isfinite(honest) and honest > 0):
        raise InputError(
            "name", name, "has no error to begin with: it is at a bound or has no influence on the data",
            "widen its bounds, or fix it",
        )  # fmt: skip
    return index


def _start(request: Request, result: FitResult, index: int) -> _Walk:
    """Everything ready, the least cost measured with the same sums as all others."""
    finished = Finished.of(request, result, _TOLERANCES)
    covariance, honest = finished.covariance(), result.uncertainty.root[index]
    slope = covariance[index] / covariance[index, index]
    ratio = float(honest @ honest) / float(covariance[index, index])
    return _Walk(request, index, finished.evaluate, slope, 2 * finished.at.cost, finished.unit * ratio, passes=1)


def _side(walk: _Walk, best: np.ndarray, step: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and statistics to one side, until the statistic passes ``most`` or the bound is reached."""
    bound = getattr(walk.request.parameters[walk.index], "upper" if step > 0 else "lower")
    values, statistics = [], []
    here, value, step, halvings = best, float(best[walk.index]), _FIRST * step, 0
    for _ in range(_MOST):
        last = (value + step - bound) * np.sign(step) >= 0
        before, value = value, bound if last else value + step
        theta, statistic = walk.refit(here, value)
        name = walk.request.parameters[walk.index].name
        log.info(
            "Profile of %s at %.6g: chi2 rises by %.3g squared errors, %d passes", name, value, statistic, walk.passes
        )
        values.append(value)
        statistics.append(statistic)
        if not np.isfinite(statistic) and halvings < _HALVINGS:  # up to where the model makes sense, in shorter steps
            values.pop()
            statistics.pop()
            halvings, value, step = halvings + 1, before, 0.5 * step
            continue
        if statistic > most or last or not np.isfinite(statistic):
            break
        here = theta
        grown = np.sqrt(statistic) - (np.sqrt(statistics[-2]) if len(statistics) > 1 else 0.0)
        step *= _LONGER if grown < 0.7 * _FIRST else 1.0
    return np.array(values), np.array(statistics)


def _interval(values: np.ndarray, statistic: np.ndarray, best: float, limit: float) -> tuple[float, float]:
    """Where the root of the statistic, linear between the fits, crosses that of ``limit`` on either side of the best."""
    out = []
    for sign in (-1, 1):
        pick = values * sign >= best * sign
        x, y = values[pick][::sign], np.sqrt(statistic[pick])[::sign]
        above = np.flatnonzero(y > np.sqrt(limit))
        if not above.size:
            out.append(sign * np.inf)
            continue
        n = int(above[0])
        if not np.isfinite(y[n]):  # beyond it the model makes no sense: no limit that the data set
            out.append(sign * np.inf)
            continue
        part = (np.sqrt(limit) - y[n - 1]) / (y[n] - y[n - 1])
        out.append(float(x[n - 1] + part * (x[n] - x[n - 1])))
    return out[0], out[1]
