"""Fit a model to a dataset. Usable without configuration files and without tracking."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from homodyne.errors import InputError
from homodyne.models import Model, get_model
from homodyne.optimization.directions import require_directions
from homodyne.optimization.nlsq.engine import solve
from homodyne.optimization.nlsq.forecast import Forecast, forecast
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.profile import profile as fit_profile
from homodyne.optimization.nlsq.request import Request, check_request
from homodyne.optimization.search import Strategy, WarmUp, get_strategy
from homodyne.optimization.source import BlockSource, sector_signal
from homodyne.result import AngleMap, FitResult, Profile

log = logging.getLogger("homodyne")

_MAX_MAP_FRAMES = 400


def fit(
    dataset: BlockSource,
    model: str | Model = "laminar_flow",
    scaling: str = "individual",
    strategy: str | Strategy = "auto",
    *,
    convention: str = "physical",
    start: Mapping[str, float] | None = None,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, Sequence[float]] | None = None,
    covariance: str = "speckle",
    counts: float | None = None,
    pixels: float | None = None,
    min_lag: int = 1,
    options: NLSQOptions | None = None,
    warm_up: str | WarmUp | None = None,
    weighting: str = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    client: Any = None,
) -> FitResult:
    """Least-squares fit of c2 = offset + contrast * s(theta) over all pairs t1 < t2 of all sectors, at one q or several.

    Args:
        dataset: a ``homodyne.Dataset``, or anything with the attributes of ``BlockSource``.
        model: ``static``, ``laminar_flow``, or a ``homodyne.Model`` of your own.
        scaling: contrast and offset per sector: ``individual``, ``auto`` (one shared pair for every q), ``constant``,
            ``fourier`` (one series for every q).
        strategy: how the optimum is looked for and the sums are taken, same objective, same result: ``auto``,
            ``cmaes_nlsq``, ``multistart``; ``stratified_ls`` (full batch) and ``hybrid_streaming`` follow a complete start as
            it is; so does ``distributed``, whose passes run on the workers of ``client``. Or an object of ``homodyne.optimization.search`` with its settings. See docs/strategies.md.
        convention: ``physical`` or ``homodyne-2``, for built-in models.
        start: starting values by name; what is missing is found from the data.
        fixed: values of parameters that are not fitted.
        bounds: (lower, upper) by name, in the parameter's unit, in place of the defaults.
        covariance: the errors that are given first: ``speckle``, from the noise that a speckle pattern with the fitted
            g1 makes; ``jackknife``, leaving angles out one by one (five at least); ``iid``, the least-squares errors, too
            small where pairs share frames; ``repetitions``, from the scatter between three or more repetitions of which c2
            is the mean. All but ``speckle`` are always in the result, where they can be (``repetitions`` not beside iid).
        counts, pixels: photons per pixel and frame, and independent pixels per angle of one measurement; estimated from the data by default.
        min_lag: smallest t2 - t1 in frames that is fitted.
        options: memory and convergence settings.
        warm_up: an optax optimizer by name, or a ``WarmUp`` with its settings, whose steps on a few frames precede every
            local fit.
        weighting: of the pairs in the final estimate: ``uniform``; ``whitened``, by weights that know how pairs share noise,
            usually to errors several times smaller; ``auto``, whitened where that is possible, quick and of use. See
            docs/whitened.md.
        checkpoint: folder for a file with the finished passes, from which the same call resumes a fit that was killed;
            deleted when the fit has its result.
        client: a ``dask.distributed.Client``, for ``strategy="distributed"``; docs/distributed.md.

    Returns:
        FitResult. A fit that did not converge is returned too: look at ``status`` and ``message``. Ctrl-C, once a pass
        over all points is finished, returns the best values so far.

    Raises:
        InputError: bad input, naming field, value and remedy.
    """
    chosen = get_model(model, convention) if isinstance(model, str) else model
    request = _request(
        dataset,
        chosen,
        scaling,
        strategy,
        start,
        fixed,
        bounds,
        min_lag,
        options,
        covariance,
        counts,
        pixels,
        warm_up,
        client,
        weighting,
    )
    if request.decision.passes == "distributed" and client is None:
        raise InputError(
            "client", None, "is missing and strategy=distributed needs it", "give client=dask.distributed.Client(...)"
        )
    return dataclasses.replace(solve(request, checkpoint), live=Live(dataset, chosen, request.options))


def plan(
    dataset: BlockSource,
    model: str | Model = "laminar_flow",
    scaling: str = "individual",
    strategy: str | Strategy = "auto",
    *,
    convention: str = "physical",
    start: Mapping[str, float] | None = None,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, Sequence[float]] | None = None,
    min_lag: int = 1,
    options: NLSQOptions | None = None,
    weighting: str = "auto",
) -> Forecast:
    """What ``fit`` with these arguments would take: strategy, blocks, memory, time. Reads a few sectors, fits nothing.

    Raises:
        InputError: bad input, naming field, value and remedy.
    """
    chosen = get_model(model, convention) if isinstance(model, str) else model
    return forecast(
        _request(
            dataset, chosen, scaling, strategy, start, fixed, bounds, min_lag, options, "speckle", weighting=weighting
        )
    )


def _request(
    dataset, model, scaling, strategy, start, fixed, bounds, min_lag, options,
    covariance="iid", counts=None, pixels=None, warm_up=None, client=None, weighting="uniform",
) -> Request:  # fmt: skip
    require_directions(dataset, model)
    return check_request(
        dataset,
        model,
        scaling=scaling,
        strategy=get_strategy(strategy) if isinstance(strategy, str) else strategy,
        warm_up=WarmUp(warm_up) if isinstance(warm_up, str) else warm_up,
        start=dict(start or {}),
        fixed=dict(fixed or {}),
        bounds=dict(bounds or {}),
        covariance=covariance,
        counts=counts,
        pixels=pixels,
        min_lag=min_lag,
        options=options or NLSQOptions(),
        client=client,
        weighting=weighting,
    )


@dataclasses.dataclass(frozen=True)
class Live:
    """What a result needs to go on with: its data, model and settings."""

    dataset: BlockSource
    model: Model
    options: NLSQOptions

    def profile(self, result: FitResult, name: str, **settings: Any) -> Profile:
        """See ``homodyne.profile``."""
        return profile(self.dataset, result, name, model=self.model, **{"options": self.options, **settings})


def profile(
    dataset: BlockSource,
    result: FitResult,
    name: str,
    *,
    model: Model | None = None,
    levels: Sequence[float] = (0.6827, 0.95),
    options: NLSQOptions | None = None,
    client: Any = None,
) -> Profile:
    """Profile likelihood of one parameter with honest intervals: all others fitted again over all points, value by value.

    The weights are those of the fit, whitened or uniform.

    Args:
        dataset: the data of the fit. result: the fit. name: the parameter.
        model: the model of the fit, needed only if it is not a built-in one.
        levels: of the intervals. options: memory settings. client: for passes on a cluster, as for ``fit``.

    Raises:
        InputError: an unknown, fixed or numerically undetermined parameter; a level outside (0, 1).
    """
    chosen = model or get_model(result.model, result.convention)
    return fit_profile(dataset, chosen, result, name, levels=levels, options=options, client=client)


def fit_maps(
    dataset: BlockSource, result: FitResult, model: Model | None = None, angles: Sequence[int] | None = None
) -> list[AngleMap]:
    """Data and model of some angles for display, on at most 400 frames (every k-th one).

    Args:
        model: the model of the fit, needed only if it is not a built-in one.
        angles: positions in ``dataset.phi``; all by default.
    """
    chosen = model or get_model(result.model, result.convention)
    t = np.asarray(dataset.t)
    step = max(1, -(-len(t) // _MAX_MAP_FRAMES))
    theta = np.array([result.theta[p.name] for p in chosen.parameters])
    maps = []
    for k in range(len(dataset.phi)) if angles is None else angles:
        # integrals run over all frames; only the display is thinned out
        s = np.array(sector_signal(chosen, theta, dataset, k, np.arange(0, len(t), step)))
        data = _display(dataset, k, step)
        np.fill_diagonal(s, np.nan)
        fitted = result.offset[k] + result.contrast[k] * s
        phi, q = float(result.phi[k]), float(result.q[k])
        maps.append(AngleMap(phi, t[::step], data, fitted, float(result.sigma[k]), q))
    return maps


def _display(dataset: BlockSource, k: int, step: int) -> np.ndarray:
    """Every step-th frame of c2, made symmetric from its upper triangle, diagonal NaN."""
    n = len(dataset.t)
    frames = np.arange(0, n, step)
    upper = np.full((len(frames), len(frames)), np.nan)
    for a in range(0, len(frames), 32):
        rows = frames[a : a + 32]
        block = np.asarray(dataset.read_block(k, slice(int(rows[0]), int(rows[-1]) + 1), slice(int(rows[0]), n)))
        upper[a : a + 32, a:] = block[::step, ::step]
    i, j = np.tril_indices(len(frames))
    upper[i, j] = upper[j, i]
    np.fill_diagonal(upper, np.nan)
    return upper
