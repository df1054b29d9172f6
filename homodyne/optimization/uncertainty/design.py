"""The final linearization as an estimator: which sums of the data every parameter is, and what no sum determines."""

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
class Inverse:
    """(A^T A)^-1 on the range of A, its scaled condition number, what is left out.

    ``null`` (n, z) are the directions the rows do not see, in the columns' units; ``weak`` the columns with a share in one.
    """

    inverse: np.ndarray
    condition: float
    weak: list[int]
    null: np.ndarray


@dataclasses.dataclass(frozen=True)
class Design:
    """The fit in the neighborhood of its solution: theta_f = D A^T r, beta = own A_beta^T r - slope theta_f.

    Attributes:
        at, scaling: the final linearization and the map of contrasts and offsets.
        free: positions of the f parameters that moved, (f,).
        theta: D, of the f parameters, with the scaling eliminated. own: of the b scaling parameters alone.
        slope: (b, f), how the scaling follows theta.
        undetermined: positions of parameters the data leave open whatever the noise.
        open_scaling: (n_phi, 2) bool, the same for contrasts and offsets.
    """

    at: Linearization
    scaling: Scaling
    free: np.ndarray
    theta: Inverse
    own: Inverse
    slope: np.ndarray
    undetermined: tuple[int, ...]
    open_scaling: np.ndarray

    @property
    def n_parameters(self) -> int:
        """p, of the model."""
        return self.at.jacobian.shape[1]

    def columns(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """How the columns of J of angle k are made of X = [s, 1, ds/dtheta]: (p + 2, f) for theta, (p + 2, b) for beta."""
        size = self.n_parameters + 2
        of_theta = np.zeros((size, len(self.free)))
        of_theta[self.free + 2, np.arange(len(self.free))] = self.at.scaling[k, 0]
        of_beta = np.zeros((size, self.scaling.n_free))
        of_beta[:2] = self.scaling.basis[k]
        return of_theta, of_beta


def make_design(at: Linearization, scaling: Scaling, moved: np.ndarray) -> Design:
    """Args: moved: (p,) bool, the parameters that were free and not at a bound."""
    free = np.flatnonzero(moved)
    whole = np.linalg.norm(at.theta_jacobian[:, free], axis=0)
    theta = inverse_gram(at.jacobian[:, free], whole)
    norm = np.linalg.norm(at.scaling_jacobian, axis=0)
    own = inverse_gram(at.scaling_jacobian, norm)
    slope = own.inverse @ at.scaling_jacobian.T @ at.theta_jacobian[:, free]
    # where theta can move freely because the scaling makes up for it, the scaling is as open as theta
    follows = norm[:, None] * np.abs(slope @ theta.null) > _SHARE * (whole @ np.abs(theta.null))
    open_beta = follows.any(axis=1)
    open_beta[own.weak] = True
    return Design(
        at,
        scaling,
        free,
        theta,
        own,
        slope,
        tuple(int(free[i]) for i in theta.weak),
        np.any(scaling.basis[:, :, open_beta] != 0, axis=2),
    )


def inverse_gram(a: np.ndarray, whole: np.ndarray) -> Inverse:
    """Inverse of A^T A.

    Args:
        a: (m, n). whole: norms of its columns before anything was projected out of them, (n,): what is left of a
            column below ``RANK_TOLERANCE`` of it is rounding.
    """
    n = a.shape[1]
    if n == 0:
        return Inverse(np.zeros((0, 0)), 1.0, [], np.zeros((0, 0)))
    norm = np.linalg.norm(a, axis=0)
    lost = norm <= RANK_TOLERANCE * whole
    safe = np.where(lost, np.where(whole > 0, whole, 1.0), norm)
    _, w, vt = np.linalg.svd(np.where(lost, 0.0, a / safe), full_matrices=True)
    w = np.concatenate([w, np.zeros(n - len(w))])
    keep = w > RANK_TOLERANCE * w[0]
    condition = float((w[0] / w[-1]) ** 2) if w[-1] > 0 else float("inf")
    inverse = (vt[keep].T / w[keep] ** 2) @ vt[keep]
    weak = [i for i in range(n) if np.any(np.abs(vt[~keep][:, i]) > _SHARE)]
    return Inverse(inverse / np.outer(safe, safe), condition, weak, vt[~keep].T / safe[:, None])
