"""The cost of many points at a time, on a few frames and angles: what searches evaluate thousands of times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Geometry, Model
from homodyne.models.base import differences
from homodyne.optimization.processors import n_workers
from homodyne.optimization.search.coordinates import Coordinates
from homodyne.optimization.source import View, sector_geometries

_ANGLES = 12
_FRAMES, _PAIRS = 40, 10_000  # frames at least; more of few angles, so that all together make about so many pairs
_BATCH = 128


def small_view(view: View) -> View:
    """Some frames of a held view, for comparing many points."""
    assert view.held is not None
    wanted = max(_FRAMES, int((2 * _PAIRS / min(_ANGLES, view.n_phi)) ** 0.5))
    pick = np.unique(np.linspace(0, view.n_frames - 1, min(wanted, view.n_frames)).astype(int))
    return dataclasses.replace(
        view,
        frames=view.frames[pick],
        held=view.held[:, pick][:, :, pick],
        held_sigma=None if view.held_sigma is None else view.held_sigma[:, pick][:, :, pick],
    )


class CoarseCost:
    """Weighted residual sum of squares on ``small_view`` and a dozen angles, contrast and offset free at every angle.

    Args:
        view: a held view; every frame of it may be used.
        feasible: points (n, p) -> (n,) bool; others cost infinity.
    """

    def __init__(self, model: Model, view: View, feasible: Callable[[np.ndarray], np.ndarray]) -> None:
        view, source = small_view(view), view.source
        angles = np.unique(np.linspace(0, view.n_phi - 1, min(_ANGLES, view.n_phi)).astype(int))
        i, j = np.triu_indices(view.n_frames, k=1)
        assert view.held is not None
        y = view.held[angles][:, i, j]
        valid = np.isfinite(y)
        weight = np.where(valid, 1.0, 0.0) / np.asarray(source.sigma)[angles, None]
        arrays = (source.t, view.frames, i, j, np.where(valid, y, 0.0), weight)
        self._model, self._feasible = model, feasible
        self._given = (sector_geometries(model, source, angles), *(jnp.asarray(a) for a in arrays))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Costs (n,) of points (n, p); infinite where the model makes no sense."""
        batches = [points[b : b + _BATCH] for b in range(0, len(points), _BATCH)]
        first, *others = batches
        # the first one compiles
        with ThreadPoolExecutor(n_workers()) as pool:
            costs = [self._batch(first), *pool.map(self._batch, others)]
        flat = np.nan_to_num(np.concatenate(costs), nan=np.inf)
        return np.where(self._feasible(points), flat, np.inf)

    def in_unit_box(self, coordinates: Coordinates) -> Callable[[Any], jax.Array]:
        """unit coordinates (p,) -> cost; differentiable."""
        return lambda unit: _cost_in_unit_box(self._model, coordinates, unit, *self._given)

    def _batch(self, points: np.ndarray) -> np.ndarray:
        padded = np.concatenate([points, np.repeat(points[-1:], _BATCH - len(points), axis=0)])
        return np.asarray(_costs(self._model, jnp.asarray(padded), len(points), *self._given))[: len(points)]


def _cost(model: Model, theta, geometry, t, frames, i, j, y, w) -> jax.Array:
    def one_angle(geometry_k, y_k, w_k):
        z = [c[frames] for c in model.channel_values(theta, t, geometry_k)]
        s = jax.vmap(lambda a, b: model.kernel(*differences(model, [c[a] for c in z], [c[b] for c in z])))(i, j)
        # an angle without a valid point on these few frames adds nothing
        n, mean_s, mean_y = jnp.maximum((w_k**2).sum(), 1e-30), ((w_k**2) * s).sum(), ((w_k**2) * y_k).sum()
        ds, dy = w_k * (s - mean_s / n), w_k * (y_k - mean_y / n)
        return (dy @ dy) - (ds @ dy) ** 2 / jnp.maximum(ds @ ds, 1e-30)

    by_sector = Geometry(phi=0, q=0, gap=None, dt=None, q_ref=None)  # type: ignore[arg-type]
    return jax.vmap(one_angle, in_axes=(by_sector, 0, 0))(geometry, y, w).sum()


@partial(jax.jit, static_argnames=("model",))
def _cost_in_unit_box(model: Model, coordinates: Coordinates, unit, *given) -> jax.Array:
    return _cost(model, coordinates.from_unit(unit), *given)


@partial(jax.jit, static_argnames=("model",))
def _costs(model: Model, points, count, *given) -> jax.Array:
    """Costs of the first ``count`` of the points; their number is not compiled in, the size of the batch is."""

    def one(n, out):
        return out.at[n].set(_cost(model, points[n], *given))

    return jax.lax.fori_loop(0, count, one, jnp.full(len(points), jnp.inf))
