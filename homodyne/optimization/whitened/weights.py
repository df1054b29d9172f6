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
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, lapack

# An eigenvalue of Sigma below this part of the largest is rounding, or the sign of a g1 that is no exact correlation.
_LEAST = 1e-10


@dataclasses.dataclass(frozen=True)
class FrameWeights:
    """W of one sector for P = 1.

    Attributes:
        blocks: frames that are whitened together; Sigma between different blocks counts as zero.
        inverses: A of every block. filled: the Cholesky factor of A o A of every block.
    """

    blocks: tuple[slice, ...]
    inverses: tuple[np.ndarray, ...]
    filled: tuple[tuple[np.ndarray, bool], ...]

    def apply(self, matrix: np.ndarray) -> np.ndarray:
        """W X of a symmetric X (n, n) with a zero diagonal; symmetric, zero diagonal."""
        out = np.empty_like(matrix)
        for n, (block, a, factor) in enumerate(zip(self.blocks, self.inverses, self.filled, strict=True)):
            rows = a @ matrix[block, block.start :]
            own = rows[:, : len(a)]
            diagonal = np.einsum("ij,ij->i", own, a)
            own -= a * cho_solve(factor, diagonal, check_finite=False)[None, :]
            for later, b in zip(
                self.blocks[n:], self.inverses[n:], strict=True
            ):  # what is before them is the mirror image
                product = rows[:, later.start - block.start : later.stop - block.start] @ b
                out[block, later], out[later, block] = product, product.T
        return out


def frame_weights(covariance: np.ndarray, longest: int) -> FrameWeights:
    """The weights that Sigma makes.

    Args:
        covariance: Sigma (n, n), of the intensity of one pixel in units of its mean, ridge included.
        longest: most frames of a block; more are cut into equal blocks.
    """
    n = len(covariance)
    edges = np.linspace(0, n, max(1, -(-n // longest)) + 1).astype(int).tolist()
    blocks = tuple(slice(a, b) for a, b in itertools.pairwise(edges))
    inverses = tuple(_inverse(covariance[block, block]) for block in blocks)
    filled = tuple(cho_factor(a * a, lower=True, check_finite=False) for a in inverses)
    return FrameWeights(blocks, inverses, filled)


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
