"""The dense Jacobian of listed pairs, chunk after chunk, reduced by QR (precise) or to its gram matrix (fast)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from homodyne.models import Model
from homodyne.optimization.channels import Side, gather, kernel_fields


def jacobian_rows(
    model: Model, side: Side, i: jax.Array, j: jax.Array, y: jax.Array, w: jax.Array, scaling_ref: jax.Array
) -> jax.Array:
    """Rows [s, 1, ds/dtheta, r] of the pairs (i, j) of one angle, times the square root of their weights, (L, p+3).

    Args:
        i, j: positions of the earlier and later frame, (L,).
        y: c2 at the pairs; w: square roots of the weights, 0 for pairs to be ignored.
        scaling_ref: reference contrast and offset of r.
    """
    early = tuple(gather(f, i) for f in side.early)
    late = tuple(gather(f, j) for f in side.late)
    s, fields = kernel_fields(model, early, late, mesh=False)
    theta_columns = jnp.zeros((len(model.parameters), len(y)))
    for channel, f, a, b in zip(model.channels, fields, early, late, strict=True):
        index = jnp.array(model.indices(channel), dtype=int)
        theta_columns = theta_columns.at[index].add((-s if f is None else f) * (b.dz - a.dz))
    r = y - scaling_ref[1] - scaling_ref[0] * s
    rows = jnp.concatenate([s[None], jnp.ones_like(s)[None], theta_columns, r[None]])
    return jnp.where(w > 0, w * rows, 0.0).T


@partial(jax.jit, static_argnames=("model", "precise"))
def dense_factors(
    model: Model,
    sides: Side,
    i: jax.Array,
    j: jax.Array,
    y: jax.Array,
    w: jax.Array,
    references: jax.Array,
    precise: bool,
) -> jax.Array:
    """Reduce the rows of all pairs, angle by angle, in angle-balanced chunks.

    Args:
        i, j: (n_chunks, L) positions of the pairs, the same for every angle.
        y, w: (n_chunks, n_phi, L) c2 and square roots of the weights: a chunk holds the same pairs of every angle.
        references: (n_phi, 2) reference contrast and offset.
        precise: R of the QR decomposition (each chunk's rows under the R so far); else the gram matrix.

    Returns:
        (n_phi, p+3, p+3): R, or X^T X.
    """
    q = len(model.parameters) + 3

    def chunk(total: jax.Array, data: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        ci, cj, cy, cw = data

        def one_angle(old, side, yk, wk, ref):
            rows = jacobian_rows(model, side, ci, cj, yk, wk, ref)
            return jnp.linalg.qr(jnp.concatenate([old, rows]), mode="r") if precise else old + rows.T @ rows

        return jax.vmap(one_angle)(total, sides, cy, cw, references), None

    return jax.lax.scan(chunk, jnp.zeros((y.shape[1], q, q)), (i, j, y, w))[0]


@partial(jax.jit, static_argnames=("model",))
def pair_residuals(
    model: Model, sides: Side, i: jax.Array, j: jax.Array, y: jax.Array, scaling: jax.Array
) -> jax.Array:
    """c2 - offset - contrast * s at the pairs of every angle; i, j (L,), y (n_phi, L), scaling (n_phi, 2)."""
    ones = jnp.ones(y.shape[1])
    return jax.vmap(lambda side, yk, pair: jacobian_rows(model, side, i, j, yk, ones, pair)[:, -1])(sides, y, scaling)
