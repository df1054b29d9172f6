"""Errors of the fitted parameters from the final linearization, and what the data do not determine."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.optimization.normal import Linearization
from homodyne.optimization.scaling import Scaling

# Relative size of a singular value of the column-scaled Jacobian below which a direction counts as undetermined:
# rounding in sums of squares (eps = 2e-16) hides anything smaller than its square root.
RANK_TOLERANCE = 1e-7


@dataclasses.dataclass(frozen=True)
class Errors:
    """Covariances of a fit.

    Attributes:
        theta: (p, p); rows and columns of parameters that did not move are 0, of undetermined ones inf.
        scaling: variances of contrast and offset per angle, (n_phi, 2).
        condition: condition number of the column-scaled A^T A over the free parameters.
        undetermined: positions of parameters with a share in a direction the data leave open.
    """

    theta: np.ndarray
    scaling: np.ndarray
    condition: float
    undetermined: tuple[int, ...]


def iid_errors(at: Linearization, scaling: Scaling, moved: np.ndarray, chi2_reduced: float) -> Errors:
    """Least-squares covariance for independent noise: chi2_reduced (A^T A)^-1 for theta, propagated to the scaling.

    Pairs of c2 share frames, so these errors are a lower limit for real data; they are right for independent noise.

    Args:
        moved: (p,) bool, the parameters that were free and not at a bound.
        chi2_reduced: scales the given or estimated sigma to the residuals found.
    """
    p = at.jacobian.shape[1]
    theta = np.zeros((p, p))
    free = np.flatnonzero(moved)
    inverse, condition, weak = _inverse_gram(at.jacobian[:, free])
    theta[np.ix_(free, free)] = chi2_reduced * inverse
    undetermined = tuple(int(free[i]) for i in weak)
    scaling_variance = _scaling_variance(at, scaling, free, inverse) * chi2_reduced
    for i in undetermined:
        theta[i, :] = theta[:, i] = np.nan
        theta[i, i] = np.inf
    return Errors(theta, scaling_variance, condition, undetermined)


def _inverse_gram(a: np.ndarray) -> tuple[np.ndarray, float, list[int]]:
    """(A^T A)^-1, its scaled condition number, and the columns that take part in a (nearly) null direction."""
    n = a.shape[1]
    if n == 0:
        return np.zeros((0, 0)), 1.0, []
    norm = np.linalg.norm(a, axis=0)
    safe = np.where(norm > 0, norm, 1.0)
    _, w, vt = np.linalg.svd(a / safe, full_matrices=False)
    keep = w > RANK_TOLERANCE * w[0] if w[0] > 0 else np.zeros(n, dtype=bool)
    condition = float((w[0] / w[-1]) ** 2) if w[-1] > 0 else float("inf")
    inverse = (vt[keep].T / w[keep] ** 2) @ vt[keep]
    weak = [i for i in range(n) if np.any(np.abs(vt[~keep][:, i]) > 1e-3)]
    return inverse / np.outer(safe, safe), condition, weak


def _scaling_variance(at: Linearization, scaling: Scaling, free: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Variance of (contrast, offset)_k: own noise plus what they inherit from theta, (n_phi, 2), for chi2_reduced = 1."""
    if scaling.n_free == 0:
        return np.zeros(scaling.base.shape)
    own, _, _ = _inverse_gram(at.scaling_jacobian)
    slope = own @ at.scaling_jacobian.T @ at.theta_jacobian[:, free]
    beta = own + slope @ inverse @ slope.T
    return np.maximum(np.einsum("kib,bc,kic->ki", scaling.basis, beta, scaling.basis), 0.0)
