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

# A center on its bound is moved inside by this part of its standard deviation.
_INSIDE = 0.5
# Width of the bend at a bound, in standard deviations, and the most of the range it may take.
_BEND, _MOST_BEND = 0.25, 0.1
# Where lines are known, in standard deviations.
REACH = 4.0
GRID = np.linspace(-REACH, REACH, 33)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("lower", "upper", "bend", "center", "root", "lines"),
    meta_fields=("priors",),
)
@dataclasses.dataclass(frozen=True)
class Coordinates:
    """x = center + root (z + sum_a l_a(z_a)) for the f free parameters, and theta is x itself but near a bound, which it never reaches:

        theta = lower + b log(1 + exp((x - lower) / b)) - b log(1 + exp((x - upper) / b)),     b the width of the bend.

    No logarithms: D0 and D_offset, say, are known in their sum, and logarithms would bend the straight valley. The lines l_a follow
    valleys that are curved, as those of exponents are (see ``valley``): l_a changes the coordinates after a, so that the
    map is one to one and keeps volumes.

    Attributes:
        lower, upper, bend, center: (f,). root: (f, f). lines: l_a on the grid of ``REACH``, (a, grid, f); none: (0, grid, f).
        priors: of the free parameters.
    """

    priors: tuple[Prior, ...]
    lower: jax.Array
    upper: jax.Array
    bend: jax.Array
    center: jax.Array
    root: jax.Array
    lines: jax.Array

    def theta(self, z: jax.Array) -> jax.Array:
        """Free parameters (f,) at z (f,)."""
        return self._theta(self._x(z))

    def _x(self, z: jax.Array) -> jax.Array:
        return self.center + self.root @ self._straight(z)

    def _straight(self, z: jax.Array) -> jax.Array:
        for a in range(self.lines.shape[0]):
            z = z + _interpolated(self.lines[a], z[a])
        return z

    def _theta(self, x: jax.Array) -> jax.Array:
        above, beyond = (x - self.lower) / self.bend, (x - self.upper) / self.bend
        return self.lower + self.bend * (jax.nn.softplus(above) - jax.nn.softplus(beyond))

    def log_prior(self, z: jax.Array) -> jax.Array:
        """Of the prior's density over z, up to a constant."""
        x = self._x(z)
        theta = self._theta(x)
        density = sum((p.log_density(theta[i]) for i, p in enumerate(self.priors)), jnp.zeros(()))
        return density + self._log_slopes(x).sum()

    def _log_slopes(self, x: jax.Array) -> jax.Array:
        above, beyond = (x - self.lower) / self.bend, (x - self.upper) / self.bend
        # sigmoid(above) - sigmoid(beyond)
        return jax.nn.log_sigmoid(above) + jax.nn.log_sigmoid(-beyond) + jnp.log1p(-jnp.exp(beyond - above))

    def slope(self) -> jax.Array:
        """dtheta/dx at the center, (f,)."""
        return jnp.exp(self._log_slopes(self.center))


def _interpolated(line: jax.Array, at: jax.Array) -> jax.Array:
    """A line (grid, f) at ``at``, by cubic pieces with continuous slopes; constant beyond its ends."""
    place = (jnp.clip(at, GRID[0], GRID[-1]) - GRID[0]) / (GRID[1] - GRID[0])
    n = jnp.clip(place.astype(int), 0, len(GRID) - 2)
    u = place - n
    before, here, there, after = (line[jnp.clip(n + m, 0, len(GRID) - 1)] for m in (-1, 0, 1, 2))
    slope, next_slope = 0.5 * (there - before), 0.5 * (after - here)
    rise = there - here
    return here + u * (slope + u * (3 * rise - 2 * slope - next_slope + u * (slope + next_slope - 2 * rise)))


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
    bend = np.minimum(_BEND * alone, _MOST_BEND * width)
    inside = np.minimum(_INSIDE * alone, 0.25 * width)
    near = (best <= lower) | (best >= upper)
    center = _unbent(np.where(near, np.clip(best, lower + inside, upper - inside), best), lower, upper, bend)
    arrays = (
        jnp.asarray(a) for a in (lower, upper, bend, center, np.eye(len(best)), np.zeros((0, len(GRID), len(best))))
    )
    plain = Coordinates(priors, *arrays)
    slope = np.asarray(plain.slope())
    precision = slope[:, None] * honest * slope + np.diag(12.0 / width**2)
    scale = 1.0 / np.sqrt(np.diag(precision))
    # columns of the root have unit length in the metric of the precision
    low = np.linalg.cholesky(precision * np.outer(scale, scale))
    return dataclasses.replace(plain, root=jnp.asarray(scale[:, None] * np.linalg.inv(low).T))


def _unbent(theta: np.ndarray, lower: np.ndarray, upper: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """x at theta, by bisection: theta rises with x, and lies within the bounds."""
    low, high = lower - 40 * bend, upper + 40 * bend
    for _ in range(200):
        x = 0.5 * (low + high)
        above, beyond = (x - lower) / bend, (x - upper) / bend
        below = lower + bend * (np.logaddexp(0, above) - np.logaddexp(0, beyond)) < theta
        low, high = np.where(below, x, low), np.where(below, high, x)
    return 0.5 * (low + high)
