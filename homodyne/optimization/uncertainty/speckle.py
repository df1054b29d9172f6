"""Errors from the noise of speckle: every estimate is a sum of scores, and the scatter of those is known."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.optimization.uncertainty.design import Design
from homodyne.optimization.uncertainty.errors import Errors, compressed
from homodyne.optimization.uncertainty.scores import Scores


@dataclasses.dataclass(frozen=True)
class SpeckleErrors:
    """Attributes:
    errors: method speckle.
    shares: part of every free parameter's variance that comes from each angle, (n_phi, f).
    chi2_mean, chi2_sd: what the weighted residual sum of squares of each angle should be, (n_phi,).
    """

    errors: Errors
    shares: np.ndarray
    chi2_mean: np.ndarray
    chi2_sd: np.ndarray


def speckle_errors(design: Design, scores: Scores, sigma: np.ndarray) -> SpeckleErrors:
    """theta_f = sum_k L_k^T q_k with q_k the scores of angle k, so V = sum_k L_k^T Cov(q_k) L_k: angles are independent.

    Args:
        sigma: the noise per angle by which the fit weighted, (n_phi,); ones where points had their own.
    """
    parts, absorbed = [], np.zeros(len(sigma))
    joint = np.zeros((design.scaling.n_free, design.scaling.n_free))
    for k, root in enumerate(scores.roots):
        of_theta, of_beta = design.columns(k)
        weighted = root / sigma[k] ** 2
        own, projected = weighted @ of_beta, weighted @ (of_theta - of_beta @ design.slope)
        theta = projected @ design.theta.inverse
        parts.append(theta)
        beta = own @ design.own.inverse
        # what the fit itself takes out of the residuals
        absorbed[k] = np.einsum("ti,ti->", theta, projected) + np.einsum("ti,ti->", beta, own)
        beta = beta - theta @ design.slope.T
        joint += beta.T @ beta
    basis = design.scaling.basis
    scaling = np.maximum(np.einsum("kib,bc,kic->ki", basis, joint, basis), 0.0)
    variance = np.array([(part**2).sum(0) for part in parts])
    total = variance.sum(0)
    return SpeckleErrors(
        Errors.of(design, "speckle", compressed(np.concatenate(parts)), scaling),
        variance / np.where(total > 0, total, 1.0),
        scores.chi2_mean / sigma**2 - absorbed,
        np.hypot(scores.chi2_sd, scores.second_order * scores.chi2_mean) / sigma**2,
    )
