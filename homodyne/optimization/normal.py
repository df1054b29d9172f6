"""From per-angle sums to the reduced least-squares problem of the physical parameters.

A pass gives for each angle a matrix F with F^T F = X^T X, X = [s, 1, ds/dtheta, r] (see ``moments.py``): a square root
of the moments, or the R factor of a QR of X itself. Contrast and offset are linear, so they are eliminated exactly
(variable projection, Kaufman's form): with (contrast, offset) = base + B beta,

    beta*   = argmin | r - [s, 1](base + B beta - ref) |**2
    A_theta = contrast ds/dtheta,   A_beta = [s, 1] B,   projected: A = (1 - Q Q^T) A_theta,  Q an orthonormal A_beta.

The Gauss-Newton step is argmin | r* - A d |**2, with p columns whatever the number of angles.

A robust loss leaves nothing to eliminate exactly: its minimum over contrast and offset is not a linear function of the
data. There a point is theta *and* the scaling; a pass at a point gives the exact cost, gradient and Hessian (see
``moments``), and the same projection solves the joint step, beta following theta by back substitution:

    d_theta = argmin | r* - A d |**2,    d_beta = A_beta^+ (r - A_theta d_theta).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.optimization.loss import TERMS
from homodyne.optimization.scaling import Scaling


@dataclasses.dataclass(frozen=True)
class PassSums:
    """What one pass over the data returns.

    Attributes:
        factors: (n_phi, m, p+3), F of each angle, in units of c2 (not yet divided by sigma).
        counts: valid pairs per angle, (n_phi,).
        reference: contrast and offset against which r was formed, (n_phi, 2).
        terms: with a robust loss the sums of ``Loss.terms``, (n_phi, 6); else None.
    """

    factors: np.ndarray
    counts: np.ndarray
    reference: np.ndarray
    terms: np.ndarray | None = None

    def term(self, name: str) -> np.ndarray:
        """One of ``loss.TERMS``, (n_phi,)."""
        assert self.terms is not None
        return self.terms[:, TERMS.index(name)]


@dataclasses.dataclass(frozen=True)
class Following:
    """How contrast and offset go on from a point of a robust fit.

    Attributes:
        here: (n_phi, 2) at the point. basis: of the scaling, (n_phi, 2, b).
        step: (b,), of the free scaling parameters at fixed theta. slope: (b, p), how much less of it a step in theta
            leaves. decrease: of twice the cost by ``step`` alone.
    """

    here: np.ndarray
    basis: np.ndarray
    step: np.ndarray
    slope: np.ndarray
    decrease: float

    def after(self, step: np.ndarray, damping: float) -> np.ndarray:
        """Contrast and offset that go with a step (p,) in theta, (n_phi, 2)."""
        beta = self.step / (1.0 + damping) - self.slope @ step
        return self.here + np.einsum("kib,b->ki", self.basis, beta)

    def damped_decrease(self, damping: float) -> float:
        """Decrease of the cost by the damped step of the scaling alone."""
        left = 1.0 - 1.0 / (1.0 + damping)
        return 0.5 * self.decrease * (1.0 - left**2)


@dataclasses.dataclass(frozen=True)
class Linearization:
    """The reduced problem at one theta.

    Attributes:
        cost: half the weighted residual sum of squares at the best scaling; of a robust loss, half the sum of
            c**2 rho at this theta and scaling.
        jacobian: (m, p) projected Jacobian; residual: (m,) projected residual.
        scaling: best contrast and offset, (n_phi, 2); of a robust loss, those of the point.
        chi2: twice the cost per angle, (n_phi,).
        scaling_jacobian: (m, b) A_beta; theta_jacobian: (m, p) before projection.
        sums: the pass it came from, so that other scalings can be tried without reading the data again.
        following: with a robust loss, how contrast and offset go on; else None.
    """

    cost: float
    jacobian: np.ndarray
    residual: np.ndarray
    scaling: np.ndarray
    chi2: np.ndarray
    scaling_jacobian: np.ndarray
    theta_jacobian: np.ndarray
    sums: PassSums
    following: Following | None = None

    @property
    def lowest(self) -> float:
        """Cost at this theta after the step of a robust fit's contrast and offset; of least squares the cost itself."""
        return self.cost if self.following is None else self.cost - self.following.damped_decrease(0.0)

    @property
    def variance(self) -> float:
        """By which (A^T A)^-1 is multiplied for errors of independent noise, degrees of freedom not yet taken off.

        Mean square of the weighted residuals; of a robust loss mean psi**2 / mean psi', so that with H = A^T A the
        product is the sandwich H^-1 (sum psi**2 J J^T) H^-1 for rows whose noise does not know J.
        """
        if self.sums.terms is None:
            return 2 * self.cost / max(1.0, float(self.counts.sum()))
        return float(self.sums.term("psi2").sum() / max(float(self.sums.term("curvature").sum()), 1e-300))

    @property
    def counts(self) -> np.ndarray:
        """Valid pairs per angle."""
        return self.sums.counts


def factors_from_moments(gram: np.ndarray) -> np.ndarray:
    """Upper triangular F with F^T F = gram, (n_phi, q, q): Cholesky's method, on the gram scaled to a unit diagonal.

    Rounding limits a pivot to about 1e-16; where it is as small, the column is a combination of those before, and its row of
    F zero. Extended precision where the processor has it: the step then loses no more digits than the sums have lost
    already, and ten times as many with eigenvalues in double precision, measured. Sums that are not finite give NaN.
    """
    if not np.all(np.isfinite(gram)):
        return np.full_like(gram, np.nan)
    scale = np.sqrt(np.maximum(np.einsum("kii->ki", gram), 0.0))
    safe = np.where(scale > 0, scale, 1.0)
    left = gram.astype(np.longdouble) / (safe[:, :, None] * safe[:, None, :])
    factors = np.zeros_like(left)
    for m in range(gram.shape[-1]):
        pivot = left[:, m, m]
        found = pivot > len(left[0]) * np.finfo(float).eps
        row = left[:, m, m:] / np.sqrt(np.where(found, pivot, np.inf))[:, None]
        factors[:, m, m:] = row
        left[:, m:, m:] -= row[:, :, None] * row[:, None, :]
    return (factors * safe[:, None, :]).astype(float)


def invertible(factors: np.ndarray) -> np.ndarray:
    """The triangles with small numbers in place of the zeros on their diagonals, so that columns can be divided by them."""
    scale = np.linalg.norm(factors, axis=1)
    diagonal = np.einsum("kii->ki", factors)
    least = np.where(scale > 0, np.sqrt(np.finfo(float).eps) * scale, 1.0)
    return factors + np.where(diagonal > 0, 0.0, least)[:, None, :] * np.eye(factors.shape[1])


def linearize(sums: PassSums, scaling: Scaling, sigma: np.ndarray) -> Linearization:
    """Eliminate contrast and offset; see the module docstring. Sums that are not finite have an infinite cost.

    Args:
        sums: one pass. scaling: the mode's map. sigma: noise per angle, (n_phi,).
    """
    n_phi, m, q = sums.factors.shape
    if not np.all(np.isfinite(sums.factors)):
        return _not_finite(sums, scaling, n_phi * m)
    f = sums.factors / sigma[:, None, None]
    basis = np.einsum("kmi,kib->kmb", f[:, :, :2], scaling.basis)
    target = f[:, :, -1] - np.einsum("kmi,ki->km", f[:, :, :2], scaling.base - sums.reference)
    r0 = target.reshape(-1)
    a_beta = basis.reshape(len(r0), scaling.n_free)
    beta, orthonormal = _least_squares(a_beta, r0)
    pairs = scaling.base + np.einsum("kib,b->ki", scaling.basis, beta)
    r = r0 - a_beta @ beta
    a_theta = (pairs[:, 0, None, None] * f[:, :, 2 : q - 1]).reshape(len(r), q - 3)
    projected = a_theta - orthonormal @ (orthonormal.T @ a_theta)
    return Linearization(
        cost=0.5 * float(r @ r),
        jacobian=projected,
        residual=r,
        scaling=pairs,
        chi2=(r.reshape(n_phi, -1) ** 2).sum(1),
        scaling_jacobian=a_beta,
        theta_jacobian=a_theta,
        sums=sums,
    )


def linearize_robust(sums: PassSums, scaling: Scaling, sigma: np.ndarray) -> Linearization:
    """The joint problem of theta and the scaling at ``sums.reference``, reduced to theta; see the module docstring.

    Args:
        sums: one pass with a robust loss. scaling: the mode's map. sigma: noise per angle, (n_phi,).
    """
    n_phi, m, q = sums.factors.shape
    cost = 0.5 * sums.term("cost")
    if not (np.all(np.isfinite(sums.factors)) and np.all(np.isfinite(cost))):
        return _not_finite(sums, scaling, n_phi * m)
    f = sums.factors / sigma[:, None, None]
    a_beta = np.einsum("kmi,kib->kmb", f[:, :, :2], scaling.basis).reshape(n_phi * m, scaling.n_free)
    a_theta = (sums.reference[:, 0, None, None] * f[:, :, 2 : q - 1]).reshape(n_phi * m, q - 3)
    r0 = f[:, :, -1].reshape(-1)
    both, orthonormal = _least_squares(a_beta, np.column_stack([r0, a_theta]))
    share = orthonormal.T @ r0
    return Linearization(
        cost=float(cost.sum()),
        jacobian=a_theta - orthonormal @ (orthonormal.T @ a_theta),
        residual=r0 - orthonormal @ share,
        scaling=sums.reference,
        chi2=2 * cost,
        scaling_jacobian=a_beta,
        theta_jacobian=a_theta,
        sums=sums,
        following=Following(sums.reference, scaling.basis, both[:, 0], both[:, 1:], float(share @ share)),
    )


def freed(at: Linearization, scaling: Scaling, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The same theta with another scaling: chi2 per angle (n_phi,), contrast and offset (n_phi, 2), variance of a row.

    Exact for least squares; of a robust loss by its quadratic expansion at ``at``.
    """
    if at.following is None:
        free = linearize(at.sums, scaling, sigma)
        return free.chi2, free.scaling, free.variance
    free = linearize_robust(at.sums, scaling, sigma)
    assert free.following is not None
    target = at.sums.factors[:, :, -1] / sigma[:, None]
    gain = (target**2).sum(1) - (free.residual.reshape(target.shape) ** 2).sum(1)
    return at.chi2 - gain, free.following.after(np.zeros(free.jacobian.shape[1]), 0.0), at.variance


def nearest_pairs(scaling: Scaling, pairs: np.ndarray) -> np.ndarray:
    """Contrast and offset that a scaling mode allows nearest to the given ones, (n_phi, 2)."""
    flat = scaling.basis.reshape(2 * len(scaling.base), scaling.n_free)
    beta, _ = _least_squares(flat, (pairs - scaling.base).reshape(-1))
    return scaling.base + np.einsum("kib,b->ki", scaling.basis, beta)


def _not_finite(sums: PassSums, scaling: Scaling, m: int) -> Linearization:
    """The model overflowed somewhere: a point to be rejected, without derivatives."""
    n_phi, _, q = sums.factors.shape
    return Linearization(
        cost=float("inf"),
        jacobian=np.zeros((m, q - 3)),
        residual=np.zeros(m),
        scaling=np.full((n_phi, 2), np.nan),
        chi2=np.full(n_phi, np.inf),
        scaling_jacobian=np.zeros((m, scaling.n_free)),
        theta_jacobian=np.zeros((m, q - 3)),
        sums=sums,
    )


def _least_squares(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimum-norm solution and an orthonormal basis of the range of ``a``; rank-deficient columns are allowed.

    Args:
        a: (m, n). b: (m,) or (m, k), solved for column by column.
    """
    norm = np.linalg.norm(a, axis=0)
    safe = np.where(norm > 0, norm, 1.0)
    u, w, vt = np.linalg.svd(a / safe, full_matrices=False)
    keep = w > 1e-12 * (w[0] if w.size else 1.0)
    u, w, vt = u[:, keep], w[keep], vt[keep]
    return ((vt.T @ ((u.T @ b).T / w).T).T / safe).T, u
