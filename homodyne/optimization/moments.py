"""The one accumulator: per-angle sums that hold everything a fit needs, whatever the number of points.

For one angle let the columns of the (never stored) matrix X be

    X = [ s | 1 | ds/dtheta_1 ... ds/dtheta_p | r ],     r = c2 - offset_ref - contrast_ref * s,

one row a valid pair t1 < t2. ``Moments.gram`` is X^T X, (p+3, p+3). Residual sum of squares, gradient and Gauss-Newton
matrix for *any* contrast and offset are small algebra on it (see ``normal.py``), and it adds over tiles, threads, files
and machines. Measuring ``r`` against a reference scaling instead of c2 itself keeps the digits that c2 ~ 1 would lose.

With ds/dtheta_m = sum_c f_c (P_cm[j] - P_cm[i]) (see models/base.py) the sums over a tile of pairs are row sums, column
sums and thin matrix products of a few fields, e.g.

    sum_ij F (P[j]-P[i]) (Q[j]-Q[i]) = sum_j col[j] P[j]Q[j] + sum_i row[i] P[i]Q[i] - P_i^T F Q_j - P_j^T F^T Q_i.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from homodyne.models import Model
from homodyne.optimization.channels import Side, kernel_fields, take


class Moments(NamedTuple):
    """Sums over pairs: ``gram`` (..., p+3, p+3) and the number of valid pairs ``count`` (...)."""

    gram: jax.Array
    count: jax.Array

    def __add__(self, other: Moments) -> Moments:  # type: ignore[override]
        return Moments(self.gram + other.gram, self.count + other.count)


def zero(n_parameters: int) -> Moments:
    """Identity of the sum."""
    return Moments(jnp.zeros((n_parameters + 3, n_parameters + 3)), jnp.zeros(()))


class TileShape(NamedTuple):
    """Rows and columns of a tile."""

    rows: int
    cols: int


class _Sums(NamedTuple):
    """Running sums of one panel: scalars (6,), row sums (n_fields, H), thin products per column (n_thin, W), count."""

    scalars: jax.Array
    rows: jax.Array
    cols: jax.Array
    count: jax.Array


@partial(jax.jit, static_argnames=("model", "shape"))
def accumulate(
    model: Model,
    shape: TileShape,
    tiles: jax.Array,
    n_tiles: jax.Array,
    row0: jax.Array,
    panel: jax.Array,
    weights: jax.Array | None,
    side: Side,
    scaling_ref: jax.Array,
    min_lag: jax.Array,
) -> Moments:
    """Sum the moments of the tiles of one panel of c2.

    Args:
        tiles: (n, 2) first row (within the panel) and first column of every tile; the first ``n_tiles`` are used.
        row0: frame number of the panel's first row.
        panel: c2 at rows row0..., all columns, (H, W); NaN where there is no valid point. Columns at or left of the
            diagonal are never used.
        weights: square roots of the weights, like ``panel``, or None for equal weights.
        side: channels on the frames, padded to W.
        scaling_ref: reference contrast and offset, (2,).
        min_lag: smallest t2 - t1 in frames.
    """
    height, width = panel.shape

    def body(step: jax.Array, sums: _Sums) -> _Sums:
        row, col = tiles[step, 0], tiles[step, 1]
        early = tuple(take(f, row0 + row, shape.rows) for f in side.early)
        late = tuple(take(f, col, shape.cols) for f in side.late)
        y = jax.lax.dynamic_slice(panel, (row, col), shape).astype(jnp.float64)
        lag = (col + jnp.arange(shape.cols))[None, :] - (row0 + row + jnp.arange(shape.rows))[:, None]
        valid = (lag >= min_lag) & ~jnp.isnan(y)
        w = None if weights is None else jax.lax.dynamic_slice(weights, (row, col), shape)
        plain, fields = _masked_fields(model, early, late, y, valid, w, scaling_ref)
        scalars, row_sums, thin = _tile_sums(plain, fields, [f.dz for f in early], weighted=w is not None)
        return _Sums(
            sums.scalars + scalars,
            _add_slice(sums.rows, row_sums, row),
            _add_slice(sums.cols, thin, col),
            sums.count + valid.sum(dtype=jnp.float64),
        )

    n_rows, n_cols = _layout(model)
    start = _Sums(jnp.zeros(6), jnp.zeros((n_rows, height)), jnp.zeros((n_cols, width)), jnp.zeros(()))
    sums = jax.lax.fori_loop(0, n_tiles, body, start)
    early_rows = [take(f, row0, height).dz for f in side.early]
    return Moments(_assemble(model, sums, early_rows, [f.dz for f in side.late]), sums.count)


def _masked_fields(model, early, late, y, valid, w, scaling_ref):
    """(s, 1, r) and the kernel derivatives on a tile, zero where not valid, times the square root of the weight."""
    s, fields = kernel_fields(model, early, late, mesh=True)
    r = y - scaling_ref[1] - scaling_ref[0] * s
    factor = 1.0 if w is None else w
    s, one, r, *fields = (jnp.where(valid, factor * x, 0.0) for x in (s, jnp.ones_like(s), r, *fields))
    # each field is used many times: computed once, not fused anew into every use
    s, one, r, *fields = jax.lax.optimization_barrier((s, one, r, *fields))
    return (s, one, r), fields


_SCALARS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # pairs of (s, 1, r)


def _pairs(model: Model) -> list[tuple[int, int]]:
    """Unordered pairs of channels."""
    return [(c, d) for c in range(len(model.channels)) for d in range(c, len(model.channels))]


def _layout(model: Model) -> tuple[int, int]:
    """Number of row-sum fields and of thin-product rows."""
    m, sizes = len(model.channels), [len(c.parameters) for c in model.channels]
    thin = sum(1 + sizes[c] + (sizes[d] if d != c else 0) for c, d in _pairs(model))
    return 3 * m + len(_pairs(model)), 3 * m + thin


def _tile_sums(plain, fields, p_early, weighted: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scalars (6,), row sums (n_fields, R) and thin products (n_thin, C) of one tile, in the order of ``_layout``."""

    def product(x: int, f: jax.Array) -> jax.Array:
        # with equal weights the fields are masked already, so that a product with the mask is the field itself
        return f if x == 1 and not weighted else plain[x] * f

    scalars = jnp.stack([jnp.sum(product(b, plain[a]) if b == 1 else plain[a] * plain[b]) for a, b in _SCALARS])
    ones = jnp.ones((1, fields[0].shape[0]))
    products, lefts = [], []
    for f in fields:
        for x in range(3):
            products.append(product(x, f))
            lefts.append(ones)
    for c, f in enumerate(fields):
        for d in range(c, len(fields)):
            products.append(f * fields[d])
            lefts.append(jnp.concatenate([ones, p_early[c]] if c == d else [ones, p_early[c], p_early[d]]))
    ones_col = jnp.ones((fields[0].shape[1],))
    return (
        scalars,
        jnp.stack([x @ ones_col for x in products]),
        jnp.concatenate([left @ x for left, x in zip(lefts, products, strict=True)]),
    )


def _add_slice(total: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    zero_index = jnp.zeros((), dtype=start.dtype)
    old = jax.lax.dynamic_slice(total, (zero_index, start), part.shape)
    return jax.lax.dynamic_update_slice(total, old + part, (zero_index, start))


def _assemble(model: Model, sums: _Sums, p_early: list[jax.Array], p_late: list[jax.Array]) -> jax.Array:
    """(p+3, p+3) gram matrix of [s, 1, ds/dtheta, r] from the running sums."""
    p = len(model.parameters)
    gram = jnp.zeros((p + 3, p + 3))
    place = (0, 1, p + 2)
    for (a, b), value in zip(_SCALARS, sums.scalars, strict=True):
        gram = _add_block(gram, jnp.array([place[a]]), jnp.array([place[b]]), value[None, None], same=a == b)
    columns = [jnp.array(model.indices(c), dtype=int) + 2 for c in model.channels]
    field = thin = 0
    for c in range(len(model.channels)):
        for x in range(3):
            value = p_late[c] @ sums.cols[thin] - p_early[c] @ sums.rows[field]
            gram = _add_block(gram, columns[c], jnp.array([place[x]]), value[:, None], same=False)
            field, thin = field + 1, thin + 1
    for c, d in _pairs(model):
        p1, p2, q1, q2 = p_early[c], p_late[c], p_early[d], p_late[d]
        size = len(p1)
        p_thin = sums.cols[thin + 1 : thin + 1 + size]
        q_thin = p_thin if c == d else sums.cols[thin + 1 + size : thin + 1 + size + len(q1)]
        block = (p2 * sums.cols[thin]) @ q2.T + (p1 * sums.rows[field]) @ q1.T - p_thin @ q2.T - p2 @ q_thin.T
        gram = _add_block(gram, columns[c], columns[d], block, same=c == d)
        field, thin = field + 1, thin + 1 + size + (len(q1) if c != d else 0)
    return gram


def _add_block(gram: jax.Array, a: jax.Array, b: jax.Array, block: jax.Array, same: bool) -> jax.Array:
    gram = gram.at[jnp.ix_(a, b)].add(block)
    return gram if same else gram.at[jnp.ix_(b, a)].add(block.T)
