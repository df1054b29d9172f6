"""Errors that know nothing but that the measurement was repeated: the scatter of the estimates of the single repetitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import chdtr, chdtrc

from homodyne.optimization.normal import Linearization
from homodyne.optimization.uncertainty.design import Design
from homodyne.optimization.uncertainty.errors import Errors

#: With fewer repetitions the scatter between them says nothing: Student's t with one degree of freedom has no mean.
LEAST_REPETITIONS = 3
# Probability, on either side, below which the scatter is called more, or less, than chance: that of four standard deviations.
_CHANCE = 3.2e-5


def repetition_errors(design: Design, each: Sequence[Linearization]) -> Errors:
    """V = 1 / (R (R - 1)) sum_r (d_r - mean d)(d_r - mean d)^T, d_r one Gauss-Newton step to the fit of repetition r alone.

    The step is d_r = D A_r^T r_r with the D = (A^T A)^-1 of the mean, exact to first order: c2 of the mean is the mean of
    those of the repetitions, so the d_r average to the fit of the mean. Contrast and offset follow in the same way. Intervals
    take t quantiles with R - 1 degrees of freedom. For R - 1 below the number of parameters V is singular; the error of any
    single parameter, or of a rate at one time, is what it should be all the same.

    Args:
        each: the linearizations at the solution with the data of one repetition each, same weights, same frames.
    """
    n = len(each)
    steps = np.array([design.theta.inverse @ (at.jacobian[:, design.free].T @ at.residual) for at in each])
    pairs = np.array([at.scaling for at in each])
    pairs = pairs - np.einsum("kib,bf,rf->rki", design.scaling.basis, design.slope, steps)
    root = (steps - steps.mean(0)).T / np.sqrt(n * (n - 1.0))
    return Errors.of(design, "repetitions", root, pairs.var(0, ddof=1) / n, n - 1.0)


def disagreement(names: Sequence[str], design: Design, repeated: Errors, speckle: Errors) -> Iterator[str]:
    """Sentences on free parameters whose repetitions scatter otherwise than the noise of speckle makes them."""
    found, expected = ((errors.root[design.free] ** 2).sum(1) for errors in (repeated, speckle))
    for name, side, x, y in zip(names, unlikely(found, expected, repeated.dof), found, expected, strict=True):
        if side == 0:
            continue
        yield (
            f"{name}: {repeated.dof + 1:.0f} repetitions give an error of {np.sqrt(x):.3g}, the noise of speckle "
            f"{np.sqrt(y):.3g}: more than chance. "
            + ("Something changes between them." if side > 0 else "They agree too well: are they independent?")
        )


def unlikely(found: np.ndarray, expected: np.ndarray, dof: float) -> np.ndarray:
    """1 where a variance from ``dof`` degrees of freedom is above, -1 where it is below what chance makes of the expected one.

    Args:
        found, expected: variances, (f,). The first is the second times chi2_dof / dof, if nothing else scatters.
    """
    known = (expected > 0) & np.isfinite(expected) & np.isfinite(found)
    ratio = np.where(known, found / np.where(known, expected, 1.0), 1.0) * dof
    return np.where(known & (chdtrc(dof, ratio) < _CHANCE), 1, np.where(known & (chdtr(dof, ratio) < _CHANCE), -1, 0))
