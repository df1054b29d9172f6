"""Scatter of the scores: how the noise of speckle moves the sums that a least-squares fit is made of.

A fit is linear in small noise: with X = [s, 1, ds/dtheta] (see ``moments``) it depends on the data through the scores

    q_l = sum_(i<j) X_l,ij (c2_ij - <c2_ij>),        c2_ij = <I_i I_j> / (<I_i> <I_j>), averages over P pixels.

To first order in 1 / P the score is the mean over pixels of a quadratic form of the intensity fluctuations delta,

    Q_l = sum_(i<j) X_l,ij (delta_i delta_j - contrast s_ij (delta_i + delta_j)),

the second part from the normalization by the frame means, so Cov(q) = Cov(Q of one pixel) / P. The covariance over
traces drawn from the fitted model is an estimate of it; no noise of c2 needs to be Gaussian or independent. With
X_m = sum_c f_c (P_cm[j] - P_cm[i]) a form costs matrix products with the few fields f_c, not with every X_l.
"""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg.blas import dtrmm
from threadpoolctl import threadpool_limits

from homodyne.models import Model
from homodyne.optimization.channels import Frames, Side, frame_values, kernel_fields, orthogonalized
from homodyne.optimization.dense import fields_of
from homodyne.optimization.moments import to_parameters
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import BlockSource
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.uncertainty.traces import Nodes, choose_nodes, group_coherence, intensity_traces

# Multiplications for the forms, and for the modes, of all angles together, which bound the traces of an angle between
# these: a variance from T traces is good to sqrt((kurtosis - 1) / T), and forms of slow speckle have kurtoses of 10.
_FORMS, _MODES, _LEAST, _MOST = 1e10, 4e10, 256, 1024
# Multiplications for the traces whose products with one another give the scatter of the sum of squares, of one angle.
_PAIRS, _LEAST_PAIRED, _MOST_PAIRED = 1e8, 64, 192
# Files are read by one thread at a time.
_READING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Scores:
    """What noise does to the scores of every angle.

    Attributes:
        roots: for every angle (T, p + 2); root^T root = Cov(q), columns s, 1, ds/dtheta, in units of c2 (weights of
            points included where they have their own, otherwise not).
        chi2_mean, chi2_sd: expected sum of squared noise of every angle, and its standard deviation, (n_phi,); same units.
        nodes: the frames that were used.
    """

    roots: list[np.ndarray]
    chi2_mean: np.ndarray
    chi2_sd: np.ndarray
    nodes: Nodes


def draw_scores(
    model: Model, theta: np.ndarray, source: BlockSource, noise: SpeckleNoise, min_lag: int, seed: int = 0
) -> Scores:
    """Scores of every angle at the fitted ``theta`` (p,) for the noise found; reads the data once, for masked points."""
    nodes = choose_nodes(model, theta, source)
    n_phi = len(source.phi)
    work = n_phi * len(nodes.frames) ** 2
    n_traces = int(np.clip(_FORMS / (2 * (1 + len(model.channels)) * work), _LEAST, _MOST))
    most_modes = int(_MODES / (2 * work))

    def of_angle(k: int) -> tuple[np.ndarray, float, float]:
        rng = np.random.default_rng([seed, k])
        angle = _Angle(model, theta, source, k, nodes, min_lag)
        coherence = group_coherence(model, theta, source, float(source.phi[k]), nodes)
        contrast, nu = float(noise.contrast[k]), noise.nu[k] / nodes.sizes
        delta = intensity_traces(angle.g1, contrast, nu, coherence, n_traces, most_modes, rng)
        forms, squares, variance = angle.forms(delta, contrast)
        unit = noise.offset[k] / np.sqrt(noise.pixels[k])
        root = (forms - forms.mean(0)) @ angle.to_theta * (unit / np.sqrt(n_traces - 1))
        return root, unit**2 * squares, unit**2 * np.sqrt(variance)

    # an angle a thread, and one thread each in the library of linear algebra: its own wait for each other when there are
    # more of them than processors
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_workers()) as pool:
        roots, mean, sd = zip(*pool.map(of_angle, range(n_phi)), strict=True)
    return Scores(list(roots), np.array(mean), np.array(sd), nodes)


class _Angle:
    """Fields of one angle at the fit, and the forms made of them."""

    def __init__(
        self, model: Model, theta: np.ndarray, source: BlockSource, k: int, nodes: Nodes, min_lag: int
    ) -> None:
        phi = float(source.phi[k])
        geometry = model.geometry(phi, source.q, source.gap, source.dt)
        side = frame_values(
            model, theta, np.asarray(source.t), nodes.frames, geometry._replace(phi=jnp.array([phi])), len(nodes.frames)
        )
        side, upper = orthogonalized(side)
        self.to_theta = to_parameters(model, upper)[0][:-1, :-1]
        self.g1 = model.g1(theta, source.t, phi, source.q, source.gap, nodes.frames)
        one = Side(*(tuple(Frames(*(a[0] for a in f)) for f in part) for part in side))
        self.early, self.late = ([np.asarray(f.dz) for f in part] for part in one)
        self._weights = _weights(source, k, nodes, min_lag)
        fields = [np.asarray(f) for f in _fields(model, one)]
        self._s = fields[0]
        self._uniform = bool(np.all(self._weights[np.triu_indices(len(self._s), 1)] == 1))
        # Fortran order, as the triangular products want it: the transpose of an array in C order
        self._fields = [np.where(self._weights != 0, self._weights * f, 0.0) for f in fields]

    def forms(self, delta: np.ndarray, contrast: float) -> tuple[np.ndarray, float, float]:
        """Q of every trace, (T, m + 2), and mean and variance of the weighted sum of squared noise, for one pixel."""
        linear = self._normalization()
        up, down = (_triangular(self._fields[0], delta, transposed=flag) for flag in (False, True))
        columns = [np.einsum("it,it->t", delta, up)[:, None]]
        squares = self._squares(delta, up + down, contrast)
        columns.append(np.einsum("it,it->t", delta, _triangular(self._weights, delta, transposed=False))[:, None])
        few = slice(0, int(np.clip(_PAIRS / len(delta) ** 2, _LEAST_PAIRED, _MOST_PAIRED)))
        variance = self._variance_of_squares(delta[:, few], (up + down)[:, few], columns[0][few, 0], contrast)
        for f, early, late in zip(self._fields[1:], self.early, self.late, strict=True):
            up, down = (_triangular(f, delta, transposed=flag) for flag in (False, True))
            columns.append((delta * down).T @ late.T - (delta * up).T @ early.T)
        return np.concatenate(columns, axis=1) - contrast * (delta.T @ linear), squares, variance

    def _normalization(self) -> np.ndarray:
        """Row and column sums of X_l s, (m, columns): what the frame means take away."""
        columns = []
        for c, f in enumerate([self._fields[0], self._weights, *self._fields[1:]]):
            g = f * self._s
            rows, cols = g.sum(1), g.sum(0)
            if c < 2:
                columns.append((rows + cols)[:, None])
                continue
            early, late = self.early[c - 2], self.late[c - 2]
            # sum over j of g_ij (late_j - early_i) for the earlier frame, the same over i for the later one
            columns.append(g @ late.T - rows[:, None] * early.T + cols[:, None] * late.T - g.T @ early.T)
        return np.concatenate(columns, axis=1)

    def _squares(self, delta: np.ndarray, s_delta: np.ndarray, contrast: float) -> float:
        """Mean over traces of sum_(i<j) w_ij (delta_i delta_j - contrast s (delta_i + delta_j) - contrast s)**2."""
        w, s = self._weights, self._s
        square = delta**2
        if self._uniform:
            products = 0.5 * float(((square.sum(0) ** 2) - (square**2).sum(0)).mean())
        else:
            few = square[:, :_LEAST_PAIRED]
            products = float(np.einsum("it,it->", few, w @ few)) / few.shape[1]
        cross = -2 * contrast * float(np.einsum("it,it->", square, s_delta)) / delta.shape[1]
        variance = square.mean(1)
        ws2 = w * s**2
        both = float(np.sum(ws2 * (variance[:, None] + variance[None, :] + 2 * contrast * s)))
        return products + cross + contrast**2 * (both - float(ws2.sum()))

    def _variance_of_squares(self, delta: np.ndarray, s_delta: np.ndarray, q: np.ndarray, contrast: float) -> float:
        """2 tr C**2 for the covariance C of a pixel's c2 over pairs of frames, from products of different traces.

        With y_ij = delta_i delta_j - contrast s (delta_i + delta_j) - contrast s of two traces, <(y . y')**2> = tr C**2.
        Weights count as their mean.
        """
        n = delta.shape[1]
        dot = 0.5 * ((delta.T @ delta) ** 2 - (delta**2).T @ delta**2)
        mixed = delta.T @ (delta * s_delta)
        s2 = np.triu(self._s, 1) ** 2
        s2 += s2.T
        linear = delta.T @ (s2.sum(1)[:, None] * delta + s2 @ delta)
        mean = q if self._uniform else np.einsum("it,it->t", delta, np.triu(self._s, 1) @ delta)
        y = dot - contrast * (mixed + mixed.T) + contrast**2 * linear
        y += -contrast * (mean[:, None] + mean[None, :]) + contrast**2 * 0.5 * s2.sum()
        total = (y**2).sum() - (np.diag(y) ** 2).sum()
        pairs = len(delta) * (len(delta) - 1) / 2
        return float(2 * total / (n * (n - 1)) * (self._weights.sum() / pairs) ** 2)


@partial(jax.jit, static_argnames=("model",))
def _fields(model: Model, side: Side) -> list[jax.Array]:
    s, fields = kernel_fields(model, side.early, side.late)
    return [s, *(jnp.broadcast_to(f, s.shape) for f in fields_of(s, fields))]


def _weights(source: BlockSource, k: int, nodes: Nodes, min_lag: int) -> np.ndarray:
    """Weight of every pair of nodes, (m, m): 0 on and below the diagonal and where there is no valid point.

    Number of pairs of frames it stands for, times 1 / sigma**2 where every point has its own.
    """
    m = len(nodes.frames)
    lag = nodes.frames[None, :] - nodes.frames[:, None]
    weights = np.where(lag >= min_lag, nodes.sizes[:, None] * nodes.sizes[None, :], 0.0)
    whole = slice(0, len(source.t))
    rows = [whole] if nodes.exact else [slice(int(f), int(f) + 1) for f in nodes.frames]
    start = 0
    for r in rows:
        size = m if nodes.exact else 1
        with _READING:
            c2 = np.asarray(source.read_block(k, r, whole))[:, nodes.frames]
            sigma = source.read_sigma(k, r, whole)
        part = weights[start : start + size]
        part[~np.isfinite(c2)] = 0.0
        if sigma is not None:
            part /= np.asarray(sigma)[:, nodes.frames] ** 2
        start += size
    return weights


def _triangular(f: np.ndarray, delta: np.ndarray, transposed: bool) -> np.ndarray:
    """F delta or F^T delta of a strictly upper triangular F, at half the price of a full product."""
    # BLAS sees arrays in C order as their transposes, so that nothing is copied: (F delta)^T = delta^T F^T
    return np.asarray(dtrmm(1.0, f.T, delta.T, side=1, lower=1, trans_a=int(transposed))).T
