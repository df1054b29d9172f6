"""Posterior predictive bands: c2 that the draws allow, along cuts through the maps, on the pairs that are shown and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from homodyne.models import Model
from homodyne.optimization.posterior.pairs import signals_at
from homodyne.optimization.source import BlockSource, sector_geometries, sector_q
from homodyne.parameters import pack
from homodyne.result.posterior import Posterior
from homodyne.result.predictive import PredictiveCut

LEVELS = (0.6827, 0.95)
# Lags of a cut; quantiles of the normal distribution that stand for the noise of one point.
_LAGS, _NOISE = 60, ndtri((np.arange(101) + 0.5) / 101)


def predictive_cuts(
    source: BlockSource, posterior: Posterior, model: Model, n_draws: int, sectors: Sequence[int], first: Sequence[int]
) -> list[PredictiveCut]:
    """Cuts at the frames ``first``, sector by sector; see ``homodyne.sampling.predictive``."""
    lags = [_lags(len(source.t) - 1 - frame) for frame in first]
    rows = np.concatenate([np.full(len(lag), frame) for lag, frame in zip(lags, first, strict=True)])
    cols = rows + np.concatenate(lags)
    drawn = systematic(posterior.weights, n_draws)
    # one sector after the other: (draws, pairs) is all that is held
    out = []
    for k in sectors:
        s = _signals(source, posterior, model, drawn, k, rows, cols)
        pair = [
            posterior.idata.posterior[name].values.reshape(-1, len(source.phi))[drawn, k]
            for name in ("contrast", "offset")
        ]
        c2 = pair[1][:, None] + pair[0][:, None] * s
        out += list(_cuts(source, k, c2, rows, cols))
    return out


def systematic(weights: np.ndarray, n: int) -> np.ndarray:
    """Positions (n,) of draws that stand for all, each as often as its weight says: systematic resampling, without chance."""
    reached = np.cumsum(weights)
    return np.minimum(np.searchsorted(reached / reached[-1], (np.arange(n) + 0.5) / n), len(weights) - 1)


def _lags(most: int) -> np.ndarray:
    return np.unique(np.geomspace(1, most, _LAGS).astype(int))


def _signals(source, posterior, model, drawn, k, rows, cols) -> np.ndarray:
    """s of one sector at the pairs, for every draw, (draws, pairs)."""
    free = np.stack([posterior.draws(name)[drawn] for name in posterior.names], axis=1)
    theta = np.stack(
        [pack({**posterior.fixed, **dict(zip(posterior.names, row, strict=True))}, model.parameters) for row in free]
    )
    geometry = jax.tree.map(jnp.asarray, sector_geometries(model, source, [k]))
    t = jnp.asarray(source.t, dtype=float)
    return np.asarray(
        signals_at(model, jnp.asarray(theta), t, geometry, jnp.asarray(rows)[None], jnp.asarray(cols)[None])
    )[:, 0]


def _cuts(source: BlockSource, k: int, c2: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> Iterator[PredictiveCut]:
    t = np.asarray(source.t, dtype=float)
    for frame in np.unique(rows):
        at = np.flatnonzero(rows == frame)
        where = slice(int(frame), int(frame) + 1), slice(int(frame), len(t))
        lag = cols[at] - frame
        sigma = source.read_sigma(k, *where)
        noise = np.full(len(at), float(source.sigma[k])) if sigma is None else np.asarray(sigma)[0, lag]
        values = c2[:, at]
        noisy = (values[:, None] + noise * _NOISE[:, None]).reshape(-1, len(at))
        yield PredictiveCut(
            float(source.phi[k]), float(sector_q(source)[k]), float(t[frame]), t[cols[at]] - t[frame],
            np.asarray(source.read_block(k, *where), dtype=float)[0, lag], np.median(values, axis=0),
            LEVELS, _bands(values), _bands(noisy),
        )  # fmt: skip


def _bands(values: np.ndarray) -> np.ndarray:
    """(levels, 2, n) of values (draws, n)."""
    return np.stack([np.quantile(values, [0.5 * (1 - level), 0.5 * (1 + level)], axis=0) for level in LEVELS])
