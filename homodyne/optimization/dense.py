"""The dense Jacobian tile by tile, all angles at a time, reduced to its gram matrix."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import Frames, Side, kernel_fields, take
from homodyne.optimization.loss import TERMS, Loss


def tiles(n: int, size: int) -> np.ndarray:
    """First row and first column of the squares that cover the upper triangle of n x n pairs, (n_tiles, 2)."""
    edges = range(0, n, size)
    return np.array([(r, c) for r in edges for c in edges if c >= r])


@partial(jax.jit, static_argnames=("model", "size", "loss"))
def dense_gram(
    model: Model,
    size: int,
    sides: Side,
    c2: jax.Array,
    weights: jax.Array | None,
    corners: jax.Array,
    first: jax.Array | int,
    last: jax.Array | int,
    references: jax.Array,
    min_lag: jax.Array | int,
    inverses: jax.Array,
    loss: Loss | None = None,
    sigma: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Gram matrix Y^T Y, Y = X W^T, of the rows X = [s, 1, ds/dtheta, r] of all pairs in angle-balanced chunks.

    A chunk is the same tile of every angle; theta are the parameters of one channel after the other, m in all, as in
    ``moments``. With W near the inverse of R of X = Q R, Y is nearly orthonormal, and its gram matrix keeps all digits.

    Args:
        size: side of a tile. corners: of every tile, see ``tiles``; those from ``first`` to before ``last`` are reduced.
        sides: channels on the frames, padded to a multiple of ``size``.
        c2: (n_phi, P, P), NaN where there is no valid point; only t1 < t2 is used.
        weights: square roots of the weights, of the same shape, 0 where a point is to be ignored; or None.
        references: (n_phi, 2) reference contrast and offset of r.
        inverses: W, (n_phi, m+3, m+3).
        loss: a robust loss weights the rows, see ``moments``. sigma: noise per angle (n_phi,), needed with a loss.

    Returns:
        (n_phi, m+3, m+3), and the sums of the loss's terms, (n_phi, 6), or None.
    """
    n_phi = c2.shape[0]

    def chunk(n: jax.Array, total: tuple) -> tuple:
        corner = corners[n]
        lag = corner[1] - corner[0] + jnp.arange(size)[None, :] - jnp.arange(size)[:, None]

        # a loop, not a batch: XLA has no fast matrix product of a batch of such narrow matrices
        def one_angle(k: jax.Array, total: tuple) -> tuple:
            noise = None if sigma is None else sigma[k]
            columns, terms = _columns(
                model, size, sides, c2, weights, (k, *corner), lag >= min_lag, references[k], loss, noise
            )
            y = inverses[k] @ columns.reshape(len(columns), size * size)
            gram = jax.lax.dynamic_update_index_in_dim(total[0], total[0][k] + y @ y.T, k, 0)
            return gram, None if terms is None else total[1].at[k].add(terms)

        return jax.lax.fori_loop(0, n_phi, one_angle, total)

    nothing = None if loss is None else jnp.zeros((n_phi, len(TERMS)))
    return jax.lax.fori_loop(first, last, chunk, (jnp.zeros(inverses.shape), nothing))


def _columns(
    model, size, sides, c2, weights, corner, wanted, scaling_ref, loss, sigma
) -> tuple[jax.Array, jax.Array | None]:
    """The columns [s, 1, ds/dtheta, r] on one tile of one angle, (m+3, size, size), times the root of the weight.

    Beside them the sums of the loss's terms.
    """
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
    terms = None
    if loss is not None:
        column, residual, each = loss.rows(bases[2] / sigma, valid)
        bases = [(residual if n == 2 else column) * x for n, x in enumerate(bases)]
        terms = each.sum((1, 2))
    # computed once, not anew for every column
    s, one, r, *gradient = jax.lax.optimization_barrier(bases)
    blocks = [f * (b.dz[:, None, :] - a.dz[:, :, None]) for f, a, b in zip(gradient, early, late, strict=True)]
    return _stacked([s[None], one[None], *blocks, r[None]]), terms


def _stacked(blocks: list[jax.Array]) -> jax.Array:
    """The blocks one after the other. XLA writes ``concatenate`` element by element, three times slower, measured."""
    whole = jnp.zeros((sum(len(b) for b in blocks), *blocks[0].shape[1:]))
    first = 0
    for block in blocks:
        whole = jax.lax.dynamic_update_slice_in_dim(whole, block, first, 0)
        first += len(block)
    return whole


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
