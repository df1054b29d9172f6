"""Errors for independent noise: what least squares prints, a lower limit where pairs share frames."""

from __future__ import annotations

import numpy as np

from homodyne.optimization.uncertainty.design import Design
from homodyne.optimization.uncertainty.errors import Errors, root_of


def iid_errors(design: Design, chi2_reduced: float) -> Errors:
    """chi2_reduced (A^T A)^-1 for theta, propagated to the scaling.

    Args:
        chi2_reduced: scales the given or estimated sigma to the residuals found.
    """
    theta = chi2_reduced * design.theta.inverse
    if design.scaling.n_free == 0:
        return Errors.of(design, "iid", root_of(theta), np.zeros(design.scaling.base.shape))
    own = design.own.inverse * chi2_reduced
    beta = own + design.slope @ theta @ design.slope.T
    basis = design.scaling.basis
    scaling = np.maximum(np.einsum("kib,bc,kic->ki", basis, beta, basis), 0.0)
    return Errors.of(design, "iid", root_of(theta), scaling)
