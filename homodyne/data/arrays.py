"""Checks of arrays given in memory: shape, symmetry, times, sigma, angles without data."""

from __future__ import annotations

import numpy as np

from homodyne.data.noise import no_data
from homodyne.errors import InputError

# Frames compared for symmetry: all of a small matrix, an even spread of a large one.
SYMMETRY_FRAMES = 512
# Symmetric means equal within float32 rounding of correlated averages.
SYMMETRY_RTOL = 1e-4


def check_c2(c2: np.ndarray, n_phi: int, n_t: int) -> None:
    """Shape (n_phi, n_t, n_t), real numbers.

    Raises:
        InputError: another number of dimensions, not square, or not fitting phi and t.
    """
    if c2.dtype.kind not in "fiu":
        raise InputError(
            "c2", str(c2.dtype), "is not an array of real numbers", "give floats of shape (n_phi, n_t, n_t)"
        )
    if c2.ndim != 3:
        raise InputError("c2", c2.shape, "does not have three dimensions", "give shape (n_phi, n_t, n_t)")
    if c2.shape[1] != c2.shape[2]:
        raise InputError("c2", c2.shape, "is not square in t1 and t2", "give all pairs of one set of frames")
    if c2.shape[0] != n_phi:
        raise InputError("c2", c2.shape, f"does not fit the {n_phi} angles of phi", "give one matrix per angle")
    if c2.shape[1] != n_t:
        raise InputError("c2", c2.shape, f"does not fit the {n_t} times of t", "give one row and column per frame")


def check_halves(c2: np.ndarray, phi: np.ndarray) -> None:
    """Every matrix is symmetric, or its lower half is empty (zero, NaN or infinite); it has at least one valid point.

    Matrices of more than 512 frames are compared on an even spread of 512 frames.

    Raises:
        InputError: a matrix that is neither, one filled below the diagonal only, an angle without data.
    """
    n_t = c2.shape[1]
    frames = np.unique(np.linspace(0, n_t - 1, min(n_t, SYMMETRY_FRAMES)).astype(int))
    above = np.triu_indices(frames.size, k=1)
    for k in range(c2.shape[0]):
        sample = c2[k][np.ix_(frames, frames)]
        sample = np.where(np.isinf(sample), np.nan, sample)
        upper, lower = sample[above], sample.T[above]
        if _empty(lower) or np.allclose(upper, lower, rtol=SYMMETRY_RTOL, atol=1e-6, equal_nan=True):
            if _empty(upper) and not _has_data(c2[k]):
                raise no_data(phi[k])
            continue
        if _empty(upper):
            raise InputError(
                "c2", float(phi[k]), "is filled below the diagonal only at this phi", "give c2.transpose(0, 2, 1)"
            )
        worst = int(np.nanargmax(np.where(np.isfinite(upper - lower), np.abs(upper - lower), 0.0)))
        i, j = frames[above[0][worst]], frames[above[1][worst]]
        raise InputError(
            "c2", (float(c2[k, i, j]), float(c2[k, j, i])),
            f"is not symmetric at phi={phi[k]:g}: frames ({i}, {j}) and ({j}, {i}) differ",
            "give a symmetric matrix or an empty (zero or NaN) lower half",
        )  # fmt: skip


def _empty(values: np.ndarray) -> bool:
    return bool(np.all((values == 0) | ~np.isfinite(values)))


def _has_data(matrix: np.ndarray) -> bool:
    """True if any point above the diagonal is finite and not 0."""
    return any(not _empty(matrix[i, i + 1 :]) for i in range(matrix.shape[0] - 1))


def check_sigma(sigma: object, n_phi: int, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Sigma as an array and where it comes from: scalar -> (n_phi,), per angle (n_phi,), per point ``shape``.

    Per point, zero and NaN mean an invalid point; a single value or one per angle must be positive.

    Raises:
        InputError: other shapes, negative values, zero where it would drop a whole angle.
    """
    values = np.asarray(sigma, dtype=np.float64)
    remedy = "give sigma > 0 as one number, one per angle, or one per point"
    if values.ndim <= 1:
        if values.ndim == 1 and values.shape != (n_phi,):
            raise InputError("sigma", values.shape, f"does not fit the {n_phi} angles", remedy)
        bad = ~(np.isfinite(values) & (values > 0))
        if np.any(bad):
            raise InputError("sigma", values[bad].ravel()[0].item(), "must be positive", remedy)
        source = "given per angle" if values.ndim else "given scalar"
        return np.broadcast_to(values, (n_phi,)).copy(), source
    if values.shape != shape:
        raise InputError("sigma", values.shape, f"does not fit c2 of shape {shape}", remedy)
    if np.any(values < 0):
        raise InputError("sigma", float(np.nanmin(values)), "must not be negative", remedy)
    return values, "given per point"


def check_phi(phi: object) -> np.ndarray:
    """phi as a finite float64 vector [deg]."""
    values = np.atleast_1d(np.asarray(phi, dtype=np.float64))
    if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)):
        raise InputError("phi", phi, "is not a list of finite angles", "give phi in degrees, shape (n_phi,)")
    return values
