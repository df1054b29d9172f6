"""A start from the data, when the user gives none: many points compared on a few frames, the best ones refined."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Geometry, Model
from homodyne.models.base import differences
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import View
from homodyne.parameters import Parameter, pack

_CANDIDATES = 1024
_ANGLES = 12
_FRAMES = 40
_BATCH = 128


def candidates(parameters: Sequence[Parameter], known: Mapping[str, float], n: int = _CANDIDATES) -> np.ndarray:
    """Quasi-random starting points (n, p): Sobol points over the search ranges, ``known`` values as they are.

    The seed is fixed: the same data give the same fit.
    """
    searched = [p for p in parameters if p.search is not None and p.name not in known]
    points = np.tile(pack({p.name: known.get(p.name, p.start) for p in parameters}, parameters), (n, 1))
    if not searched:
        return points[:1]
    from scipy.stats import qmc  # half a second that a fit from a given start does without

    unit = qmc.Sobol(len(searched), seed=0).random(n)
    order = [p.name for p in parameters]
    for column, p in zip(unit.T, searched, strict=True):
        assert p.search is not None
        low, high = (min(max(x, p.lower), p.upper) for x in p.search)
        log_scale = low > 0
        edges = np.log([low, high]) if log_scale else np.array([low, high])
        values = edges[0] + column * (edges[1] - edges[0])
        points[:, order.index(p.name)] = np.exp(values) if log_scale else values
    return points


def small_view(view: View) -> View:
    """Some frames and angles of a held view, for comparing many points."""
    assert view.held is not None
    pick = np.unique(np.linspace(0, view.n_frames - 1, min(_FRAMES, view.n_frames)).astype(int))
    return dataclasses.replace(
        view,
        frames=view.frames[pick],
        held=view.held[:, pick][:, :, pick],
        held_sigma=None if view.held_sigma is None else view.held_sigma[:, pick][:, :, pick],
    )


def rank(model: Model, view: View, points: np.ndarray) -> np.ndarray:
    """The ``points`` ordered by their cost on ``view``, best first; contrast and offset free at every angle."""
    source = view.source
    angles = np.unique(np.linspace(0, view.n_phi - 1, min(_ANGLES, view.n_phi)).astype(int))
    i, j = np.triu_indices(view.n_frames, k=1)
    assert view.held is not None
    y = view.held[angles][:, i, j]
    valid = np.isfinite(y)
    weight = np.where(valid, 1.0, 0.0) / np.asarray(source.sigma)[angles, None]
    gap = model.geometry(0.0, source.q, source.gap, source.dt).gap
    given = (
        *(jnp.asarray(a) for a in (source.t, view.frames, source.phi[angles])), source.q, gap, source.dt,
        *(jnp.asarray(a) for a in (i, j, np.where(valid, y, 0.0), weight)),
    )  # fmt: skip

    def cost(b: int) -> np.ndarray:
        return np.asarray(_costs(model, jnp.asarray(_padded(points[b : b + _BATCH])), *given))[: len(points) - b]

    first, *others = range(0, len(points), _BATCH)
    # the first one compiles
    with ThreadPoolExecutor(n_workers()) as pool:
        costs = [cost(first), *pool.map(cost, others)]
    flat = np.nan_to_num(np.concatenate(costs), nan=np.inf)
    return points[np.argsort(flat, kind="stable")]


def _padded(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.repeat(points[-1:], _BATCH - len(points), axis=0)])


@partial(jax.jit, static_argnames=("model",))
def _costs(model: Model, points, t, frames, phi, q, gap, dt, i, j, y, w) -> jax.Array:
    """Weighted residual sum of squares at the best contrast and offset of every angle, one a point."""

    def one_angle(theta, phi_k, y_k, w_k):
        z = [c[frames] for c in model.channel_values(theta, t, Geometry(phi_k, q, gap, dt))]
        s = jax.vmap(lambda a, b: model.kernel(*differences(model, [c[a] for c in z], [c[b] for c in z])))(i, j)
        # an angle without a valid point on these few frames adds nothing
        n, mean_s, mean_y = jnp.maximum((w_k**2).sum(), 1e-30), ((w_k**2) * s).sum(), ((w_k**2) * y_k).sum()
        ds, dy = w_k * (s - mean_s / n), w_k * (y_k - mean_y / n)
        return (dy @ dy) - (ds @ dy) ** 2 / jnp.maximum(ds @ ds, 1e-30)

    def one_point(theta):
        return jax.vmap(one_angle, in_axes=(None, 0, 0, 0))(theta, phi, y, w).sum()

    return jax.lax.map(one_point, points)
