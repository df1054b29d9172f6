"""Fit a model to a dataset. Usable without configuration files and without tracking."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from homodyne.models import Model, get_model
from homodyne.optimization.nlsq.engine import solve
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.profile import profile as fit_profile
from homodyne.optimization.source import BlockSource
from homodyne.result import AngleMap, FitResult, Profile

log = logging.getLogger("homodyne")

_MAX_MAP_FRAMES = 400


def fit(
    dataset: BlockSource,
    model: str | Model = "laminar_flow",
    scaling: str = "individual",
    strategy: str = "auto",
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
    checkpoint: str | os.PathLike[str] | None = None,
) -> FitResult:
    """Least-squares fit of c2 = offset + contrast * s(theta) over all pairs t1 < t2 of all angles.

    Args:
        dataset: a ``homodyne.Dataset``, or anything with the attributes of ``BlockSource``.
        model: ``static``, ``laminar_flow``, or a ``homodyne.Model`` of your own.
        scaling: contrast and offset per angle: ``individual``, ``auto`` (one shared pair), ``constant``, ``fourier``.
        strategy: ``auto``, ``stratified_ls`` (full batch), ``hybrid_streaming``; same objective, same result.
        convention: ``physical`` or ``homodyne-2``, for built-in models.
        start: starting values by name; what is missing is found from the data.
        fixed: values of parameters that are not fitted.
        bounds: (lower, upper) by name, in the parameter's unit, in place of the defaults.
        covariance: the errors that are given first: ``speckle``, from the noise that a speckle pattern with the fitted
            g1 makes; ``jackknife``, leaving angles out one by one (five at least); ``iid``, the least-squares errors, too
            small where pairs share frames. ``jackknife`` and ``iid`` are always in the result, where they can be.
        counts, pixels: photons per pixel and frame, and independent pixels per angle; estimated from the data by default.
        min_lag: smallest t2 - t1 in frames that is fitted.
        options: memory and convergence settings.
        checkpoint: folder for a file with the finished passes, from which the same call resumes a fit that was killed;
            deleted when the fit has its result.

    Returns:
        FitResult. A fit that did not converge is returned too: look at ``status`` and ``message``. Ctrl-C, once a pass
        over all points is finished, returns the best values so far.

    Raises:
        InputError: bad input, naming field, value and remedy.
    """
    chosen = get_model(model, convention) if isinstance(model, str) else model
    result = solve(
        dataset,
        chosen,
        scaling=scaling,
        strategy=strategy,
        start=dict(start or {}),
        fixed=dict(fixed or {}),
        bounds=dict(bounds or {}),
        covariance=covariance,
        counts=counts,
        pixels=pixels,
        min_lag=min_lag,
        options=options or NLSQOptions(),
        checkpoint=checkpoint,
    )
    return dataclasses.replace(result, live=Live(dataset, chosen, options or NLSQOptions()))


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
) -> Profile:
    """Profile likelihood of one parameter with honest intervals: all others fitted again over all points, value by value.

    Args:
        dataset: the data of the fit. result: the fit. name: the parameter.
        model: the model of the fit, needed only if it is not a built-in one.
        levels: of the intervals. options: memory settings.

    Raises:
        InputError: an unknown, fixed or numerically undetermined parameter; a level outside (0, 1).
    """
    chosen = model or get_model(result.model, result.convention)
    return fit_profile(dataset, chosen, result, name, levels=levels, options=options)


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
        phi = float(dataset.phi[k])
        # integrals run over all frames; only the display is thinned out
        s = np.array(chosen.g1_squared(theta, t, phi, dataset.q, dataset.gap, np.arange(0, len(t), step)))
        data = _display(dataset, k, step)
        np.fill_diagonal(s, np.nan)
        maps.append(AngleMap(phi, t[::step], data, result.offset[k] + result.contrast[k] * s, float(result.sigma[k])))
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
