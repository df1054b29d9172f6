"""Errors that assume nothing about the noise but independent angles: leave one out, one Gauss-Newton step each."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.optimization.uncertainty.design import RANK_TOLERANCE, Design
from homodyne.optimization.uncertainty.errors import Errors
from homodyne.optimization.uncertainty.scores import Scores

#: With fewer angles the scatter between them says nothing.
LEAST_ANGLES = 5


# Draws of the scores that say how the jackknife scatters, see ``expected_variances``.
_DRAWS = 400


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
    gram, scale = _grams(columns)
    score = np.einsum("kmi,km->ki", columns, residual) / scale
    steps = np.array([_solve(gram.sum(0) - gram[k], score.sum(0) - score[k]) for k in range(n_phi)])
    steps = (steps / scale)[:, :f]
    root = np.sqrt((n_phi - 1) / n_phi) * (steps - steps.mean(0)).T
    no_scatter = np.full(design.scaling.base.shape, np.nan)  # of the contrast and offset of one angle between angles
    return Jackknife(Errors.of(design, "jackknife", root, no_scatter, n_phi - 1.0), steps)


def expected_variances(design: Design, scores: Scores, sigma: np.ndarray, seed: int = 0) -> np.ndarray:
    """Jackknife variances of the free parameters, (400, f), if the noise of every angle is what ``scores`` say.

    Where few angles carry a parameter the jackknife is far from its mean, mostly below: what it says must be compared
    with these, not with the variance itself. Scores of the angles are drawn from normal distributions; the fit takes out
    of each what it can, g_k - H_k H^-1 sum g.
    """
    columns = _columns(design)
    gram, scale = _grams(columns)
    n_phi, f, joint = len(gram), len(design.free), columns.shape[2] > len(design.free)
    rng = np.random.default_rng(seed)
    drawn = np.empty((_DRAWS, n_phi, len(scale)))
    for k, root in enumerate(scores.roots):
        of_theta, of_beta = design.columns(k)
        of_angle = np.hstack([of_theta, of_beta]) if joint else of_theta - of_beta @ design.slope
        half = np.linalg.qr((root / sigma[k] ** 2) @ of_angle, mode="r")
        drawn[:, k] = rng.standard_normal((_DRAWS, len(half))) @ half / scale
    whole = _inverse(gram.sum(0))
    drawn -= np.einsum("kij,jl,nl->nki", gram, whole, drawn.sum(1))
    steps = np.stack([-drawn[:, k] @ _inverse(gram.sum(0) - gram[k]) for k in range(n_phi)], axis=1)
    steps = (steps / scale)[:, :, :f]
    return (n_phi - 1) / n_phi * ((steps - steps.mean(1, keepdims=True)) ** 2).sum(1)


def _grams(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """J_k^T J_k of every angle in units of the columns' norms, and those."""
    gram = np.einsum("kmi,kmj->kij", columns, columns)
    scale = np.sqrt(np.einsum("kii->i", gram))
    scale = np.where(scale > 0, scale, 1.0)
    return gram / np.outer(scale, scale), scale


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
    return _inverse(gram) @ score


def _inverse(gram: np.ndarray) -> np.ndarray:
    """gram^-1; NaN where it is singular."""
    if not len(gram):
        return gram
    values, vectors = np.linalg.eigh(gram)
    if values[0] <= RANK_TOLERANCE**2 * values[-1]:
        return np.full(gram.shape, np.nan)
    return (vectors / values) @ vectors.T
