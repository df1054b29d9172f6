"""Full batch: every row of the dense Jacobian, in angle-balanced chunks, solved by QR."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from threadpoolctl import ThreadpoolController

from homodyne.models import Geometry, Model
from homodyne.optimization.channels import Side, frame_values
from homodyne.optimization.dense import dense_factors
from homodyne.optimization.nlsq.memory import CHUNK_ROWS
from homodyne.optimization.normal import PassSums, factors_from_moments
from homodyne.optimization.source import View

_MIN_CHUNK = 512


def full_batch_pass(
    model: Model, view: View, min_lag: int, precise: bool = True
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the full-batch evaluation: reads all points once and keeps them.

    Args:
        precise: reduce by QR, which keeps all digits; False sums the gram matrix, faster, for warm-up fits.

    Returns:
        ``evaluate(theta, reference) -> PassSums``.
    """
    i, j = _pairs(view.n_frames, min_lag, view.n_phi)
    c2, weights = _load(view, i, j)
    counts = (weights > 0).sum(axis=(0, 2)).astype(float)
    pairs = tuple(jnp.asarray(a) for a in (i, j, c2, weights))
    # The QR of one chunk is too small for several LAPACK threads: 1.5 times slower on idle cores, ten to thirty times
    # on busy ones, where the threads wait for each other.
    lapack = ThreadpoolController()

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        sides = all_sides(model, theta, view)
        with lapack.limit(limits=1, user_api="blas"):
            factors = np.asarray(dense_factors(model, sides, *pairs, jnp.asarray(reference), precise))
        return PassSums(factors if precise else factors_from_moments(factors), counts, reference)

    return evaluate


def all_sides(model: Model, theta: np.ndarray, view: View, n_padded: int | None = None) -> Side:
    """Channels of every angle on the view's frames."""
    source = view.source
    checked = model.geometry(float(source.phi[0]), source.q, source.gap, source.dt)
    geometry = Geometry(jnp.asarray(source.phi, dtype=float), *checked[1:])
    return frame_values(
        model, jnp.asarray(theta), jnp.asarray(source.t), jnp.asarray(view.frames), geometry, n_padded or view.n_frames
    )


def _pairs(n: int, min_lag: int, n_phi: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all pairs cut into chunks, (n_chunks, L) each; the padding repeats pair (0, 0), weight 0."""
    pairs = np.stack(np.triu_indices(n, k=min_lag)).astype(np.int32)
    length = min(max(_MIN_CHUNK, CHUNK_ROWS // n_phi), pairs.shape[1])
    padding = np.zeros((2, -pairs.shape[1] % length), dtype=np.int32)
    i, j = np.concatenate([pairs, padding], axis=1).reshape(2, -1, length)
    return i, j


def _load(view: View, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c2 and square roots of the weights at the pairs, (n_chunks, n_phi, L) each; weight 0 where invalid."""
    whole = slice(0, view.n_frames)
    y = np.empty((len(i), view.n_phi, i.shape[1]))
    w = np.empty_like(y)
    for k in range(view.n_phi):
        values = np.asarray(view.read(k, whole, whole))[i, j].astype(float)
        sigma = view.read_sigma(k, whole, whole)
        valid = np.isfinite(values) & (j > i)
        weight = valid.astype(float) if sigma is None else inverse_sigma(np.asarray(sigma)[i, j], valid)
        y[:, k], w[:, k] = np.where(weight > 0, values, 0.0), weight
    return y, w


def inverse_sigma(sigma: np.ndarray, valid: np.ndarray | bool = True) -> np.ndarray:
    """1/sigma, and 0 where the point is invalid or sigma is not a positive number."""
    usable = valid & np.isfinite(sigma) & (sigma > 0)
    return np.where(usable, 1.0 / np.where(usable, sigma, 1.0), 0.0)
