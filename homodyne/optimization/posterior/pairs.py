"""The signal at single pairs of frames and on squares of them, as functions of theta."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from homodyne.models import Geometry, Model
from homodyne.models.base import differences


def pair_signal(
    model: Model, theta: jax.Array, t: jax.Array, geometry: Geometry, rows: jax.Array, cols: jax.Array
) -> jax.Array:
    """s of the pairs (t[rows], t[cols]) of every sector, (n_phi, m), for tracing.

    Args:
        geometry: with ``phi`` and ``q`` of shape (n_phi,). rows, cols: frames of every sector, (n_phi, m), rows <= cols.
    """

    def of_sector(phi: jax.Array, q: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
        z = model.channel_values(theta, t, geometry._replace(phi=phi, q=q))
        return jax.vmap(model.kernel)(*differences(model, [c[i] for c in z], [c[j] for c in z]))

    return jax.vmap(of_sector)(jnp.asarray(geometry.phi), jnp.asarray(geometry.q), rows, cols)


@partial(jax.jit, static_argnames=("model",))
def signals_at(
    model: Model, thetas: jax.Array, t: jax.Array, geometry: Geometry, rows: jax.Array, cols: jax.Array
) -> jax.Array:
    """The same for several theta (n, p), one after the other: (n, n_phi, m)."""
    return jax.lax.map(lambda theta: pair_signal(model, theta, t, geometry, rows, cols), thetas)
