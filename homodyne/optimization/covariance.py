"""Errors of the fitted parameters from the final linearization, and what the data do not determine."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.optimization.normal import Linearization
from homodyne.optimization.scaling import Scaling

# Relative size of a singular value of the column-scaled Jacobian below which a direction counts as undetermined:
# rounding in sums of squares (eps = 2e-16) hides anything smaller than its square root.
RANK_TOLERANCE = 1e-7
# Components of an undetermined direction below this are rounding.
_SHARE = 1e-3


@dataclasses.dataclass(frozen=True)
class Errors:
    """Covariances of a fit.

    Attributes:
        theta: (p, p); rows and columns of parameters that did not move are 0, of undetermined ones inf.
        scaling: variances of contrast and offset per angle, (n_phi, 2); inf where the data leave them open.
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
    found = _inverse_gram(at.jacobian[:, free], np.linalg.norm(at.theta_jacobian[:, free], axis=0))
    theta[np.ix_(free, free)] = chi2_reduced * found.inverse
    undetermined = tuple(int(free[i]) for i in found.weak)
    scaling_variance = _scaling_variance(at, scaling, free, found) * chi2_reduced
    for i in undetermined:
        theta[i, :] = theta[:, i] = np.nan
        theta[i, i] = np.inf
    return Errors(theta, scaling_variance, found.condition, undetermined)


@dataclasses.dataclass(frozen=True)
class _Inverse:
    """(A^T A)^-1 on the range of A, its scaled condition number, what is left out.

    ``null`` (n, z) are the directions the rows do not see, in the columns' units; ``weak`` the columns with a share in one.
    """

    inverse: np.ndarray
    condition: float
    weak: list[int]
    null: np.ndarray


def _inverse_gram(a: np.ndarray, whole: np.ndarray) -> _Inverse:
    """Inverse of A^T A.

    Args:
        a: (m, n). whole: norms of its columns before anything was projected out of them, (n,): what is left of a
            column below ``RANK_TOLERANCE`` of it is rounding.
    """
    n = a.shape[1]
    if n == 0:
        return _Inverse(np.zeros((0, 0)), 1.0, [], np.zeros((0, 0)))
    norm = np.linalg.norm(a, axis=0)
    lost = norm <= RANK_TOLERANCE * whole
    safe = np.where(lost, np.where(whole > 0, whole, 1.0), norm)
    _, w, vt = np.linalg.svd(np.where(lost, 0.0, a / safe), full_matrices=True)
    w = np.concatenate([w, np.zeros(n - len(w))])
    keep = w > RANK_TOLERANCE * w[0]
    condition = float((w[0] / w[-1]) ** 2) if w[-1] > 0 else float("inf")
    inverse = (vt[keep].T / w[keep] ** 2) @ vt[keep]
    weak = [i for i in range(n) if np.any(np.abs(vt[~keep][:, i]) > _SHARE)]
    return _Inverse(inverse / np.outer(safe, safe), condition, weak, vt[~keep].T / safe[:, None])


def _scaling_variance(at: Linearization, scaling: Scaling, free: np.ndarray, found: _Inverse) -> np.ndarray:
    """Variance of (contrast, offset)_k: own noise plus what they inherit from theta, (n_phi, 2), for chi2_reduced = 1."""
    if scaling.n_free == 0:
        return np.zeros(scaling.base.shape)
    norm, whole = (np.linalg.norm(x, axis=0) for x in (at.scaling_jacobian, at.theta_jacobian[:, free]))
    own = _inverse_gram(at.scaling_jacobian, norm)
    slope = own.inverse @ at.scaling_jacobian.T @ at.theta_jacobian[:, free]
    beta = own.inverse + slope @ found.inverse @ slope.T
    variance = np.maximum(np.einsum("kib,bc,kic->ki", scaling.basis, beta, scaling.basis), 0.0)
    # where theta can move freely because the scaling makes up for it, the scaling is as open as theta
    follows = norm[:, None] * np.abs(slope @ found.null) > _SHARE * (whole @ np.abs(found.null))
    undetermined = follows.any(axis=1)
    undetermined[own.weak] = True
    variance[np.any(scaling.basis[:, :, undetermined] != 0, axis=2)] = np.inf
    return variance
