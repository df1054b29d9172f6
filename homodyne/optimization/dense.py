"""The dense Jacobian tile by tile, all angles at a time, reduced by QR (precise) or to its gram matrix (fast)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import Frames, Side, kernel_fields, take


def tiles(n: int, size: int) -> np.ndarray:
    """First row and first column of the squares that cover the upper triangle of n x n pairs, (n_tiles, 2)."""
    edges = range(0, n, size)
    return np.array([(r, c) for r in edges for c in edges if c >= r])


@partial(jax.jit, static_argnames=("model", "size", "precise"))
def dense_factors(
    model: Model,
    size: int,
    sides: Side,
    c2: jax.Array,
    weights: jax.Array | None,
    corners: jax.Array,
    references: jax.Array,
    min_lag: jax.Array | int,
    precise: bool,
) -> jax.Array:
    """Reduce the rows [s, 1, ds/dtheta, r] of all pairs in angle-balanced chunks: the same tile of every angle.

    theta are the parameters of one channel after the other, m in all, as in ``moments``.

    Args:
        size: side of a tile. corners: of every tile, see ``tiles``.
        sides: channels on the frames, padded to a multiple of ``size``.
        c2: (n_phi, P, P), NaN where there is no valid point; only t1 < t2 is used.
        weights: square roots of the weights, of the same shape, 0 where a point is to be ignored; or None.
        references: (n_phi, 2) reference contrast and offset of r.
        precise: R of the QR decomposition (each chunk's rows under the R so far); else the gram matrix.

    Returns:
        (n_phi, m+3, m+3): R, or X^T X.
    """
    q = sum(len(channel.parameters) for channel in model.channels) + 3

    def chunk(total: jax.Array, corner: jax.Array) -> tuple[jax.Array, None]:
        lag = corner[1] - corner[0] + jnp.arange(size)[None, :] - jnp.arange(size)[:, None]

        # a loop, not a batch: XLA has no fast matrix product of a batch of such narrow matrices
        def one_angle(k: jax.Array, total: jax.Array) -> jax.Array:
            columns = _columns(model, size, sides, c2, weights, (k, *corner), lag >= min_lag, references[k])
            columns = columns.reshape(q, size * size)
            if precise:
                new = jnp.linalg.qr(jnp.concatenate([total[k], columns.T]), mode="r")
            else:
                new = total[k] + columns @ columns.T
            return jax.lax.dynamic_update_index_in_dim(total, new, k, 0)

        return jax.lax.fori_loop(0, c2.shape[0], one_angle, total), None

    return jax.lax.scan(chunk, jnp.zeros((c2.shape[0], q, q)), corners)[0]


def _columns(model, size, sides, c2, weights, corner, wanted, scaling_ref) -> jax.Array:
    """The columns [s, 1, ds/dtheta, r] on one tile of one angle, (m+3, size, size), times the root of the weight."""
    k, row, col = corner
    early, late = (
        tuple(take(Frames(*(a[k] for a in f)), start, size) for f in part)
        for part, start in ((sides.early, row), (sides.late, col))
    )
    y, w = (None if a is None else jax.lax.dynamic_slice(a, corner, (1, size, size))[0] for a in (c2, weights))
    early, late, y = jax.lax.optimization_barrier((early, late, y))
    s, fields = kernel_fields(model, early, late)
    r = y.astype(jnp.float64) - scaling_ref[1] - scaling_ref[0] * s
    valid = wanted & jnp.isfinite(y)
    bases = [jnp.where(valid, x if w is None else w * x, 0.0) for x in (s, jnp.ones_like(s), r, *fields_of(s, fields))]
    # computed once, not anew for every column
    s, one, r, *gradient = jax.lax.optimization_barrier(bases)
    blocks = [f * (b.dz[:, None, :] - a.dz[:, :, None]) for f, a, b in zip(gradient, early, late, strict=True)]
    return jnp.concatenate([s[None], one[None], *blocks, r[None]])


def fields_of(s: jax.Array, fields: tuple[jax.Array | None, ...]) -> list[jax.Array]:
    """The fields with those of exponential channels written out."""
    return [-s if f is None else f for f in fields]


@partial(jax.jit, static_argnames=("model",))
def residuals(model: Model, sides: Side, c2: jax.Array, scaling: jax.Array) -> jax.Array:
    """c2 - offset - contrast * s of every pair (t1 = row, t2 = column) of every angle, (n_phi, n, n).

    Args:
        sides: channels on the n frames. scaling: (n_phi, 2) contrast and offset.
    """

    def one_angle(side: Side, y: jax.Array, pair: jax.Array) -> jax.Array:
        return y - pair[1] - pair[0] * kernel_fields(model, side.early, side.late)[0]

    return jax.vmap(one_angle)(sides, c2, scaling)
