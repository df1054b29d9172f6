"""Errors that assume nothing about the noise but independent angles: leave one out, one Gauss-Newton step each."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.optimization.uncertainty.design import RANK_TOLERANCE, Design
from homodyne.optimization.uncertainty.errors import Errors

#: With fewer angles the scatter between them says nothing.
LEAST_ANGLES = 5


@dataclasses.dataclass(frozen=True)
class Jackknife:
    """Attributes: errors: method jackknife. shifts: (n_phi, f), what leaving out each angle does to the free parameters."""

    errors: Errors
    shifts: np.ndarray


def jackknife(design: Design) -> Jackknife:
    """V = (K - 1) / K sum_k (d_k - mean d)(d_k - mean d)^T, d_k the step to the fit without angle k (CR3; Bell & McCaffrey 2002).

    All from the sums of the last pass. Intervals take t quantiles with K - 1 degrees of freedom. NaN where without some
    angle the others do not determine the parameters.
    """
    at, f = design.at, len(design.free)
    n_phi = len(at.chi2)
    columns, residual = _columns(design), at.residual.reshape(n_phi, -1)
    gram = np.einsum("kmi,kmj->kij", columns, columns)
    score = np.einsum("kmi,km->ki", columns, residual)
    scale = np.sqrt(np.einsum("kii->i", gram))
    scale = np.where(scale > 0, scale, 1.0)
    gram, score = gram / np.outer(scale, scale), score / scale
    steps = np.array([_solve(gram.sum(0) - gram[k], score.sum(0) - score[k]) for k in range(n_phi)])
    steps = (steps / scale)[:, :f]
    centered = steps - steps.mean(0)
    root = np.sqrt((n_phi - 1) / n_phi) * centered.T
    return Jackknife(Errors.of(design, "jackknife", root, _scaling(design, root), n_phi - 1.0), steps)


def _columns(design: Design) -> np.ndarray:
    """Jacobian by angle, (n_phi, m, f or f + b): with the scaling projected out where it is each angle's own."""
    at = design.at
    n_phi = len(at.chi2)
    owners = np.count_nonzero(np.any(design.scaling.basis != 0, axis=1), axis=0)
    own = at.jacobian[:, design.free]
    if not np.all(owners == 1):
        own = np.concatenate([at.theta_jacobian[:, design.free], at.scaling_jacobian], axis=1)
    return own.reshape(n_phi, len(own) // n_phi, own.shape[1])


def _solve(gram: np.ndarray, score: np.ndarray) -> np.ndarray:
    """gram^-1 score; NaN where gram is singular."""
    if not len(score):
        return score
    values, vectors = np.linalg.eigh(gram)
    if values[0] <= RANK_TOLERANCE**2 * values[-1]:
        return np.full(len(score), np.nan)
    return vectors @ ((vectors.T @ score) / values)


def _scaling(design: Design, root: np.ndarray) -> np.ndarray:
    """Contrast and offset of one angle have no scatter between angles: only what they inherit from theta is known."""
    return np.full(design.scaling.base.shape, np.nan)
