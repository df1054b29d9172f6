"""The data as a few numbers that hold what a likelihood needs, so that it can be evaluated without reading them again.

With r the residuals of a fit at theta_0 and D = s(theta) - s(theta_0) the change of the signal of a sector, chi2 at any theta
and any contrast and offset needs the data only through sums of D with itself, with s(theta_0), 1, r and ds/dtheta. Over a
posterior D hardly leaves the space that a few dozen changes D_n = s(theta_n) - s(theta_0) span, the *snapshots*. With an
orthonormal basis U of that space, D = U a, sums become

    sum w D**2 = a . a,        sum w D x = a . (U^T w x)        for x = s(theta_0), 1, r, ds/dtheta,

and a follows from D at a few well chosen pairs of frames, a = A D[pairs] (empirical interpolation: Barrault et al., C. R.
Acad. Sci. Paris 339 (2004) 667; in gravitational-wave astronomy "reduced order quadrature"). One pass over the data makes the
sums; a likelihood then costs the same for 10**4 and 10**10 points. What the space does not hold is measured by exact passes.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import qr
from threadpoolctl import threadpool_limits

from homodyne.models import Geometry, Model
from homodyne.models.base import differences
from homodyne.optimization.nlsq.stratified_ls import inverse_sigma
from homodyne.optimization.posterior.pairs import signals_at
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import BlockSource, View, sector_geometries, sector_geometry
from homodyne.optimization.uncertainty.reading import READING

# Directions of the space of changes that add less than this to chi2 are left out, and pairs for every direction that is kept.
_LEAST, _PAIRS = 1e-6, 2
# A snapshot that adds less than this to chi2, beside those chosen before, need not be seen by all points.
_NEW = 1e-4
# Frames and lags among whose pairs the best ones are sought, and the side of the squares that are summed at a time.
_CANDIDATES, _SIDES = (32, 40), (16, 32, 64)


@dataclasses.dataclass(frozen=True)
class Fit:
    """Where a summary is expanded: theta (p,), contrast and offset of every sector (n_phi, 2), which parameters are free (p,)."""

    theta: np.ndarray
    scaling: np.ndarray
    free: np.ndarray


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("rows", "cols", "interpolation", "with_s", "with_one", "with_r", "with_columns", "signal", "at_fit"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Summary:
    """Sums over the pairs of every sector; w is 1, or 1 / sigma**2 where every point has its own.

    Attributes:
        rows, cols: frames of the pairs at which the model is evaluated, (n_phi, m); signal: s(theta_0) there.
        interpolation: A, (n_phi, R, m): a = A (s - signal).
        with_s, with_one, with_r, with_columns: U^T w x, (n_phi, R) each, columns (n_phi, R, f).
        at_fit: sums of products of every two of s, 1, r, ds/dtheta at theta_0, (n_phi, 3 + f, 3 + f).
    """

    rows: jax.Array
    cols: jax.Array
    interpolation: jax.Array
    with_s: jax.Array
    with_one: jax.Array
    with_r: jax.Array
    with_columns: jax.Array
    signal: jax.Array
    at_fit: jax.Array

    def of(self, sectors: np.ndarray) -> Summary:
        """The same of some sectors."""
        return jax.tree.map(lambda a: a[sectors], self)

    @property
    def nbytes(self) -> int:
        """Size of the arrays."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))


def summarize(model: Model, view: View, fit: Fit, snapshots: np.ndarray, min_lag: int) -> Summary:
    """Read all points of a view once and keep the sums.

    Args:
        snapshots: theta_n, (S, p), spread as the posterior is.
    """
    source, n_phi = view.source, view.n_phi
    grams = _grams(model, view, fit, snapshots, min_lag)
    size = len(snapshots)
    unit = fit.scaling[:, 0] ** 2 / np.asarray(source.sigma, dtype=float) ** 2
    bases = [_basis(grams[k, :size, :size], unit[k] / size) for k in range(n_phi)]
    # a multiple of eight, so that what was compiled for one dataset serves many
    n_basis = -(-max(basis.shape[1] for basis in bases) // 8) * 8 or 8
    rows, cols, signal, interpolation = _points(model, source, fit, snapshots, bases, n_basis, min_lag)
    with_rest = np.zeros((n_phi, n_basis, grams.shape[1] - size))
    for k, basis in enumerate(bases):
        with_rest[k, : basis.shape[1]] = basis.T @ grams[k, :size, size:]
    rest = jnp.asarray(with_rest)
    return Summary(
        rows=jnp.asarray(rows),
        cols=jnp.asarray(cols),
        interpolation=jnp.asarray(interpolation),
        with_s=rest[:, :, 0],
        with_one=rest[:, :, 1],
        with_r=rest[:, :, 2],
        with_columns=rest[:, :, 3:],
        signal=jnp.asarray(signal),
        at_fit=jnp.asarray(grams[:, size:, size:]),
    )


def independent(model: Model, view: View, fit: Fit, snapshots: np.ndarray, min_lag: int, n_points: int) -> np.ndarray:
    """Positions of the snapshots that change the signal in ways of their own, as some frames tell, the most different first.

    A pass over all points costs in proportion to its snapshots, and most of them lie in the space of a few.

    Args:
        n_points: of all frames and sectors.
    """
    grams = _grams(model, view, fit, snapshots, min_lag)[:, : len(snapshots), : len(snapshots)]
    unit = fit.scaling[:, 0] ** 2 / np.asarray(view.source.sigma, dtype=float) ** 2
    gram = np.einsum("k,kij->ij", unit, grams) * n_points / view.n_points(min_lag)
    chosen: list[int] = []
    left, rows = np.diag(gram).copy(), np.zeros((0, len(gram)))
    while len(chosen) < len(gram):  # Cholesky with pivots: what is left of every snapshot beside those chosen
        i = int(np.argmax(left))
        if left[i] <= max(_NEW, 1e-13 * gram[i, i]):
            break
        row = (gram[i] - rows[:, i] @ rows) / np.sqrt(left[i])
        chosen, rows, left = [*chosen, i], np.vstack([rows, row]), left - row**2
    # a multiple of eight, so that what was compiled for one dataset serves many
    more = min(-(-len(chosen) // 8) * 8 or 8, len(gram))
    others = [i for i in np.argsort(-left, kind="stable").tolist() if i not in chosen]
    return np.array([*chosen, *others][:more])


def _basis(gram: np.ndarray, unit: float) -> np.ndarray:
    """(S, R) that makes orthonormal directions of the snapshots; ``unit`` times a sum of squares is a mean share of chi2."""
    values, vectors = np.linalg.eigh(gram)
    kept = (values * unit > _LEAST) & (values > 1e-14 * values[-1])
    return (vectors[:, kept] / np.sqrt(values[kept]))[:, ::-1]


def _points(
    model: Model,
    source: BlockSource,
    fit: Fit,
    snapshots: np.ndarray,
    bases: list[np.ndarray],
    n_basis: int,
    min_lag: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of every sector from which the change everywhere follows best, s(theta_0) there, and A."""
    t, geometry, n_phi = jnp.asarray(source.t, dtype=float), sector_geometries(model, source), len(source.phi)
    rows, cols = candidates(len(source.t), min_lag)
    n_pairs = min(_PAIRS * n_basis, len(rows))
    every = [jnp.broadcast_to(jnp.asarray(x), (n_phi, len(x))) for x in (rows, cols)]
    signals = np.asarray(signals_at(model, jnp.asarray(np.vstack([fit.theta, snapshots])), t, geometry, *every))
    here, changes = signals[0], signals[1:] - signals[0]
    chosen = np.zeros((n_phi, n_pairs), dtype=int)
    interpolation = np.zeros((n_phi, n_basis, n_pairs))
    for k, basis in enumerate(bases):
        values = changes[:, k].T @ basis  # of the basis at the candidates
        chosen[k] = _best_rows(values, n_pairs)
        interpolation[k, : basis.shape[1]] = np.linalg.pinv(values[chosen[k]], rcond=1e-10)
    return rows[chosen], cols[chosen], np.take_along_axis(here, chosen, 1), interpolation


def _best_rows(values: np.ndarray, n: int) -> np.ndarray:
    """``n`` rows (m, R) that are as independent as can be: QR with pivoting, again on what is left."""
    left, found = np.arange(len(values)), np.zeros(0, dtype=int)
    while len(found) < n:
        if values.shape[1]:
            _, _, order = qr(values[left].T, mode="economic", pivoting=True)
        else:
            order = np.arange(len(left))
        take = order[: min(n - len(found), max(1, values.shape[1]))]
        found = np.concatenate([found, left[take]])
        left = np.delete(left, take)
    return found


def candidates(n: int, min_lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of frames spread over ages and, geometrically, over lags: rows and columns, (m,) each."""
    n_ages, n_lags = _CANDIDATES
    lags = np.unique(np.round(np.geomspace(min_lag, n - 1, n_lags)).astype(int))
    pairs = {(int(i), int(i + lag)) for lag in lags for i in np.linspace(0, n - 1 - lag, n_ages)}
    # denser at early times, where rates may diverge
    pairs |= {(int(i), int(i + lag)) for lag in lags for i in np.geomspace(1, n - lag, n_ages // 2) - 1}
    rows, cols = np.array(sorted(pairs), dtype=int).T
    return rows, cols


def _grams(model: Model, view: View, fit: Fit, snapshots: np.ndarray, min_lag: int) -> np.ndarray:
    """Sums over all pairs of the products of every two of D_1 ... D_S, s, 1, r, ds/dtheta, by sector."""
    source, frames, n = view.source, view.frames, view.n_frames
    side = next((x for x in _SIDES[::-1] if n >= 8 * x), _SIDES[0])
    t = jnp.asarray(source.t, dtype=float)
    thetas = jnp.asarray(np.vstack([fit.theta, snapshots]))
    free = tuple(int(i) for i in np.flatnonzero(fit.free))

    def of_sector(k: int) -> np.ndarray:
        total: np.ndarray | float = 0.0
        here = _channels(model, thetas, t, jnp.asarray(frames), sector_geometry(model, source, k), free)
        for first in range(0, n, side):
            rows, cols = slice(first, min(first + side, n)), slice(first, n)
            with READING:
                c2 = np.asarray(view.read(k, rows, cols), dtype=float)
                sigma = view.read_sigma(k, rows, cols)
            wanted = frames[None, cols] - frames[rows, None] >= min_lag
            valid = wanted & np.isfinite(c2)
            root = valid.astype(float) if sigma is None else inverse_sigma(np.asarray(sigma), valid)
            # whole strips, so that one compilation serves all
            y, w = np.zeros((side, n + side)), np.zeros((side, n + side))
            y[: rows.stop - first, first:n], w[: rows.stop - first, first:n] = np.where(valid, c2, 0.0), root
            total = total + np.asarray(_strip(model, side, here, y, w, first, n, jnp.asarray(fit.scaling[k])))
        return np.asarray(total)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_workers()) as pool:
        return np.stack(list(pool.map(of_sector, range(view.n_phi))))


@partial(jax.jit, static_argnames=("model", "free"))
def _channels(
    model: Model, thetas: jax.Array, t: jax.Array, frames: jax.Array, geometry: Geometry, free: tuple[int, ...]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Channels of one sector at every theta on m frames, (S + 1, m) each, and their derivatives at the first, (f, m)."""
    values = jax.lax.map(lambda theta: model.channel_values(theta, t, geometry), thetas)
    slopes = jax.jacfwd(lambda theta: model.channel_values(theta, t, geometry))(thetas[0])
    return [v[:, frames] for v in values], [s.T[jnp.array(free, dtype=int)][:, frames] for s in slopes]


@partial(jax.jit, static_argnames=("model", "side", "n"))
def _strip(model: Model, side: int, channels, c2, weights, first, n: int, scaling) -> jax.Array:
    """The sums of one strip of rows from ``first`` on, square by square, from the diagonal to the last frame.

    Args:
        c2, weights: (side, n + side) on the frame grid; roots of the weights, 0 where not valid.
    """
    values, slopes = channels

    def cut(a: jax.Array, start: jax.Array) -> jax.Array:
        return jnp.take(a, jnp.clip(start + jnp.arange(side), 0, n - 1), axis=-1)

    early = [cut(z, first) for z in values]
    early_slopes = [cut(z, first) for z in slopes]

    def square(m: jax.Array, total: jax.Array) -> jax.Array:
        start = first + m * side
        late = [cut(z, start) for z in values]
        late_slopes = [cut(z, start) for z in slopes]
        s, columns = _signals(model, early, late, early_slopes, late_slopes)
        y, w = (jax.lax.dynamic_slice(a, (0, start), (side, side)) for a in (c2, weights))
        r = y - scaling[1] - scaling[0] * s[0]
        parts = jnp.concatenate([s[1:] - s[0], s[:1], jnp.ones_like(s[:1]), r[None], columns])
        # pairs that are not valid may hold anything
        parts = jnp.where(w > 0, parts * w, 0.0).reshape(len(parts), -1)
        return total + parts @ parts.T

    size = values[0].shape[0] + 2 + slopes[0].shape[0]
    return jax.lax.fori_loop(0, -(-(n - first) // side), square, jnp.zeros((size, size)))


def _signals(model: Model, early, late, early_slopes, late_slopes) -> tuple[jax.Array, jax.Array]:
    """s of every theta, (S + 1, side, side), and ds/dtheta of the first one, (f, side, side)."""

    def one(i: list[jax.Array], j: list[jax.Array]) -> jax.Array:
        return model.kernel(*differences(model, i, j))

    def pairs(function):
        return jax.vmap(jax.vmap(function, in_axes=(None, 0)), in_axes=(0, None))

    every = jax.vmap(lambda i, j: pairs(one)(i, j))(early, late)

    def slope(a: tuple[list[jax.Array], list[jax.Array]], b: tuple[list[jax.Array], list[jax.Array]]) -> jax.Array:
        (i, di), (j, dj) = a, b
        along = jax.vmap(lambda u, v: jax.jvp(one, (i, j), (u, v))[1])
        return along(di, dj)

    first = [z[0] for z in early], [z.T for z in early_slopes]
    last = [z[0] for z in late], [z.T for z in late_slopes]
    return every, jnp.moveaxis(pairs(slope)(first, last), -1, 0)
