"""How much worse a fit gets where some of its parameters are held: a model against a smaller one, with the same weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from homodyne.models import Model
from homodyne.optimization.nlsq.finished import Finished, request_of
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.problem import problem
from homodyne.optimization.source import BlockSource
from homodyne.optimization.trust_region import Tolerances, minimize
from homodyne.parameters import pack
from homodyne.result import FitResult

_TOLERANCES = Tolerances(xtol=3e-2, max_passes=40)


@dataclasses.dataclass(frozen=True)
class Rise:
    """``value``: of twice the cost, in units in which rows of the reduced problem have variance 1.

    ``covariance``: of the parameters, (p, p), were those rows independent.
    """

    value: float
    covariance: np.ndarray


def rise(
    source: BlockSource,
    model: Model,
    result: FitResult,
    held: Mapping[str, float],
    near: Mapping[str, float],
    options: NLSQOptions | None = None,
) -> Rise:
    """Hold some parameters of a finished fit, fit the others again over all points with the weights of that fit.

    Args:
        source: the data of the fit. model: its model. held: values by name. near: where the others may lie as well, of
            another fit; the lower of both starts is taken.
    """
    request = request_of(source, model, result, options or NLSQOptions())
    finished = Finished.of(request, result, _TOLERANCES)
    starts = [pack({**values, **held}, result.parameters) for values in (result.theta, {**result.theta, **near})]
    allowed = [x for x in starts if request.is_feasible(x)]
    if not allowed:
        return Rise(float("inf"), finished.covariance())
    restricted = problem(request, finished.evaluate)
    for i, p in enumerate(result.parameters):
        restricted.free[i] &= p.name not in held
    start = min(allowed, key=lambda x: finished.evaluate(x).lowest)
    state = minimize(restricted, start, _TOLERANCES, lambda info: None, damping=1e-4)
    return Rise(max(0.0, 2 * float(state.at.cost - finished.at.cost)) / finished.unit, finished.covariance())
