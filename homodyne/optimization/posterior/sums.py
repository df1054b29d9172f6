"""Sums over all pairs of a dataset, of which a summary is made: with uniform weights, and with whitened ones."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from homodyne.models import Geometry, Model
from homodyne.models.base import differences
from homodyne.optimization.nlsq.finished import Finished
from homodyne.optimization.nlsq.stratified_ls import inverse_sigma
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import View, sector_geometry
from homodyne.optimization.uncertainty.reading import READING
from homodyne.optimization.whitened.grams import whitened_grams
from homodyne.optimization.whitened.loop import Loop

# Sides of the squares that are summed at a time.
_SIDES = (16, 32, 64)


@dataclasses.dataclass(frozen=True)
class Fit:
    """Where a summary is expanded: theta (p,), contrast and offset of every sector (n_phi, 2), which parameters are free (p,)."""

    theta: np.ndarray
    scaling: np.ndarray
    free: np.ndarray


class Sums(Protocol):
    """A quadratic form of residuals, about a fit.

    Attributes:
        model, fit, min_lag: of the fit. weight: by which the sums of every sector go into chi2, (n_phi,).
    """

    @property
    def model(self) -> Model: ...
    @property
    def fit(self) -> Fit: ...
    @property
    def min_lag(self) -> int: ...
    @property
    def weight(self) -> np.ndarray: ...

    def grams(self, view: View, snapshots: np.ndarray) -> np.ndarray:
        """X^T W X of X = [D_1 ... D_S, s, 1, r, ds/dtheta] on the pairs of a view, by sector: (n_phi, S + 3 + f, S + 3 + f).

        Args:
            snapshots: theta_n, (S, p), of which D_n = s(theta_n) - s(theta_0).
        """
        ...


@dataclasses.dataclass(frozen=True)
class UniformSums:
    """With W = 1, or 1 / sigma**2 where every point has its own sigma."""

    model: Model
    fit: Fit
    min_lag: int
    weight: np.ndarray

    def grams(self, view: View, snapshots: np.ndarray) -> np.ndarray:
        """See ``Sums``."""
        return _sums_of_pairs(self.model, view, self.fit, snapshots, self.min_lag)


@dataclasses.dataclass(frozen=True)
class WhitenedSums:
    """With the weights of a whitened fit, its units included. ``threshold_gb``: memory that may be used."""

    loop: Loop
    fit: Fit
    threshold_gb: float

    @property
    def model(self) -> Model:
        """See ``Sums``."""
        return self.loop.light.model

    @property
    def min_lag(self) -> int:
        """See ``Sums``."""
        return self.loop.light.min_lag

    @property
    def weight(self) -> np.ndarray:
        """Ones: see the class."""
        return np.ones(len(self.loop.light.source.phi))

    def grams(self, view: View, snapshots: np.ndarray) -> np.ndarray:
        """See ``Sums``."""
        fit, frames = self.fit, view.frames
        return whitened_grams(self.loop, fit.theta, fit.scaling, snapshots, frames, self.threshold_gb)


def sums_of(finished: Finished) -> Sums:
    """About a finished fit, with its weights."""
    request, result = finished.request, finished.result
    fit = Fit(finished.best, np.stack([result.contrast, result.offset], axis=1), request.free)
    if finished.loop is not None:
        return WhitenedSums(finished.loop, fit, request.decision.threshold_gb)
    weight = 1.0 / np.asarray(request.source.sigma, dtype=float) ** 2
    return UniformSums(request.model, fit, request.min_lag, weight)


def _sums_of_pairs(model: Model, view: View, fit: Fit, snapshots: np.ndarray, min_lag: int) -> np.ndarray:
    source, frames, n = view.source, view.frames, view.n_frames
    side = next((x for x in _SIDES[::-1] if n >= 8 * x), _SIDES[0])
    t = jnp.asarray(source.t, dtype=float)
    thetas = jnp.asarray(np.vstack([fit.theta, snapshots]))
    free = tuple(int(i) for i in np.flatnonzero(fit.free))

    def of_sector(k: int) -> np.ndarray:
        total: np.ndarray | float = 0.0
        here = _channels(model, thetas, t, jnp.asarray(frames), sector_geometry(model, source, k), free)
        for first in range(0, n, side):
            rows, cols = slice(first, min(first + side, n)), slice(first, n)
            with READING:
                c2 = np.asarray(view.read(k, rows, cols), dtype=float)
                sigma = view.read_sigma(k, rows, cols)
            wanted = frames[None, cols] - frames[rows, None] >= min_lag
            valid = wanted & np.isfinite(c2)
            root = valid.astype(float) if sigma is None else inverse_sigma(np.asarray(sigma), valid)
            # whole strips, so that one compilation serves all
            y, w = np.zeros((side, n + side)), np.zeros((side, n + side))
            y[: rows.stop - first, first:n], w[: rows.stop - first, first:n] = np.where(valid, c2, 0.0), root
            total = total + np.asarray(_strip(model, side, here, y, w, first, n, jnp.asarray(fit.scaling[k])))
        return np.asarray(total)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_workers()) as pool:
        return np.stack(list(pool.map(of_sector, range(view.n_phi))))


@partial(jax.jit, static_argnames=("model", "free"))
def _channels(
    model: Model, thetas: jax.Array, t: jax.Array, frames: jax.Array, geometry: Geometry, free: tuple[int, ...]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Channels of one sector at every theta on m frames, (S + 1, m) each, and their derivatives at the first, (f, m)."""
    values = jax.lax.map(lambda theta: model.channel_values(theta, t, geometry), thetas)
    slopes = jax.jacfwd(lambda theta: model.channel_values(theta, t, geometry))(thetas[0])
    return [v[:, frames] for v in values], [s.T[jnp.array(free, dtype=int)][:, frames] for s in slopes]


@partial(jax.jit, static_argnames=("model", "side", "n"))
def _strip(model: Model, side: int, channels, c2, weights, first, n: int, scaling) -> jax.Array:
    """The sums of one strip of rows from ``first`` on, square by square, from the diagonal to the last frame.

    Args:
        c2, weights: (side, n + side) on the frame grid; roots of the weights, 0 where not valid.
    """
    values, slopes = channels

    def cut(a: jax.Array, start: jax.Array) -> jax.Array:
        return jnp.take(a, jnp.clip(start + jnp.arange(side), 0, n - 1), axis=-1)

    early = [cut(z, first) for z in values]
    early_slopes = [cut(z, first) for z in slopes]

    def square(m: jax.Array, total: jax.Array) -> jax.Array:
        start = first + m * side
        late = [cut(z, start) for z in values]
        late_slopes = [cut(z, start) for z in slopes]
        s, columns = _signals(model, early, late, early_slopes, late_slopes)
        y, w = (jax.lax.dynamic_slice(a, (0, start), (side, side)) for a in (c2, weights))
        r = y - scaling[1] - scaling[0] * s[0]
        parts = jnp.concatenate([s[1:] - s[0], s[:1], jnp.ones_like(s[:1]), r[None], columns])
        # pairs that are not valid may hold anything
        parts = jnp.where(w > 0, parts * w, 0.0).reshape(len(parts), -1)
        return total + parts @ parts.T

    size = values[0].shape[0] + 2 + slopes[0].shape[0]
    return jax.lax.fori_loop(0, -(-(n - first) // side), square, jnp.zeros((size, size)))


def _signals(model: Model, early, late, early_slopes, late_slopes) -> tuple[jax.Array, jax.Array]:
    """s of every theta, (S + 1, side, side), and ds/dtheta of the first one, (f, side, side)."""

    def one(i: list[jax.Array], j: list[jax.Array]) -> jax.Array:
        return model.kernel(*differences(model, i, j))

    def pairs(function):
        return jax.vmap(jax.vmap(function, in_axes=(None, 0)), in_axes=(0, None))

    every = jax.vmap(lambda i, j: pairs(one)(i, j))(early, late)

    def slope(a: tuple[list[jax.Array], list[jax.Array]], b: tuple[list[jax.Array], list[jax.Array]]) -> jax.Array:
        (i, di), (j, dj) = a, b
        along = jax.vmap(lambda u, v: jax.jvp(one, (i, j), (u, v))[1])
        return along(di, dj)

    first = [z[0] for z in early], [z.T for z in early_slopes]
    last = [z[0] for z in late], [z.T for z in late_slopes]
    return every, jnp.moveaxis(pairs(slope)(first, last), -1, 0)
