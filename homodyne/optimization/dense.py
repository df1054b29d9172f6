"""The dense Jacobian of a list of pairs, and its QR: the precise way, for data that fit in memory."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from homodyne.models import Model
from homodyne.optimization.channels import Side, gather, kernel_fields


@partial(jax.jit, static_argnames=("model",))
def jacobian_rows(
    model: Model, side: Side, i: jax.Array, j: jax.Array, y: jax.Array, w: jax.Array, scaling_ref: jax.Array
) -> jax.Array:
    """Rows [s, 1, ds/dtheta, r] of the pairs (i, j), times the square root of their weights, (L, p+3).

    Args:
        i, j: positions of the earlier and later frame, (L,).
        y: c2 at the pairs; w: square roots of the weights, 0 for pairs to be ignored (y may be NaN there).
        scaling_ref: reference contrast and offset of r.
    """
    early = tuple(gather(f, i) for f in side.early)
    late = tuple(gather(f, j) for f in side.late)
    s, fields = kernel_fields(model, early, late, mesh=False)
    theta_columns = jnp.zeros((len(model.parameters), len(y)))
    for channel, f, a, b in zip(model.channels, fields, early, late, strict=True):
        index = jnp.array(model.indices(channel), dtype=int)
        theta_columns = theta_columns.at[index].add(f * (b.dz - a.dz))
    r = y - scaling_ref[1] - scaling_ref[0] * s
    rows = jnp.concatenate([s[None], jnp.ones_like(s)[None], theta_columns, r[None]])
    return jnp.where(w > 0, w * rows, 0.0).T


@jax.jit
def triangular(rows: jax.Array) -> jax.Array:
    """R factors of the QR decompositions of a stack of tall matrices, (..., L, q) -> (..., q, q)."""
    return jnp.linalg.qr(rows, mode="r")
