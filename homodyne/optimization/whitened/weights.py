"""Weights of one sector: the inverse of the covariance that speckle gives to pairs of frames, without that matrix.

c2 of a sector is a mean of products of intensities over P pixels. Were the intensities of a pixel normal with covariance
Sigma (n, n), the noise of c2 would have the covariance of a Wishart matrix (T. W. Anderson, An Introduction to Multivariate
Statistical Analysis, 3rd ed., section 7.3),

    Cov(c_ij, c_kl) = (Sigma_ik Sigma_jl + Sigma_il Sigma_jk) / P,

whose inverse acts on a symmetric residual matrix R as P A R A, A = Sigma**-1: two products of n x n matrices in place of a
matrix of n**2 / 2 rows. c2_ii, which no fit uses, is an unknown d_i of its own: the inverse on the pairs i < j alone is

    W R = A (R + diag d) A,     d = -(A o A)**-1 diag(A R A),     so that diag(W R) = 0,

o the product element by element. Intensities are not normal, so W is not quite the inverse, and need not be: an estimate
with any symmetric positive W that does not know the noise is consistent, and its error is computed for the W that was used.

A long series is cut into blocks of frames, and Sigma between blocks counts as zero. The tile of W R that belongs to blocks b
and c is then A_b R_bc A_c, d included where b = c: no tile needs another one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, lapack

# An eigenvalue of Sigma below this part of the largest is rounding, or the sign of a g1 that is no exact correlation.
_LEAST = 1e-10


@dataclasses.dataclass(frozen=True)
class FrameWeights:
    """W of one sector for P = 1.

    Attributes:
        blocks: frames that are whitened together. inverses: A of every block.
        filled: the Cholesky factor of A o A of every block.
    """

    blocks: tuple[slice, ...]
    inverses: tuple[np.ndarray, ...]
    filled: tuple[tuple[np.ndarray, bool], ...]

    def tiles(self) -> Iterator[tuple[int, int]]:
        """Every two blocks b <= c: all pairs i < j, and their mirror images where b = c."""
        return itertools.combinations_with_replacement(range(len(self.blocks)), 2)

    def apply(self, b: int, c: int, x: np.ndarray) -> np.ndarray:
        """The tile (b, c) of W X for several symmetric X with zero diagonals.

        Args:
            x: their tiles, (R, m, C).
        """
        rows, m, cols = x.shape
        a = self.inverses[b]
        half = (a @ x.reshape(rows, m * cols)).reshape(x.shape)
        if b == c:
            diagonal = np.einsum("imj,ij->im", half, a)
            d = cho_solve(self.filled[b], diagonal, check_finite=False)
            for n in range(m):
                half[:, n] -= a * d[:, n]
        return (half.reshape(rows * m, cols) @ self.inverses[c]).reshape(x.shape)


def blocks_of(n: int, longest: int) -> tuple[slice, ...]:
    """``n`` frames in blocks of one length, at most ``longest``, but for the last one, which may be shorter."""
    length = -(-n // -(-n // longest))
    return tuple(slice(first, min(first + length, n)) for first in range(0, n, length))


def frame_weights(blocks: tuple[slice, ...], covariances: Iterable[np.ndarray]) -> FrameWeights:
    """The weights that Sigma makes.

    Args:
        covariances: Sigma of every block, of the intensity of one pixel in units of its mean, ridge included.
    """
    inverses = tuple(_inverse(covariance) for covariance in covariances)
    return FrameWeights(blocks, inverses, tuple(cho_factor(a * a, lower=True, check_finite=False) for a in inverses))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric matrix, negative eigenvalues lifted where a model's g1 is no exact correlation."""
    try:
        root = cholesky(matrix, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        lifted = np.maximum(values, _LEAST * values[-1])
        return np.asarray((vectors / lifted) @ vectors.T)
    inverse, _ = lapack.dpotri(root, lower=1)
    return np.asarray(np.tril(inverse) + np.tril(inverse, -1).T)
