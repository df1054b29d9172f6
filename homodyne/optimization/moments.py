"""The one accumulator: per-angle sums that hold everything a fit needs, whatever the number of points.

For one angle let the columns of the (never stored) matrix X be

    X = [ s | 1 | ds/dtheta_1 ... ds/dtheta_p | r ],     r = c2 - offset_ref - contrast_ref * s,

one row a valid pair t1 < t2. ``Moments.gram`` is X^T X, (p+3, p+3). Residual sum of squares, gradient and Gauss-Newton
matrix for *any* contrast and offset are small algebra on it (see ``normal.py``), and it adds over tiles, threads, files
and machines. Measuring ``r`` against a reference scaling instead of c2 itself keeps the digits that c2 ~ 1 would lose.

With ds/dtheta_m = sum_c f_c (P_cm[j] - P_cm[i]) (see models/base.py) the sums over a strip of pairs are row sums, column
sums and thin matrix products of a few fields,

    sum_ij F (P[j]-P[i]) (Q[j]-Q[i]) = sum_j col[j] P[j]Q[j] + sum_i row[i] P[i]Q[i] - P_i^T F Q_j - P_j^T F^T Q_i.

P and Q are measured from the strip's middle frame: the four terms nearly cancel where frames are close, and far from
t = 0 the uncentered ones would lose six digits.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import Side, angle, kernel_fields, take


@partial(jax.tree_util.register_dataclass, data_fields=("gram", "count"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over pairs: ``gram`` (p+3, p+3) and the number of valid pairs ``count``; a commutative monoid under +."""

    gram: jax.Array
    count: jax.Array

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.gram + other.gram, self.count + other.count)


def zero(n_parameters: int) -> Moments:
    """Identity of the sum."""
    return Moments(jnp.zeros((n_parameters + 3, n_parameters + 3)), jnp.zeros(()))


class TileShape(NamedTuple):
    """Rows of a strip, and columns evaluated at once."""

    rows: int
    cols: int


class Panel(NamedTuple):
    """Rows of one angle's map, padded; what one call sums over.

    Attributes:
        k: the angle. row0: frame number of the first row. n_rows, n_cols: rows in this panel and frames in all,
            without the padding.
        c2: (H, W) from column 0; NaN where there is no valid point. Columns on or left of the diagonal are not used.
        weights: square roots of the weights, (H, W), or None for equal weights.
    """

    k: jax.Array | int
    row0: jax.Array | int
    n_rows: jax.Array | int
    n_cols: jax.Array | int
    c2: jax.Array | np.ndarray
    weights: jax.Array | np.ndarray | None


@partial(jax.jit, static_argnames=("model", "shape"))
def accumulate(
    model: Model, shape: TileShape, panel: Panel, sides: Side, scaling_ref: jax.Array, min_lag: jax.Array | int
) -> Moments:
    """Sum the moments of one panel of c2.

    Args:
        sides: channels of all angles on the frames, padded to W.
        scaling_ref: reference contrast and offset of the angle, (2,).
        min_lag: smallest t2 - t1 in frames.
    """
    side = angle(sides, panel.k)

    def strip(b: jax.Array, total: _Blocks) -> _Blocks:
        part = _strip(model, shape, panel, side, scaling_ref, min_lag, b * shape.rows)
        return jax.tree.map(jnp.add, total, part)

    total = jax.lax.fori_loop(0, -(-panel.n_rows // shape.rows), strip, _no_blocks(model))
    return Moments(_assemble(model, total), total.n_valid)


class _Blocks(NamedTuple):
    """The gram matrix by blocks: of (s, 1, r) (3, 3); with each channel (3, p_c); of each pair of channels (p_c, p_d)."""

    plain: jax.Array
    mixed: tuple[jax.Array, ...]
    pairs: tuple[jax.Array, ...]
    n_valid: jax.Array


class _Sums(NamedTuple):
    """Sums of one strip: row sums of every product (n, R), thin products per column (n_thin, W)."""

    rows: jax.Array
    cols: jax.Array


def _strip(model, shape, panel, side, scaling_ref, min_lag, row) -> _Blocks:
    """Moments of the rows [row, row + R) of a panel, from their diagonal to the last frame."""
    first = panel.row0 + row
    early = tuple(take(f, first, shape.rows) for f in side.early)
    middle = first + shape.rows // 2
    origin = [jax.lax.dynamic_slice_in_dim(f.dz, middle, 1, axis=-1) for f in side.late]
    p_early = [f.dz - o for f, o in zip(early, origin, strict=True)]
    p_late = [f.dz - o for f, o in zip(side.late, origin, strict=True)]
    products = _products(model)

    def tile(m: jax.Array, sums: _Sums) -> _Sums:
        col = first + m * shape.cols
        late = tuple(take(f, col, shape.cols) for f in side.late)
        y, w = (None if a is None else jax.lax.dynamic_slice(a, (row, col), shape) for a in (panel.c2, panel.weights))
        # slices are copied out first: fused into the arithmetic, their moving offsets keep it from being vectorized
        here, late, y = jax.lax.optimization_barrier((early, late, y))
        lag = (col + jnp.arange(shape.cols))[None, :] - (first + jnp.arange(shape.rows))[:, None]
        valid = (lag >= min_lag) & ~jnp.isnan(y)
        fields = _masked_fields(model, here, late, y.astype(jnp.float64), valid, w, scaling_ref)
        rows, thin = _tile_sums(products, fields, p_early, valid)
        cols = jax.lax.dynamic_update_slice(sums.cols, thin, (jnp.zeros_like(col), col))
        return _Sums(sums.rows + rows, cols)

    n_thin = sum(_thin_rows(model, left) for left in products.values())
    start = _Sums(jnp.zeros((len(products) + 1, shape.rows)), jnp.zeros((n_thin, panel.c2.shape[1])))
    sums = jax.lax.fori_loop(0, -(-(panel.n_cols - first) // shape.cols), tile, start)
    return _contract(model, products, sums, p_early, p_late)


_S, _ONE, _R = 0, 1, 2  # the columns of X that need no channel; 3 + c is the field of channel c
Products = dict[tuple[int, int], tuple[int, ...] | None]


def _base(model: Model, c: int) -> tuple[float, int]:
    """Sign and base of the field of channel ``c``: an exponential channel's field is -s."""
    return (-1.0, _S) if model.channels[c].exponential else (1.0, 3 + c)


def _key(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a <= b else (b, a)


def _products(model: Model) -> Products:
    """The distinct products of two bases that the gram matrix needs.

    The value says which thin products go with it: None for row sums only, else the channels whose early prefix
    Jacobians multiply it from the left, beside a row of ones for the column sums.
    """
    needed: Products = {}
    for a in (_S, _ONE, _R):
        for b in (_S, _ONE, _R):
            needed.setdefault(_key(a, b), None)
    m = len(model.channels)
    for c in range(m):
        for x in (_S, _ONE, _R):
            key = _key(x, _base(model, c)[1])
            needed[key] = needed.get(key) or ()
        for d in range(c, m):
            key = _key(_base(model, c)[1], _base(model, d)[1])
            needed[key] = tuple(sorted({*(needed.get(key) or ()), c, d}))
    return needed


def _thin_rows(model: Model, left: tuple[int, ...] | None) -> int:
    return 0 if left is None else 1 + sum(len(model.channels[c].parameters) for c in left)


def _masked_fields(model, early, late, y, valid, w, scaling_ref) -> list[jax.Array | None]:
    """The bases (s, 1, r, fields of the channels) on a tile, zero where not valid, times the square root of the weight.

    With equal weights the base 1 is the mask itself, which every other base carries already: None.
    """
    s, gradient = kernel_fields(model, early, late, mesh=True)
    r = y - scaling_ref[1] - scaling_ref[0] * s
    if w is None:
        bases = [s, None, r, *gradient]
    else:
        bases = [None if x is None else w * x for x in (s, jnp.ones_like(s), r, *gradient)]
    masked = [None if x is None else jnp.where(valid, x, 0.0) for x in bases]
    # each base is used many times: computed once, not fused anew into every use
    return jax.lax.optimization_barrier(masked)


def _tile_sums(products: Products, fields, p_early, valid) -> tuple[jax.Array, jax.Array]:
    """Row sums (n_products + 1, R) and thin products (n_thin, C) of one tile; the last row sum counts valid pairs."""
    ones, ones_right = jnp.ones((1, valid.shape[0])), jnp.ones(valid.shape[1])
    count = valid.sum(1, dtype=jnp.float64)
    rows, thin = [], []
    for (a, b), left in products.items():
        x = _product(fields[a], fields[b])
        if x is None:
            rows.append(count)
        elif left is None:
            rows.append(x.sum(1))
        else:
            rows.append(x @ ones_right)
            thin.append(jnp.concatenate([ones, *(p_early[c] for c in left)]) @ x)
    return jnp.stack([*rows, count]), jnp.concatenate(thin)


def _product(a: jax.Array | None, b: jax.Array | None) -> jax.Array | None:
    """Product of two bases; the mask (None) leaves the other as it is."""
    if a is None or b is None:
        return b if a is None else a
    return a * b


def _contract(model: Model, products: Products, sums: _Sums, p_early: list, p_late: list) -> _Blocks:
    """Blocks of the gram matrix from the sums of a strip."""
    rows = dict(zip(products, sums.rows, strict=False))
    cols, thin = _unstack(model, products, sums.cols)
    plain = jnp.stack([rows[_key(a, b)].sum() for a in (_S, _ONE, _R) for b in (_S, _ONE, _R)]).reshape(3, 3)
    mixed, pairs = [], []
    for c in range(len(model.channels)):
        sign, base = _base(model, c)
        keys = [_key(x, base) for x in (_S, _ONE, _R)]
        col, row = jnp.stack([cols[key] for key in keys]), jnp.stack([rows[key] for key in keys])
        mixed.append(sign * (col @ p_late[c].T - row @ p_early[c].T))
        for d in range(c, len(model.channels)):
            key = _key(base, _base(model, d)[1])
            block = (p_late[c] * cols[key]) @ p_late[d].T + (p_early[c] * rows[key]) @ p_early[d].T
            block -= thin[key, c] @ p_late[d].T + p_late[c] @ thin[key, d].T
            pairs.append(sign * _base(model, d)[0] * block)
    return _Blocks(plain, tuple(mixed), tuple(pairs), sums.rows[-1].sum())


def _no_blocks(model: Model) -> _Blocks:
    sizes = [len(c.parameters) for c in model.channels]
    pairs = tuple(jnp.zeros((sizes[c], sizes[d])) for c in range(len(sizes)) for d in range(c, len(sizes)))
    return _Blocks(jnp.zeros((3, 3)), tuple(jnp.zeros((3, size)) for size in sizes), pairs, jnp.zeros(()))


def _assemble(model: Model, blocks: _Blocks) -> jax.Array:
    """(p+3, p+3) gram matrix of [s, 1, ds/dtheta, r]: parameters that several channels share add up."""
    m, p = len(model.channels), len(model.parameters)
    order = {(c, d): n for n, (c, d) in enumerate((c, d) for c in range(m) for d in range(c, m))}
    by_channel = [[blocks.plain, *blocks.mixed]]
    for c in range(m):
        pairs = [blocks.pairs[order[c, d]] if c <= d else blocks.pairs[order[d, c]].T for d in range(m)]
        by_channel.append([blocks.mixed[c].T, *pairs])
    place = np.array([0, 1, p + 2, *(i + 2 for channel in model.channels for i in model.indices(channel))])
    spread = jnp.asarray(np.eye(p + 3)[:, place])
    return spread @ jnp.block(by_channel) @ spread.T


def _unstack(model: Model, products: Products, stacked: jax.Array):
    """Column sums by product, and thin products by product and channel, from their stack."""
    cols, thin, row = {}, {}, 0
    for key, left in products.items():
        if left is None:
            continue
        cols[key], row = stacked[row], row + 1
        for c in left:
            size = len(model.channels[c].parameters)
            thin[key, c], row = stacked[row : row + size], row + size
    return cols, thin
