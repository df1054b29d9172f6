"""Full batch: every row of the dense Jacobian, in angle-balanced chunks, solved by QR."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from threadpoolctl import ThreadpoolController

from homodyne.models import Geometry, Model
from homodyne.optimization.channels import Side, frame_values
from homodyne.optimization.dense import dense_factors, tiles
from homodyne.optimization.moments import to_parameters
from homodyne.optimization.normal import PassSums, factors_from_moments
from homodyne.optimization.source import View

# Rows of the dense Jacobian that exist at a time, over all angles: they stay in the processor's cache.
_CHUNK_ROWS = 65_536
_SIZES = (16, 24, 32, 48, 64, 96, 128)


def full_batch_pass(
    model: Model, view: View, min_lag: int, precise: bool = True
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the full-batch evaluation: reads all points once and keeps them.

    Args:
        precise: reduce by QR, which keeps all digits; False sums the gram matrix, faster, for warm-up fits.

    Returns:
        ``evaluate(theta, reference) -> PassSums``.
    """
    size = max(n for n in _SIZES if n == _SIZES[0] or n * n * view.n_phi <= _CHUNK_ROWS)
    corners = tiles(view.n_frames, size)
    padded = int(corners.max()) + size
    c2, weights, counts = _load(view, padded, min_lag)
    held = tuple(None if a is None else jnp.asarray(a) for a in (c2, weights, corners))
    to_theta = to_parameters(model, tuple(np.eye(len(c.parameters))[None] for c in model.channels))
    # The QR of one chunk is too small for several LAPACK threads: 1.5 times slower on idle cores, ten to thirty times
    # on busy ones, where the threads wait for each other.
    lapack = ThreadpoolController()

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        sides = all_sides(model, theta, view, padded)
        with lapack.limit(limits=1, user_api="blas"):
            sums = np.asarray(dense_factors(model, size, sides, *held, jnp.asarray(reference), min_lag, precise))
        return PassSums((sums if precise else factors_from_moments(sums)) @ to_theta, counts, reference)

    return evaluate


def all_sides(model: Model, theta: np.ndarray, view: View, n_padded: int | None = None) -> Side:
    """Channels of every angle on the view's frames."""
    source = view.source
    checked = model.geometry(float(source.phi[0]), source.q, source.gap, source.dt)
    geometry = Geometry(jnp.asarray(source.phi, dtype=float), *checked[1:])
    return frame_values(model, theta, np.asarray(source.t), view.frames, geometry, n_padded or view.n_frames)


def _load(view: View, padded: int, min_lag: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """c2 as it is stored and square roots of the weights, (n_phi, P, P) each, and the valid pairs of every angle.

    Invalid points are NaN in c2, points without weight as well; weights are None where one sigma an angle applies.
    """
    n, whole = view.n_frames, slice(0, view.n_frames)
    upper = np.triu(np.ones((n, n), dtype=bool), min_lag)
    c2 = weights = None
    counts = np.zeros(view.n_phi)
    for k in range(view.n_phi):
        values, sigma = np.asarray(view.read(k, whole, whole)), view.read_sigma(k, whole, whole)
        if c2 is None:
            c2 = np.full((view.n_phi, padded, padded), np.nan, dtype=values.dtype)
        c2[k, :n, :n] = values
        if sigma is not None:
            weights = np.zeros(c2.shape) if weights is None else weights
            weights[k, :n, :n] = inverse_sigma(np.asarray(sigma), upper)
            c2[k, :n, :n][weights[k, :n, :n] == 0] = np.nan
        counts[k] = np.count_nonzero(np.isfinite(c2[k, :n, :n]) & upper)
    assert c2 is not None
    return c2, weights, counts


def inverse_sigma(sigma: np.ndarray, valid: np.ndarray | bool = True) -> np.ndarray:
    """1/sigma, and 0 where the point is invalid or sigma is not a positive number."""
    usable = valid & np.isfinite(sigma) & (sigma > 0)
    return np.where(usable, 1.0 / np.where(usable, sigma, 1.0), 0.0)
