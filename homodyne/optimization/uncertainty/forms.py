"""Quadratic forms of one angle: the fields of the fit, and what they make of intensity traces."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg.blas import dtrmm

from homodyne.fields import mode_weights
from homodyne.models import Model
from homodyne.optimization.channels import Frames, Side, field_values, frame_values, kernel_fields, orthogonalized
from homodyne.optimization.gram import to_parameters
from homodyne.optimization.source import BlockSource, sector_geometries
from homodyne.optimization.uncertainty.reading import READING
from homodyne.optimization.uncertainty.traces import Nodes

# Multiplications for the traces whose products with one another give the scatter of the sum of squares, of one angle.
_PAIRS, _LEAST_PAIRED, _MOST_PAIRED = 1e8, 64, 192
# Rows that tell invalid frames where frames are grouped: all rows would be another pass over the data.
_SAMPLED = 8


class AngleForms:
    """Fields of one angle at the fit, and the forms made of them.

    Attributes:
        g1: field correlation of the nodes, (m, m), real or Hermitian. to_theta: from the columns of the forms to those of X.
    """

    def __init__(
        self, model: Model, theta: np.ndarray, source: BlockSource, k: int, nodes: Nodes, min_lag: int
    ) -> None:
        of_angle = sector_geometries(model, source, [k])
        side = frame_values(model, theta, np.asarray(source.t), nodes.frames, of_angle, len(nodes.frames))
        side, upper = orthogonalized(side)
        self.to_theta = to_parameters(model, upper)[0][:-1, :-1]
        one = Side(*(tuple(Frames(*(a[0] for a in f)) for f in part) for part in side))
        self._early, self._late = ([np.asarray(f.dz) for f in part] for part in one)
        wanted = nodes.frames[None, :] - nodes.frames[:, None] >= min_lag
        self._weights = _weights(source, k, nodes, wanted)
        self._lag = min_lag
        g1, s, fields = _fields(model, one, wanted)
        g1, self._s = np.array(g1), np.asarray(s)
        np.copyto(g1, g1.T.conj(), where=~np.triu(np.ones(g1.shape, dtype=bool)))
        self.g1 = g1
        w = self._weights
        self._field_s = self._s if w is None else w * self._s
        self._fields = [None if f is None else np.asarray(f) if w is None else w * np.asarray(f) for f in fields]
        self._n_pairs = float(np.count_nonzero(wanted) if w is None else w.sum())

    def evaluate(self, delta: np.ndarray, contrast: float) -> tuple[np.ndarray, np.ndarray]:
        """Q of every trace, (T, columns), and products of the noise of c2 of a few of them, see ``_products``.

        Columns are s, 1, and the parameters of one channel after the other in orthogonal combinations.

        Args:
            delta: (m, T), intensity fluctuations.
        """
        up, down = (_triangular(self._field_s, delta, flag) for flag in (False, True))
        q = np.einsum("it,it->t", delta, up)
        columns = [q[:, None], np.einsum("it,it->t", delta, self._ones(delta))[:, None]]
        few = slice(0, int(np.clip(_PAIRS / len(delta) ** 2, _LEAST_PAIRED, _MOST_PAIRED)))
        products = self._products(delta[:, few], (up + down)[:, few], contrast)
        for f, early, late in zip(self._fields, self._early, self._late, strict=True):
            # the field of an exponential channel is -s
            a, b = (-up, -down) if f is None else (_triangular(f, delta, flag) for flag in (False, True))
            columns.append((delta * b).T @ late.T - (delta * a).T @ early.T)
        return np.concatenate(columns, axis=1) - contrast * (delta.T @ self._normalization()), products

    def _ones(self, delta: np.ndarray) -> np.ndarray:
        """Sum of the weights times delta over the later frames of every frame, (m, T)."""
        if self._weights is not None:
            return _triangular(self._weights, delta, False)
        later = np.zeros_like(delta)
        later[: -self._lag] = np.cumsum(delta[::-1], axis=0)[::-1][self._lag :]
        return later

    def _normalization(self) -> np.ndarray:
        """Row and column sums of X_l s, (m, columns): what the frame means take away."""
        plain = [self._field_s * self._s, self._field_s]
        columns = [(g.sum(1) + g.sum(0))[:, None] for g in plain]
        for f, early, late in zip(self._fields, self._early, self._late, strict=True):
            g = -plain[0] if f is None else f * self._s
            rows, cols = g.sum(1)[:, None], g.sum(0)[:, None]
            # sum over j of g_ij (late_j - early_i) for the earlier frame, the same over i for the later one
            columns.append(g @ late.T - rows * early.T + cols * late.T - g.T @ early.T)
        return np.concatenate(columns, axis=1)

    def squares(self, contrast: float, nu: np.ndarray) -> float:
        """Expected weighted sum of squared noise of c2 for one pixel, in closed form.

        The variance of delta_i delta_j - c s (delta_i + delta_j), c = contrast, W_n = sum over modes of w**n, is

            2 W4 (s**2 + 2 s) + c**2 + 2 c**2 s**2 + (nu_i + nu_j)(c + 2 W3 s) + nu_i nu_j (1 + c s)
            - 8 c s W3 s - 2 c**2 s**2 (nu_i + nu_j) + c**2 s**2 (2 c + nu_i + nu_j + 2 c s) - c**2 s**2.

        Args:
            nu: 1 / counts of every node, (m,).
        """
        w = mode_weights(contrast)
        w3, w4, c, s = float((w**3).sum()), float((w**4).sum()), contrast, self._s
        first = self._field_s
        second = first * s
        sums = [self._n_pairs, float(first.sum()), float(second.sum()), float(np.einsum("ij,ij->", second, s))]
        powers = [c**2, 4 * w4, 2 * w4 + c**2 - 8 * c * w3 + 2 * c**3, 2 * c**3]
        total = sum(a * x for a, x in zip(powers, sums, strict=True))
        once = [self._sum_of(nu), *(g.sum(1) @ nu + g.sum(0) @ nu for g in (first, second))]
        both = self._products_of(nu) + c * float(nu @ first @ nu)
        return total + c * once[0] + 2 * w3 * float(once[1]) - c**2 * float(once[2]) + both

    def _sum_of(self, nu: np.ndarray) -> float:
        """Sum over pairs of w_ij (nu_i + nu_j)."""
        if self._weights is not None:
            return float(self._weights.sum(1) @ nu + self._weights.sum(0) @ nu)
        n = len(nu)
        later = np.maximum(n - self._lag - np.arange(n), 0)
        return float((later + later[::-1]) @ nu)

    def _products_of(self, nu: np.ndarray) -> float:
        """Sum over pairs of w_ij nu_i nu_j."""
        return float(nu @ self._ones(nu[:, None])[:, 0])

    def _products(self, delta: np.ndarray, s_delta: np.ndarray, contrast: float) -> np.ndarray:
        """y . y' over pairs of frames for the noise y of every two traces, (n, n); <(y . y')**2> = tr C**2.

        y_ij = delta_i delta_j - contrast s (delta_i + delta_j) - contrast s; weights count as their mean.
        """
        w = self._n_pairs / (len(delta) * (len(delta) - 1) / 2)
        dot = 0.5 * ((delta.T @ delta) ** 2 - (delta**2).T @ delta**2)
        mixed = delta.T @ (delta * s_delta) / w
        s2 = self._s**2
        linear = delta.T @ ((s2.sum(1) + s2.sum(0))[:, None] * delta + s2 @ delta + s2.T @ delta)
        mean = 0.5 * np.einsum("it,it->t", delta, s_delta) / w
        y = dot - contrast * (mixed + mixed.T) + contrast**2 * linear
        y += -contrast * (mean[:, None] + mean[None, :]) + contrast**2 * s2.sum()
        return np.asarray(w * y)


@partial(jax.jit, static_argnames=("model",))
def _fields(model: Model, side: Side, wanted: jax.Array) -> tuple[jax.Array, jax.Array, tuple[jax.Array | None, ...]]:
    """g1, and s and the channels' fields, zero for pairs that are not wanted; None for an exponential channel."""
    s, fields = kernel_fields(model, side.early, side.late)
    masked = tuple(None if f is None else jnp.where(wanted, f, 0.0) for f in fields)
    return field_values(model, side.early, side.late), jnp.where(wanted, s, 0.0), masked


def _weights(source: BlockSource, k: int, nodes: Nodes, wanted: np.ndarray) -> np.ndarray | None:
    """Weight of every pair of nodes, (m, m): 0 for pairs that are not wanted or not valid; None where all others are 1.

    Number of pairs of frames it stands for, times 1 / sigma**2 where every point has its own. Grouped frames count as
    valid, and weigh, as in a sample of rows.
    """
    whole, n = slice(0, len(source.t)), len(source.t)
    rows = [whole] if nodes.exact else [slice(int(r), int(r) + 1) for r in np.linspace(0, 0.9 * n, _SAMPLED)]
    with READING:
        c2 = [np.asarray(source.read_block(k, r, whole))[:, nodes.frames] for r in rows]
        sigma = [source.read_sigma(k, r, whole) for r in rows]
    valid = np.isfinite(np.concatenate(c2))
    given = [np.asarray(x) for x in sigma if x is not None]
    inverse = 1.0 / np.concatenate(given)[:, nodes.frames] ** 2 if given else None
    if nodes.exact:
        if inverse is None and valid[wanted].all():
            return None
        return np.where(wanted & valid, 1.0 if inverse is None else inverse, 0.0)
    later = nodes.frames[None, :] > np.array([r.start for r in rows])[:, None]
    alive = np.where(later.any(0), (valid & later).any(0), True)
    sizes = nodes.sizes * alive
    weights = np.where(wanted, sizes[:, None] * sizes[None, :], 0.0)
    return weights if inverse is None else weights * float(np.mean(inverse[valid & later]))


def _triangular(f: np.ndarray, delta: np.ndarray, transposed: bool) -> np.ndarray:
    """F delta or F^T delta of a strictly upper triangular F, at half the price of a full product."""
    # BLAS sees arrays in C order as their transposes, so that nothing is copied: (F delta)^T = delta^T F^T
    return np.asarray(dtrmm(1.0, f.T, delta.T, side=1, lower=1, trans_a=int(transposed))).T
