"""Light of a sample as random numbers: complex Gaussian fields with a given g1, and intensities of a given contrast.

A pixel sees M independent modes of the field E with <E*(t1) E(t2)> = g1(t1, t2); its intensity sum_m w_m |E_m|**2 has
mean 1 and covariance contrast |g1|**2, contrast = sum_m w_m**2 (Goodman, Speckle Phenomena in Optics, ch. 4).
g1 is real and symmetric, or complex and Hermitian; its conjugate makes the same intensities.
"""

from __future__ import annotations

import math

import numpy as np

from homodyne.errors import InputError

# Rounding, and a g1 that is no exact correlation (the positive root of a kernel), leave small negative eigenvalues.
_RIDGE = 1e-10


def field_root(g1: np.ndarray) -> np.ndarray:
    """L (n, n) with L L^H = g1, so that L times independent complex unit numbers is a field with this correlation.

    Cholesky's method where it succeeds; else the nearest correlation without negative eigenvalues, rescaled to the
    diagonal of ``g1``.

    Args:
        g1: (n, n), real symmetric or complex Hermitian; L is of the same kind.
    """
    try:
        return np.linalg.cholesky(g1 + _RIDGE * np.eye(len(g1)))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(g1)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        norm = np.linalg.norm(root, axis=1)
        return root * (np.sqrt(np.diag(g1).real) / np.where(norm > 0, norm, 1.0))[:, None]


def mode_weights(contrast: float) -> np.ndarray:
    """w (M,) with sum w = 1 and sum w**2 = contrast, M = ceil(1 / contrast): equal modes and one weaker or stronger.

    Raises:
        InputError: contrast outside 0 < contrast <= 1.
    """
    if not 0 < contrast <= 1:
        raise InputError(
            "contrast", contrast, "must be above 0 and at most 1", "give the speckle contrast of one pixel"
        )
    m = math.ceil(1.0 / contrast - 1e-9)
    if m == 1:
        return np.ones(1)
    # m - 1 modes of weight a and one of weight b = 1 - (m - 1) a; the smaller root makes b the odd one, 0 <= b <= a
    spread = math.sqrt(max(0.0, (m * contrast - 1.0) / (m - 1)))
    a = (1.0 + spread) / m
    return np.append(np.full(m - 1, a), 1.0 - (m - 1) * a)


def single(root: np.ndarray) -> np.ndarray:
    """The root in single precision, real or complex as it is."""
    return root.astype(np.complex64 if np.iscomplexobj(root) else np.float32)


def modes(root: np.ndarray, n: int, rng: np.random.Generator, dtype: type = np.float64) -> np.ndarray:
    """|E|**2 of ``n`` independent modes, (n_t, n), mean 1 where g1(t, t) = 1.

    Args:
        root: from ``field_root``, (n_t, r); a complex one takes two real products instead of one.
        dtype: float32 or float64, of random numbers and result.
    """
    parts = rng.standard_normal((root.shape[1], 2 * n), dtype=dtype)
    field = root.real.astype(dtype) @ parts
    x, y = field[:, :n], field[:, n:]
    if np.iscomplexobj(root):
        turned = root.imag.astype(dtype) @ parts
        x -= turned[:, n:]
        y += turned[:, :n]
    return 0.5 * (x**2 + y**2)
