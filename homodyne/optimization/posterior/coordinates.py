"""Coordinates without bounds in which a posterior is nearly a standard normal distribution."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.optimization.posterior.metric import Metric
from homodyne.optimization.posterior.priors import Prior
from homodyne.parameters import Parameter

# Precision of the logistic distribution, which a uniform prior is in unbounded coordinates.
_LOGISTIC = 3.0 / np.pi**2
# A center on its bound is moved inside by this part of its standard deviation, and no closer than this part of the range.
_INSIDE, _CLOSEST = 0.5, 1e-9


@partial(jax.tree_util.register_dataclass, data_fields=("lower", "upper", "center", "root"), meta_fields=("priors",))
@dataclasses.dataclass(frozen=True)
class Coordinates:
    """theta = lower + (upper - lower) / (1 + exp(-x)), x = center + root z, for the f free parameters.

    Attributes: lower, upper, center: (f,). root: (f, f). priors: of the free parameters.
    """

    priors: tuple[Prior, ...]
    lower: jax.Array
    upper: jax.Array
    center: jax.Array
    root: jax.Array

    def theta(self, z: jax.Array) -> jax.Array:
        """Free parameters (f,) at z (f,)."""
        return self.lower + (self.upper - self.lower) * jax.nn.sigmoid(self.center + self.root @ z)

    def log_prior(self, z: jax.Array) -> jax.Array:
        """Of the prior's density over z, up to a constant."""
        x = self.center + self.root @ z
        theta = self.theta(z)
        density = sum((p.log_density(theta[i]) for i, p in enumerate(self.priors)), jnp.zeros(()))
        return density + jnp.sum(jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x))

    def slope(self) -> jax.Array:
        """dtheta/dx at the center, (f,)."""
        s = jax.nn.sigmoid(self.center)
        return (self.upper - self.lower) * s * (1.0 - s)

    def z(self, theta: np.ndarray) -> np.ndarray:
        """Coordinates of free parameters within the bounds, (..., f)."""
        part = (theta - np.asarray(self.lower)) / np.asarray(self.upper - self.lower)
        x = np.log(part) - np.log1p(-part)
        return np.linalg.solve(np.asarray(self.root), (x - np.asarray(self.center)).T).T


def make_coordinates(
    parameters: tuple[Parameter, ...], priors: tuple[Prior, ...], best: np.ndarray, metric: Metric
) -> Coordinates:
    """Centered at the fit, scaled by its honest covariance where that is narrower than the prior.

    Args:
        parameters, priors, best: of the f free parameters.
    """
    lower, upper = (np.array([getattr(p, side) for p in parameters], dtype=float) for side in ("lower", "upper"))
    width = upper - lower
    honest = np.asarray(metric.honest)
    # the conditional error is a scale for a parameter on its bound, and never too large
    alone = 1.0 / np.sqrt(np.maximum(np.diag(honest), 1.0 / width**2))
    inside = np.minimum(_INSIDE * alone, 0.25 * width)
    near = (best <= lower) | (best >= upper)
    center = np.where(near, np.clip(best, lower + inside, upper - inside), best)
    part = np.clip((center - lower) / width, _CLOSEST, 1.0 - _CLOSEST)
    slope = width * part * (1.0 - part)
    precision = slope[:, None] * honest * slope + _LOGISTIC * np.eye(len(best))
    scale = 1.0 / np.sqrt(np.diag(precision))
    # columns of the root have unit length in the metric of the precision
    low = np.linalg.cholesky(precision * np.outer(scale, scale))
    root = scale[:, None] * np.linalg.inv(low).T
    return Coordinates(priors, *(jnp.asarray(a) for a in (lower, upper, np.log(part) - np.log1p(-part), root)))
