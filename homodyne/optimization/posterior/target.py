"""What is sampled: log densities over z, of all data or of one shard."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.optimization.posterior.coordinates import Coordinates
from homodyne.optimization.posterior.likelihood import Misfit, log_likelihood
from homodyne.optimization.posterior.metric import Metric


@partial(jax.tree_util.register_dataclass, data_fields=("misfit", "metric", "coordinates"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Whole:
    """The posterior of all data."""

    misfit: Misfit
    metric: Metric
    coordinates: Coordinates

    def log_density(self, z: jax.Array) -> jax.Array:
        """log likelihood + log prior over z, up to a constant."""
        value = log_likelihood(self.misfit, self.metric, self.coordinates.theta(z))
        return value + self.coordinates.log_prior(z)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("misfit", "metric", "coordinates", "information", "own", "score", "calibrated", "fraction"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of the posterior that some sectors make, with a fraction of the prior; all parts add up to the whole.

    With d the displacement from the fit, H_m and g_m the shard's part of H and its score, the shard says

        g*_m d - 1/2 d L_m d - 1/2 (d V^-1 d) / (d H d) [chi2_m(theta) - chi2_m(theta_0) + 2 g_m d - d H_m d],

    L_m = C^T H_m C with C^T H C = V^-1, and g*_m = V^-1 H^-1 g_m: a normal distribution with its honest share of the
    information, and the departure of chi2 from a parabola.

    Attributes:
        information: L_m. own: H_m, (f, f) each. score: g_m. calibrated: g*_m, (f,) each. fraction: of the prior.
    """

    misfit: Misfit
    metric: Metric
    coordinates: Coordinates
    information: jax.Array
    own: jax.Array
    score: jax.Array
    calibrated: jax.Array
    fraction: jax.Array | float

    def log_density(self, z: jax.Array) -> jax.Array:
        """Of the shard's part of the posterior over z, up to a constant."""
        d = self.coordinates.slope() * (self.coordinates.root @ z)
        theta = self.coordinates.theta(z)
        chi2 = self.misfit.change(theta).chi2.sum()
        beyond = chi2 + 2 * self.score @ d - d @ self.own @ d
        value = self.calibrated @ d - 0.5 * d @ self.information @ d - 0.5 * self.metric.ratio(d) * beyond
        ok = self.misfit.feasible(theta) & jnp.isfinite(value)
        return jnp.where(ok, value, -jnp.inf) + self.fraction * self.coordinates.log_prior(z)


Target = Whole | Shard


def make_shards(whole: Whole, groups: list[np.ndarray]) -> list[Shard]:
    """The parts of the posterior by groups of sectors; each sector has its own contrast and offset, or fixed ones."""
    own, scores = whole.misfit.hessians(), whole.misfit.scores()
    # what rounding and the last step of the fit leave of the sum of all scores is nobody's
    scores = scores - scores.mean(0)
    metric = whole.metric
    stretch, honest = np.asarray(metric.stretch), np.asarray(metric.honest)
    out = []
    for sectors in groups:
        h, g = own[sectors].sum(0), scores[sectors].sum(0)
        out.append(
            Shard(
                whole.misfit.of(sectors),
                metric,
                whole.coordinates,
                information=jnp.asarray(stretch.T @ h @ stretch),
                own=jnp.asarray(h),
                score=jnp.asarray(g),
                calibrated=jnp.asarray(honest @ np.asarray(metric.inverse) @ g),
                fraction=1.0 / len(groups),
            )
        )
    return out
