"""What a detector and a correlator make of intensities: photon counts, and the two-time correlation of a sector."""

from __future__ import annotations

import numpy as np


def detected(intensity: np.ndarray, counts: float | None, rng: np.random.Generator) -> np.ndarray:
    """Photons in every pixel and frame: Poisson numbers of mean ``counts * intensity``; None counts no photons.

    Args:
        intensity: of mean 1, any shape. counts: mean photons per pixel and frame, or None for the intensity itself.
    """
    return intensity if counts is None else rng.poisson(counts * intensity).astype(intensity.dtype)


class PixelSums:
    """Sums over the pixels of one sector, from which its two-time matrix follows; pixels may come in any portions.

    c2_ij = <I_i I_j> / (<I_i> <I_j>), <> the mean over pixels. Dividing by means over finitely many pixels P lowers c2
    by about (kappa_ij / P) (1 + 2 contrast - kappa_ij), kappa_ij = contrast |g1|**2, for equal modes and any number of
    photons; the baseline 1 stays. Real correlators do the same.
    """

    def __init__(self, n_t: int) -> None:
        self._products = np.zeros((n_t, n_t))
        self._totals = np.zeros(n_t)
        self._pixels = 0

    def add(self, counts: np.ndarray) -> None:
        """Take in ``counts`` (n_t, n) of n more pixels. Products are summed in their type, portions in float64."""
        self._products += counts @ counts.T
        self._totals += counts.sum(axis=1, dtype=np.float64)
        self._pixels += counts.shape[1]

    def c2(self) -> np.ndarray:
        """The matrix (n_t, n_t), raw diagonal included; rows and columns of frames without any count are zero."""
        total = self._totals
        scale = np.divide(np.sqrt(self._pixels), total, out=np.zeros_like(total), where=total > 0)
        return self._products * np.outer(scale, scale)
