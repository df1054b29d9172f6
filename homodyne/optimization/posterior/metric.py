"""The two metrics of a displacement: what least squares takes its size for, and what it honestly is."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

# In units of chi2: displacements below it take the typical ratio.
_NEAR = 1e-8
# Of the scaled H: eigenvalues below it are rounding, and nothing is known in their directions.
_RANK = 1e-13


@partial(jax.tree_util.register_dataclass, data_fields=("hessian", "inverse", "honest", "typical"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Metric:
    """Attributes:
    hessian, inverse: H and H^-1 on its range. honest: V^-1; (f, f) each.
    typical: ratio of V^-1 to H.
    """

    hessian: jax.Array
    inverse: jax.Array
    honest: jax.Array
    typical: jax.Array | float

    def ratio(self, d: jax.Array) -> jax.Array:
        """d V^-1 d / d H d, by which chi2 is multiplied."""
        return (d @ self.honest @ d + _NEAR * self.typical) / (d @ self.hessian @ d + _NEAR)


def iid_metric(hessian: np.ndarray, chi2_reduced: float) -> Metric:
    """As if pairs were independent, with their variance from the residuals."""
    ratio = 1.0 / chi2_reduced
    return _metric(hessian, ratio * hessian, ratio)


def honest_metric(hessian: np.ndarray, root: np.ndarray, moved: np.ndarray) -> Metric:
    """V^-1 from the errors of the fit.

    Args:
        hessian: H of the free parameters, (f, f). root: root root^T is the covariance of those that moved, (f, r), zero
            for the others. moved: (f,) bool; a parameter at its bound has no error, and takes the typical ratio.
    """
    m, b = np.flatnonzero(moved), np.flatnonzero(~moved)
    inner = hessian[np.ix_(m, m)]
    low, scale = _root(inner)
    # H^1/2 V H^1/2: of order 1 to 100 in every direction, whatever the condition of H
    ratio = low.T @ (root[m] / scale[:, None])
    values, vectors = np.linalg.eigh(ratio @ ratio.T)
    known = values > _RANK * max(float(values.max(initial=0.0)), 1e-300)
    left = (low @ vectors[:, known]) / np.sqrt(values[known]) / scale[:, None]
    honest = np.zeros_like(hessian)
    honest[np.ix_(m, m)] = left @ left.T
    typical = float(np.exp(-np.mean(np.log(values[known])))) if known.any() else 1.0
    if b.size:
        slope = inverse_on_range(inner) @ hessian[np.ix_(m, b)]
        honest[np.ix_(m, b)] = honest[np.ix_(m, m)] @ slope
        honest[np.ix_(b, m)] = honest[np.ix_(m, b)].T
        rest = hessian[np.ix_(b, b)] - hessian[np.ix_(b, m)] @ slope
        honest[np.ix_(b, b)] = typical * rest + slope.T @ honest[np.ix_(m, m)] @ slope
    return _metric(hessian, honest, typical)


def _metric(hessian: np.ndarray, honest: np.ndarray, typical: float) -> Metric:
    inverse = jnp.asarray(inverse_on_range(hessian))
    return Metric(jnp.asarray(hessian), inverse, jnp.asarray(honest), typical)


def _scales(a: np.ndarray) -> np.ndarray:
    diagonal = np.sqrt(np.maximum(np.diag(a), 0.0))
    return np.where(diagonal > 0, 1.0 / np.where(diagonal > 0, diagonal, 1.0), 1.0)


def _root(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L and scales s with s A s = L L^T, on the range of A; a triangle where A is positive."""
    scale = _scales(a)
    scaled = a * np.outer(scale, scale)
    values, vectors = np.linalg.eigh(scaled)
    values = np.where(values > _RANK * max(float(values.max(initial=0.0)), 1e-300), values, 0.0)
    return vectors * np.sqrt(values), scale


def inverse_on_range(a: np.ndarray) -> np.ndarray:
    """Pseudoinverse of a symmetric matrix whose rows may be of any scale."""
    scale = _scales(a)
    return np.linalg.pinv(a * np.outer(scale, scale), rcond=_RANK, hermitian=True) * np.outer(scale, scale)
