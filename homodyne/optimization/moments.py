"""The one accumulator: per-angle sums that hold everything a fit needs, whatever the number of points.

For one angle let the columns of the (never stored) matrix X be

    X = [ s | 1 | ds/dtheta_1 ... ds/dtheta_m | r ],     r = c2 - offset_ref - contrast_ref * s,

one row a valid pair t1 < t2, theta the parameters of one channel after the other (``gram.to_parameters`` leads back to those
of the model). ``Moments.gram`` is X^T X, (m+3, m+3). Residual sum of squares, gradient and Gauss-Newton
matrix for *any* contrast and offset are small algebra on it (see ``normal.py``), and it adds over tiles, threads, files
and machines. Measuring ``r`` against a reference scaling instead of c2 itself keeps the digits that c2 ~ 1 would lose.

With ds/dtheta_m = sum_c f_c (P_cm[j] - P_cm[i]) (see models/base.py) the sums over a strip of pairs are row sums, column
sums and thin matrix products of a few fields,

    sum_ij F (P[j]-P[i]) (Q[j]-Q[i]) = sum_j col[j] P[j]Q[j] + sum_i row[i] P[i]Q[i] - P_i^T F Q_j - P_j^T F^T Q_i.

P and Q are measured from the strip's middle frame: the four terms nearly cancel where frames are close, and far from
t = 0 the uncentered ones would lose six digits.

With a robust loss (``loss.py``) rows are weighted so that the gram matrix holds the exact gradient and Hessian of the
robust cost at ``reference``: the columns but the last by the root of the curvature, the last by rho' over it.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import Side, angle, kernel_fields, seen_from, take
from homodyne.optimization.gram import (
    Blocks,
    Products,
    R,
    Sums,
    assemble,
    contract,
    gram_products,
    no_blocks,
    no_terms,
    thin_rows,
)
from homodyne.optimization.loss import Loss


@partial(jax.tree_util.register_dataclass, data_fields=("gram", "count", "terms"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over pairs: ``gram`` (m+3, m+3) and the number of valid pairs ``count``; a commutative monoid under +.

    ``terms`` (6,) are the sums of ``Loss.terms``, None without a robust loss.
    """

    gram: jax.Array
    count: jax.Array
    terms: jax.Array | None = None

    def __add__(self, other: Moments) -> Moments:
        return jax.tree.map(jnp.add, self, other)


def zero(n_columns: int) -> Moments:
    """Identity of the sum for ``n_columns`` parameters of all channels."""
    return Moments(jnp.zeros((n_columns + 3, n_columns + 3)), jnp.zeros(()))


class TileShape(NamedTuple):
    """Rows of a strip, and columns evaluated at once, a multiple of 4."""

    rows: int
    cols: int

    @property
    def narrow(self) -> int:
        """Columns of the tiles at the end of a strip."""
        return self.cols // 4


class Panel(NamedTuple):
    """Rows of one angle's map, padded; what one call sums over.

    Attributes:
        k: the angle. row0: frame number of the first row. n_rows, n_cols: rows in this panel and frames in all,
            without the padding.
        c2: (H, W) from column 0; NaN where there is no valid point. What lies on or left of the diagonal, below the
            last row or right of the last column is not used.
        weights: square roots of the weights, (H, W), or None for equal weights.
    """

    k: jax.Array | int
    row0: jax.Array | int
    n_rows: jax.Array | int
    n_cols: jax.Array | int
    c2: jax.Array | np.ndarray
    weights: jax.Array | np.ndarray | None


@partial(jax.jit, static_argnames=("model", "shape", "factor", "dtype", "loss"))
def accumulate(
    model: Model,
    shape: TileShape,
    panel: Panel,
    sides: Side,
    scaling_ref: jax.Array,
    min_lag: jax.Array | int,
    factor: bool = False,
    dtype: str = "float64",
    loss: Loss | None = None,
    sigma: jax.Array | float = 1.0,
) -> Moments:
    """Sum the moments of one panel of c2.

    Args:
        sides: channels of all angles on the frames, padded to W.
        scaling_ref: reference contrast and offset of the angle, (2,).
        min_lag: smallest t2 - t1 in frames.
        factor: take exponentials as products of numbers per frame, where ``can_factor`` allows it.
        dtype: float32 evaluates the model and sums over a tile in single precision; tiles always add up in float64.
        loss: None for least squares. sigma: noise of the angle, only used with a loss.
    """
    side = angle(sides, panel.k)

    def strip(b: jax.Array, total: Blocks) -> Blocks:
        part = _strip(model, shape, panel, side, scaling_ref, min_lag, b * shape.rows, factor, dtype, loss, sigma)
        return jax.tree.map(jnp.add, total, part)

    total = jax.lax.fori_loop(0, -(-panel.n_rows // shape.rows), strip, no_blocks(model, loss))
    return Moments(assemble(model, total), total.n_valid, total.terms)


def _strip(model, shape, panel, side, scaling_ref, min_lag, row, factor, dtype, loss, sigma) -> Blocks:
    """Moments of the rows [row, row + R) of a panel, from their diagonal to the last frame."""
    first = panel.row0 + row
    early = tuple(take(f, first, shape.rows) for f in side.early)
    middle = first + shape.rows // 2
    at_middle = [take(f, middle, 1) for f in side.late]
    p_early = [f.dz - o.dz for f, o in zip(early, at_middle, strict=True)]
    p_late = [f.dz - o.dz for f, o in zip(side.late, at_middle, strict=True)]
    here = seen_from(model, early, at_middle, 1, factor, dtype)
    there = seen_from(model, side.late, at_middle, -1, factor, dtype)
    left = [p.astype(dtype) for p in p_early]
    reference = scaling_ref.astype(dtype)
    # frames beyond the data must not look valid, whatever the padding of a panel holds
    # 32 bits: as many lanes as the numbers of single precision; but eight of them beside a power are more than the
    # compiler can select code for on processors with AVX-512 ("LLVM ERROR: Cannot select", jaxlib 0.10.2)
    whole = jnp.int32 if shape.narrow > 8 else jnp.int64
    i = jnp.arange(shape.rows)
    i = jnp.where(row + i < panel.n_rows, first + i, 2 * panel.n_cols).astype(whole)
    least = jnp.asarray(min_lag, whole)
    products = gram_products(model)

    def tiles(width: int, start: jax.Array):
        def tile(m: jax.Array, sums: Sums) -> Sums:
            col = start + m * width
            late = tuple(take(f, col, width) for f in there)
            y, w = (
                None if a is None else jax.lax.dynamic_slice(a, (row, col), (shape.rows, width))
                for a in (panel.c2, panel.weights)
            )
            # slices are copied out first: fused into the arithmetic, their moving offsets keep it from being vectorized
            own, late, y = jax.lax.optimization_barrier((here, late, y))
            j = col + jnp.arange(width)
            j = jnp.where(j < panel.n_cols, j, -1).astype(whole)
            valid = (j[None, :] - i[:, None] >= least) & ~jnp.isnan(y)
            y, w = (None if a is None else a.astype(dtype) for a in (y, w))
            fields, terms = _masked_fields(model, own, late, y, valid, w, reference, loss, sigma)
            rows, thin = _tile_sums(products, fields, left, valid)
            cols = jax.lax.dynamic_update_slice(sums.cols, thin, (jnp.zeros_like(col), col))
            return Sums(sums.rows + rows, cols, jax.tree.map(jnp.add, sums.terms, terms))

        return tile

    n_thin = sum(thin_rows(model, left) for left in products.values())
    sums = Sums(jnp.zeros((len(products) + 1, shape.rows)), jnp.zeros((n_thin, panel.c2.shape[1])), no_terms(loss))
    # wide tiles, and narrow ones for what is left: less evaluated beyond the last frame
    n_wide = (panel.n_cols - first) // shape.cols
    rest = first + n_wide * shape.cols
    sums = jax.lax.fori_loop(0, n_wide, tiles(shape.cols, first), sums)
    sums = jax.lax.fori_loop(0, -(-(panel.n_cols - rest) // shape.narrow), tiles(shape.narrow, rest), sums)
    return contract(model, products, sums, p_early, p_late)


def _masked_fields(
    model, early, late, y, valid, w, scaling_ref, loss, sigma
) -> tuple[list[jax.Array | None], jax.Array | None]:
    """The bases (s, 1, r, fields of the channels) on a tile, zero where not valid, times the square root of the weight.

    With equal weights the base 1 is the mask itself, which every other base carries already: None. Beside them the sums
    of the loss's terms.
    """
    s, gradient = kernel_fields(model, early, late)
    # each array is used many times: computed once, not fused anew into every use
    s, valid, *gradient = jax.lax.optimization_barrier([jnp.where(valid, s, 0.0), valid, *gradient])
    r = jnp.where(valid, y - scaling_ref[1] - scaling_ref[0] * s, 0.0)
    masked = [None if g is None else jnp.where(valid, g, 0.0) for g in gradient]
    if loss is not None:
        return _robust_bases(loss, sigma, s, r, masked, valid, w)
    bases = [s, None, r, *masked]
    if w is not None:
        bases = [None if x is None else w * x for x in (s, valid, r, *masked)]
    return jax.lax.optimization_barrier(bases), None


def _robust_bases(loss, sigma, s, r, masked, valid, w) -> tuple[list[jax.Array | None], jax.Array]:
    """The same with the weights of a robust loss, and the sums of its terms."""
    weighted = r if w is None else w * r
    column, residual, terms = loss.rows(weighted / jnp.asarray(sigma, r.dtype), valid)
    if w is not None:
        column = w * column
    column, residual = jax.lax.optimization_barrier((column, residual))
    bases = [None if x is None else column * x for x in (s, valid, None, *masked)]
    bases[R] = weighted * residual
    return jax.lax.optimization_barrier(bases), terms.sum((1, 2), dtype=jnp.float64)


def _tile_sums(products: Products, fields, p_early, valid) -> tuple[jax.Array, jax.Array]:
    """Row sums (n_products + 1, R) and thin products (n_thin, C) of one tile; the last row sum counts valid pairs."""
    dtype = p_early[0].dtype
    ones, ones_right = jnp.ones((1, valid.shape[0]), dtype), jnp.ones(valid.shape[1], dtype)
    count = valid.sum(1, dtype=dtype)
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
    return jnp.stack([*rows, count]).astype(jnp.float64), jnp.concatenate(thin).astype(jnp.float64)


def _product(a: jax.Array | None, b: jax.Array | None) -> jax.Array | None:
    """Product of two bases; the mask (None) leaves the other as it is."""
    if a is None or b is None:
        return b if a is None else a
    return a * b
