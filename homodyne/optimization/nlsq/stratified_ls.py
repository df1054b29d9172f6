"""Full batch: the dense Jacobian of all points in angle-balanced chunks, solved by QR."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import Side, frame_values
from homodyne.optimization.dense import jacobian_rows, triangular
from homodyne.optimization.normal import PassSums
from homodyne.optimization.source import View

CHUNK = 8192  # pairs of one angle in one call; every chunk holds the same pairs of every angle


def stratified_pass(model: Model, view: View, min_lag: int) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the full-batch evaluation: reads all points once and keeps them.

    Returns:
        ``evaluate(theta, reference) -> PassSums`` whose factors are R of the QR decomposition of each angle's rows.
    """
    i, j = _pairs(view.n_frames, min_lag)
    y, w = _load(view, i, j)
    counts = (w > 0).sum(axis=(1, 2)).astype(float)

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        sides = [angle_side(model, theta, view, k) for k in range(view.n_phi)]
        # the chunks run over pairs, within a chunk over angles: every chunk is balanced
        rows = [
            [jacobian_rows(model, sides[k], i[c], j[c], y[k, c], w[k, c], jnp.asarray(reference[k])) for k in range(view.n_phi)]
            for c in range(len(i))
        ]
        factors = [_reduce([chunk[k] for chunk in rows]) for k in range(view.n_phi)]
        return PassSums(np.stack(factors), counts, reference)

    return evaluate


def angle_side(model: Model, theta: np.ndarray, view: View, k: int, n_padded: int | None = None) -> Side:
    """Channels of angle ``k`` on the view's frames."""
    source = view.source
    geometry = model.geometry(float(source.phi[k]), source.q, source.gap, source.dt)
    return frame_values(
        model, jnp.asarray(theta), jnp.asarray(source.t), jnp.asarray(view.frames), geometry, n_padded or view.n_frames
    )


def _pairs(n: int, min_lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all pairs, cut into chunks, (n_chunks, CHUNK); padding repeats pair 0 and gets weight 0 in ``_load``."""
    i, j = np.triu_indices(n, k=min_lag)
    padding = (-len(i)) % CHUNK
    return tuple(np.concatenate([x, np.zeros(padding, x.dtype)]).astype(np.int32).reshape(-1, CHUNK) for x in (i, j))


def _load(view: View, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c2 and square roots of the weights at the pairs, (n_phi, n_chunks, CHUNK) each; weight 0 where invalid."""
    n = view.n_frames
    whole = slice(0, n)
    y = np.empty((view.n_phi, *i.shape))
    w = np.empty_like(y)
    for k in range(view.n_phi):
        y[k] = np.asarray(view.read(k, whole, whole))[i, j]
        sigma = view.read_sigma(k, whole, whole)
        valid = np.isfinite(y[k]) & (j > i)
        w[k] = np.where(valid, 1.0, 0.0) if sigma is None else _inverse(np.asarray(sigma)[i, j], valid)
    return np.where(w > 0, y, 0.0), w


def _inverse(sigma: np.ndarray, valid: np.ndarray) -> np.ndarray:
    usable = valid & np.isfinite(sigma) & (sigma > 0)
    return np.where(usable, 1.0 / np.where(usable, sigma, 1.0), 0.0)


def _reduce(rows: list[jnp.ndarray]) -> np.ndarray:
    """R of the stacked rows, by QR of the chunks and QR of their stacked R factors."""
    factors = [np.asarray(triangular(r)) for r in rows]
    return np.asarray(triangular(jnp.asarray(np.concatenate(factors)))) if len(factors) > 1 else factors[0]
