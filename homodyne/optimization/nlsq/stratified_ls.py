"""Full batch: every row of the dense Jacobian, in angle-balanced chunks, solved by QR."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import Side, frame_values, orthogonalized
from homodyne.optimization.dense import dense_gram, residuals, tiles
from homodyne.optimization.gram import to_parameters
from homodyne.optimization.loss import Loss
from homodyne.optimization.nlsq.memory import CHUNK_ROWS
from homodyne.optimization.normal import PassSums, factors_from_moments, invertible
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import View, sector_geometries

# Sides of a tile. The Jacobian of one tile exists at a time in every thread and stays in the processor's cache; tiles are also at
# most a fifth of the frames, because larger ones evaluate too much below the diagonal.
_SIZES = (16, 24, 32, 48, 64, 96, 128)
# Groups of chunks that are reduced at the same time. Their number is fixed, so that the result does not depend on that of
# the processors.
_PARTS = 8
_PART_POINTS = 30_000  # fewer take less time than handing them to another thread


def full_batch_pass(
    model: Model, view: View, min_lag: int, precise: bool = True, loss: Loss | None = None
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the full-batch evaluation: reads all points once and keeps them.

    Args:
        precise: a QR decomposition by Cholesky's method in two sweeps, which keeps all digits: the gram matrix G of the
            Jacobian gives a first triangle T^T T = G, and that of the Jacobian divided by T corrects it (CholeskyQR2).
            LAPACK's QR, chunk by chunk, has the same digits and takes three times as long: its calls get in each
            other's way on two processors. False: the first sweep alone, for warm-up fits.
        loss: None for least squares.

    Returns:
        ``evaluate(theta, reference) -> PassSums``.
    """
    size = max(n for n in _SIZES if n == _SIZES[0] or (n * n * view.n_phi <= CHUNK_ROWS and 5 * n <= view.n_frames))
    corners = tiles(view.n_frames, size)
    padded = int(corners.max()) + size
    c2, weights, counts = _load(view, padded, min_lag)
    held = tuple(None if a is None else jax.device_put(a, may_alias=True) for a in (c2, weights, corners))
    parts = min(_PARTS, len(corners), 1 + view.n_points(min_lag) // _PART_POINTS)
    edges = np.linspace(0, len(corners), parts + 1).astype(int).tolist()
    each = map if parts == 1 else ThreadPoolExecutor(n_workers()).map
    bounds = list(itertools.pairwise(edges))

    m = sum(len(channel.parameters) for channel in model.channels) + 3
    identity = np.broadcast_to(np.eye(m), (view.n_phi, m, m))

    sigma = None if loss is None else jnp.asarray(view.source.sigma, dtype=float)

    def gram(
        sides: Side, ref: jax.Array, inverses: np.ndarray, bounds: list[tuple[int, int]]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        divisors = jnp.asarray(inverses)

        def part(edges: tuple[int, int]) -> list[np.ndarray]:
            found = dense_gram(model, size, sides, *held, *edges, ref, min_lag, divisors, loss, sigma)
            return [np.asarray(x) for x in found if x is not None]

        total, *terms = (np.sum(x, axis=0) for x in zip(*each(part, bounds), strict=True))
        return total, terms[0] if terms else None

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        sides, upper = orthogonalized(all_sides(model, theta, view, padded))
        ref = jnp.asarray(reference)
        total, terms = gram(sides, ref, identity, bounds)
        factors = factors_from_moments(total)
        if precise and np.all(np.isfinite(factors)):
            first = invertible(factors)
            inverses = np.swapaxes(np.linalg.inv(first), 1, 2)
            factors = factors_from_moments(gram(sides, ref, inverses, bounds)[0]) @ first
        return PassSums(factors @ to_parameters(model, upper), counts, reference, terms)

    # compiled by a sum over no tiles
    start = np.array([parameter.start for parameter in model.parameters])
    gram(all_sides(model, start, view, padded), jnp.zeros((view.n_phi, 2)), identity, [(0, 0)])
    return evaluate


def all_sides(
    model: Model, theta: np.ndarray, view: View, n_padded: int | None = None, angles: np.ndarray | None = None
) -> Side:
    """Channels of the given angles, all by default, on the view's frames."""
    source = view.source
    geometry = sector_geometries(model, source, angles)
    return frame_values(model, theta, np.asarray(source.t), view.frames, geometry, n_padded or view.n_frames)


def signal(model: Model, theta: np.ndarray, view: View) -> np.ndarray:
    """s on the view's frames, (n_phi, m, m), rows = earlier frame."""
    nothing = jnp.zeros((view.n_phi, view.n_frames, view.n_frames))
    minus_s = jnp.tile(jnp.array([-1.0, 0.0]), (view.n_phi, 1))
    return np.asarray(residuals(model, all_sides(model, theta, view), nothing, minus_s))


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
            c2 = aligned((view.n_phi, padded, padded), values.dtype)
            c2[:] = np.nan
        c2[k, :n, :n] = values
        if sigma is not None:
            weights = aligned(c2.shape, np.dtype(float)) if weights is None else weights
            weights[k, :n, :n] = inverse_sigma(np.asarray(sigma), upper)
            c2[k, :n, :n][weights[k, :n, :n] == 0] = np.nan
        counts[k] = np.count_nonzero(np.isfinite(c2[k, :n, :n]) & upper)
    assert c2 is not None
    return c2, weights, counts


def inverse_sigma(sigma: np.ndarray, valid: np.ndarray | bool = True) -> np.ndarray:
    """1/sigma, and 0 where the point is invalid or sigma is not a positive number."""
    usable = valid & np.isfinite(sigma) & (sigma > 0)
    return np.where(usable, 1.0 / np.where(usable, sigma, 1.0), 0.0)


# JAX takes NumPy memory that begins at a multiple of this many bytes as it is, and copies any other.
_ALIGNMENT = 64


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that JAX can use without a copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
