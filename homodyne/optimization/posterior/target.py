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
    data_fields=("misfit", "metric", "coordinates", "own", "score", "fraction"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Shard:
    """What some sectors say themselves, what all others say as the fit tells it, and a fraction of the prior.

    A shard alone knows some directions hardly at all, and its posterior would reach where nothing is a normal distribution,
    although the whole posterior is one. Therefore all other sectors take part as the normal distribution of the fit, as
    in expectation propagation (Vehtari et al., J. Mach. Learn. Res. 21 (2020) 17). With d the displacement from the fit, H_m and
    g_m the shard's parts of H and of the score, the shard's parabola goes over into that of the others, and what is
    left is the normal distribution of the fit and the departure of the shard's chi2 from its parabola:

        -1/2 d V^-1 d - 1/2 (d V^-1 d) / (d H d) [chi2_m(theta) - chi2_m(theta_0) + 2 g_m d - d H_m d].

    ``consensus`` takes the others out again.

    Attributes:
        own: H_m, (f, f). score: g_m, (f,). fraction: of the prior.
    """

    misfit: Misfit
    metric: Metric
    coordinates: Coordinates
    own: jax.Array
    score: jax.Array
    fraction: jax.Array | float

    def log_density(self, z: jax.Array) -> jax.Array:
        """Over z, up to a constant."""
        d = self.coordinates.slope() * (self.coordinates.root @ z)
        theta = self.coordinates.theta(z)
        departure = self.misfit.change(theta).chi2.sum() + 2 * self.score @ d - d @ self.own @ d
        value = -0.5 * d @ self.metric.honest @ d - 0.5 * self.metric.ratio(d) * departure
        ok = self.misfit.feasible(theta) & jnp.isfinite(value)
        return jnp.where(ok, value, -jnp.inf) + self.fraction * self.coordinates.log_prior(z)


Target = Whole | Shard


def make_shards(whole: Whole, groups: list[np.ndarray]) -> list[Shard]:
    """Targets by groups of sectors; each sector has its own contrast and offset, or fixed ones."""
    own, scores = whole.misfit.hessians(), whole.misfit.scores()
    # what rounding and the last step of the fit leave of the sum of all scores is nobody's
    scores = scores - scores.mean(0)
    return [
        Shard(
            whole.misfit.of(sectors),
            whole.metric,
            whole.coordinates,
            own=jnp.asarray(own[sectors].sum(0)),
            score=jnp.asarray(scores[sectors].sum(0)),
            fraction=1.0 / len(groups),
        )
        for sectors in groups
    ]


def fit_precision(whole: Whole) -> np.ndarray:
    """Of the normal distribution of the fit, V^-1 over z, (f, f)."""
    axes = np.asarray(whole.coordinates.slope())[:, None] * np.asarray(whole.coordinates.root)
    return np.asarray(axes.T @ np.asarray(whole.metric.honest) @ axes)
