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
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import qr

from homodyne.optimization.posterior.pairs import signals_at
from homodyne.optimization.posterior.sums import Sums
from homodyne.optimization.source import BlockSource, View, sector_geometries

# Directions of the space of changes that add less than this to chi2 are left out, and pairs for every direction that is kept.
_LEAST, _PAIRS = 1e-6, 2
# A snapshot that adds less than this to chi2, beside those chosen before, need not be seen by all points.
_NEW = 1e-4
# Frames and lags among whose pairs the best ones are sought.
_CANDIDATES = (32, 40)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("rows", "cols", "interpolation", "with_s", "with_one", "with_r", "with_columns", "signal", "at_fit"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Summary:
    """Sums over the pairs of every sector; w is 1, or 1 / sigma**2 where every point has its own, or whitened weights.

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


def summarize(sums: Sums, view: View, snapshots: np.ndarray) -> Summary:
    """Read all points of a view once and keep the sums.

    Args:
        snapshots: theta_n, (S, p), spread as the posterior is.
    """
    n_phi, size = view.n_phi, len(snapshots)
    grams = sums.grams(view, snapshots)
    unit = sums.fit.scaling[:, 0] ** 2 * sums.weight
    bases = [_basis(grams[k, :size, :size], unit[k] / size) for k in range(n_phi)]
    # a multiple of eight, so that what was compiled for one dataset serves many
    n_basis = -(-max(basis.shape[1] for basis in bases) // 8) * 8 or 8
    rows, cols, signal, interpolation = _points(sums, view.source, snapshots, bases, n_basis)
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


def independent(sums: Sums, view: View, snapshots: np.ndarray, n_points: int) -> np.ndarray:
    """Positions of the snapshots that change the signal in ways of their own, as some frames tell, the most different first.

    A pass over all points costs in proportion to its snapshots, and most of them lie in the space of a few.

    Args:
        n_points: of all frames and sectors.
    """
    grams = sums.grams(view, snapshots)[:, : len(snapshots), : len(snapshots)]
    unit = sums.fit.scaling[:, 0] ** 2 * sums.weight
    gram = np.einsum("k,kij->ij", unit, grams) * n_points / view.n_points(sums.min_lag)
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
    sums: Sums, source: BlockSource, snapshots: np.ndarray, bases: list[np.ndarray], n_basis: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of every sector from which the change everywhere follows best, s(theta_0) there, and A."""
    model = sums.model
    t, geometry, n_phi = jnp.asarray(source.t, dtype=float), sector_geometries(model, source), len(source.phi)
    rows, cols = candidates(len(source.t), sums.min_lag)
    n_pairs = min(_PAIRS * n_basis, len(rows))
    every = [jnp.broadcast_to(jnp.asarray(x), (n_phi, len(x))) for x in (rows, cols)]
    signals = np.asarray(signals_at(model, jnp.asarray(np.vstack([sums.fit.theta, snapshots])), t, geometry, *every))
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
