"""The gram matrix of a strip of pairs from its sums: which products of fields it needs, and how they go together.

See ``moments`` for the algebra. Everything here is bookkeeping over channels, done once when code is compiled, but for a few
small matrix products a strip.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.loss import TERMS, Loss


class Blocks(NamedTuple):
    """The gram matrix by blocks: of (s, 1, r) (3, 3); with each channel (3, p_c); of each pair of channels (p_c, p_d)."""

    plain: jax.Array
    mixed: tuple[jax.Array, ...]
    pairs: tuple[jax.Array, ...]
    n_valid: jax.Array
    terms: jax.Array | None


class Sums(NamedTuple):
    """Sums of one strip: row sums of every product (n, R), thin products per column (n_thin, W), those of the loss."""

    rows: jax.Array
    cols: jax.Array
    terms: jax.Array | None


_S, _ONE, R = _PLAIN = 0, 1, 2  # the columns of X that need no channel; 3 + c is the field of channel c
Products = dict[tuple[int, int], tuple[int, ...] | None]


def _base(model: Model, c: int) -> tuple[float, int]:
    """Sign and base of the field of channel ``c``: an exponential channel's field is -s."""
    return (-1.0, _S) if model.channels[c].exponential else (1.0, 3 + c)


def _key(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a <= b else (b, a)


def gram_products(model: Model) -> Products:
    """The distinct products of two bases that the gram matrix needs.

    The value says which thin products go with it: None for row sums only, else the channels whose early prefix
    Jacobians multiply it from the left, beside a row of ones for the column sums.
    """
    needed: Products = {}
    for a in _PLAIN:
        for b in _PLAIN:
            needed.setdefault(_key(a, b), None)
    m = len(model.channels)
    for c in range(m):
        for x in _PLAIN:
            key = _key(x, _base(model, c)[1])
            needed[key] = needed.get(key) or ()
        for d in range(c, m):
            key = _key(_base(model, c)[1], _base(model, d)[1])
            needed[key] = tuple(sorted({*(needed.get(key) or ()), c, d}))
    return needed


def thin_rows(model: Model, left: tuple[int, ...] | None) -> int:
    return 0 if left is None else 1 + sum(len(model.channels[c].parameters) for c in left)


def no_terms(loss: Loss | None) -> jax.Array | None:
    return None if loss is None else jnp.zeros(len(TERMS))


def contract(model: Model, products: Products, sums: Sums, p_early: list, p_late: list) -> Blocks:
    """Blocks of the gram matrix from the sums of a strip."""
    keys = list(products)
    thin = [key for key, left in products.items() if left is not None]
    at_row = {key: n for n, key in enumerate(keys)}
    at_col = dict(zip(thin, np.cumsum([0, *(thin_rows(model, products[key]) for key in thin)]).tolist(), strict=False))
    channels = range(len(model.channels))
    couples = [(c, d, _key(_base(model, c)[1], _base(model, d)[1])) for c in channels for d in channels if c <= d]
    # few large products instead of many small ones: their number is what a strip costs
    late, early = jnp.concatenate(p_late), jnp.concatenate(p_early)
    from_cols, from_rows = sums.cols @ late.T, sums.rows @ early.T
    squares = jnp.concatenate([p_late[c] * sums.cols[at_col[key]] for c, _, key in couples]) @ late.T
    squares += jnp.concatenate([p_early[c] * sums.rows[at_row[key]] for c, _, key in couples]) @ early.T
    edges = np.cumsum([0, *(len(c.parameters) for c in model.channels)])
    own = [slice(edges[c], edges[c + 1]) for c in channels]
    plain = sums.rows[jnp.array([at_row[_key(a, b)] for a in _PLAIN for b in _PLAIN])].sum(1).reshape(3, 3)
    mixed, pairs, row = [], [], 0
    for c in channels:
        sign, base = _base(model, c)
        of_c = [_key(x, base) for x in _PLAIN]
        cols, rows = (jnp.array([at[key] for key in of_c]) for at in (at_col, at_row))
        mixed.append(sign * (from_cols[cols, own[c]] - from_rows[rows, own[c]]))
    for c, d, key in couples:
        size = len(model.channels[c].parameters)
        block, row = squares[row : row + size, own[d]], row + size
        block -= from_cols[_thin_slice(model, products, at_col, key, c), own[d]]
        block -= from_cols[_thin_slice(model, products, at_col, key, d), own[c]].T
        pairs.append(_base(model, c)[0] * _base(model, d)[0] * block)
    return Blocks(plain, tuple(mixed), tuple(pairs), sums.rows[-1].sum(), sums.terms)


def _thin_slice(model: Model, products: Products, at_col: dict, key: tuple[int, int], c: int) -> slice:
    """Rows of the thin products of ``key`` with channel ``c`` from the left."""
    start = at_col[key] + 1
    left = products[key]
    assert left is not None
    start += sum(len(model.channels[d].parameters) for d in left[: left.index(c)])
    return slice(start, start + len(model.channels[c].parameters))


def no_blocks(model: Model, loss: Loss | None) -> Blocks:
    sizes = [len(c.parameters) for c in model.channels]
    pairs = tuple(jnp.zeros((sizes[c], sizes[d])) for c in range(len(sizes)) for d in range(c, len(sizes)))
    mixed = tuple(jnp.zeros((3, size)) for size in sizes)
    return Blocks(jnp.zeros((3, 3)), mixed, pairs, jnp.zeros(()), no_terms(loss))


def assemble(model: Model, blocks: Blocks) -> jax.Array:
    """(m+3, m+3) gram matrix of [s, 1, channels, r]."""
    count = len(model.channels)
    order = {(c, d): n for n, (c, d) in enumerate((c, d) for c in range(count) for d in range(c, count))}
    by_channel = [[blocks.plain, *blocks.mixed]]
    for c in range(count):
        pairs = [blocks.pairs[order[c, d]] if c <= d else blocks.pairs[order[d, c]].T for d in range(count)]
        by_channel.append([blocks.mixed[c].T, *pairs])
    whole = jnp.block(by_channel)
    place = np.array([0, 1, *range(3, whole.shape[0]), 2])
    return whole[place][:, place]


def to_parameters(model: Model, upper: tuple[np.ndarray, ...]) -> np.ndarray:
    """The linear map from the columns of ``Moments`` to X, (n_phi, m+3, p+3); parameters that channels share add up.

    Args:
        upper: of every channel, (n_phi, p_c, p_c), see ``channels.orthogonalized``.
    """
    p, m = len(model.parameters), sum(len(channel.parameters) for channel in model.channels)
    spread = np.zeros((len(upper[0]), m + 3, p + 3))
    spread[:, 0, 0] = spread[:, 1, 1] = spread[:, m + 2, p + 2] = 1.0
    row = 2
    for channel, r in zip(model.channels, upper, strict=True):
        size = len(channel.parameters)
        spread[:, row : row + size, np.array(model.indices(channel), dtype=int) + 2] = r
        row += size
    return spread
