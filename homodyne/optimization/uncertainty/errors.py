"""The errors of a fit by one method."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.optimization.uncertainty.design import Design


@dataclasses.dataclass(frozen=True)
class Errors:
    """Errors of a fit.

    Attributes:
        method: iid, speckle, repetitions or jackknife.
        root: (p, r), root root^T is the covariance of theta; rows of parameters that did not move are 0.
        null: (p, z), directions the data leave open.
        scaling: variances of contrast and offset per angle, (n_phi, 2); inf where the data leave them open.
        dof: degrees of freedom of the t distribution whose quantiles make intervals; inf for the normal one.
    """

    method: str
    root: np.ndarray
    null: np.ndarray
    scaling: np.ndarray
    dof: float = np.inf

    @classmethod
    def of(cls, design: Design, method: str, root: np.ndarray, scaling: np.ndarray, dof: float = np.inf) -> Errors:
        """From the root of the f parameters that moved, (f, r), and variances (n_phi, 2)."""
        p = design.n_parameters
        whole, null = np.zeros((p, root.shape[1])), np.zeros((p, design.theta.null.shape[1]))
        whole[design.free], null[design.free] = root, design.theta.null
        return cls(method, whole, null, np.where(design.open_scaling, np.inf, scaling), dof)

    def covariance(self, undetermined: tuple[int, ...]) -> np.ndarray:
        """(p, p); undetermined parameters have variance inf and covariances NaN."""
        theta = self.root @ self.root.T
        for i in undetermined:
            theta[i, :] = theta[:, i] = np.nan
            theta[i, i] = np.inf
        return theta


def root_of(covariance: np.ndarray) -> np.ndarray:
    """R (n, n) with R R^T = ``covariance``, for a covariance scaled to a unit diagonal before its eigenvalues are taken."""
    scale = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    safe = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(safe, safe))
    return safe[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))


def compressed(rows: np.ndarray) -> np.ndarray:
    """R (n, <= n) with R R^T = rows^T rows, from (m, n), without squaring."""
    return np.asarray(np.linalg.qr(rows, mode="r")).T
