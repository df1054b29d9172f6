"""Chains and consensus on densities that are known."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.optimization.posterior.consensus import combine, combined_normal
from homodyne.optimization.posterior.nuts import Draws, draw
from homodyne.result.arviz import load_arviz


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "precision", "apart"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Normal:
    """Two normal distributions, ``apart`` from each other along the first axis; one where that is 0."""

    mean: jax.Array
    precision: jax.Array
    apart: jax.Array

    @property
    def coordinates(self):
        return SimpleNamespace(center=self.mean)

    def log_density(self, z):
        def one(sign):
            d = (z - self.mean).at[0].add(sign * self.apart)
            return -0.5 * d @ self.precision @ d

        return jnp.logaddexp(one(-0.5), one(0.5))


def rhat(x):
    return load_arviz().rhat(x)


MEAN, COVARIANCE = np.array([0.3, -1.0]), np.array([[1.0, 0.9], [0.9, 1.5]])


def normal(mean=MEAN, covariance=COVARIANCE, apart=0.0):
    return Normal(jnp.asarray(mean), jnp.asarray(np.linalg.inv(covariance)), jnp.asarray(apart))


def test_draws_have_the_mean_and_covariance_of_the_target():
    draws = draw(normal(), 2, 2000, 200, 0)
    assert draws.z.shape == (2, 2000, 2)
    flat = draws.z.reshape(-1, 2)
    np.testing.assert_allclose(flat.mean(0), MEAN, atol=0.12)
    np.testing.assert_allclose(np.cov(flat.T), COVARIANCE, atol=0.2)
    assert not draws.diverging.any()
    assert float(rhat(draws.z[..., 0])) < 1.01


def test_the_same_seed_gives_the_same_draws():
    first, again = (draw(normal(), 2, 50, 50, 7) for _ in range(2))
    np.testing.assert_array_equal(first.z, again.z)


def test_chains_in_different_modes_are_seen():
    """Two modes 40 standard deviations apart, chains that start over both of them: R-hat says so."""
    draws = draw(normal(apart=40.0), 4, 200, 100, 0, width=20.0)
    assert float(rhat(draws.z[..., 0])) > 1.1


def shard(mean, covariance, seed, n=4000):
    rng = np.random.default_rng(seed)
    z = rng.multivariate_normal(mean, covariance, size=(4, n // 4))
    flat = np.zeros(z.shape[:2])
    return Draws(z, flat, flat, flat, flat.astype(bool))


# Two sites that know different directions, and their product in closed form.
SITES = [
    (np.array([0.0, 0.0]), np.array([[1.0, 0.99], [0.99, 1.0]])),
    (np.array([0.5, -0.5]), np.array([[2.0, -1.0], [-1.0, 0.8]])),
]
PRECISION = sum(np.linalg.inv(c) for _, c in SITES)
PRODUCT = np.linalg.inv(PRECISION)
CENTER = PRODUCT @ sum(np.linalg.inv(c) @ m for m, c in SITES)
#: A fit that is wrong about both: too wide, and centered at 0, not at CENTER.
FIT = 0.8 * PRECISION


def shards(n=4000):
    """Each site with what the fit says of the other one, half of its precision."""
    out = []
    for i, (mean, covariance) in enumerate(SITES):
        site = np.linalg.inv(covariance)
        both = np.linalg.inv(site + 0.5 * FIT)
        out.append(shard(both @ site @ mean, both, i, n))
    return out


def test_consensus_keeps_correlations_and_forgets_the_fit():
    found = combined_normal(shards(), FIT)
    np.testing.assert_allclose((found[0] - CENTER) / np.sqrt(np.diag(PRODUCT)), 0.0, atol=0.1)
    np.testing.assert_allclose(found[1], PRODUCT, rtol=0.08)


@pytest.mark.parametrize("how", ["gaussian", "importance"])
def test_combined_draws_are_those_of_the_product(how):
    found = combine(normal(CENTER, PRODUCT), shards(20_000), FIT, how, 0)
    weights = np.exp(found.log_weights - found.log_weights.max()).reshape(-1)
    flat = found.z.reshape(-1, 2)
    np.testing.assert_allclose(
        (np.average(flat, axis=0, weights=weights) - CENTER) / np.sqrt(np.diag(PRODUCT)), 0.0, atol=0.08
    )
    np.testing.assert_allclose(np.cov(flat.T, aweights=weights), PRODUCT, rtol=0.08)
    assert found.pareto_k < 0.7


def test_shards_without_a_common_normal_distribution_are_refused():
    """Draws wider than what the fit says of the others alone: the sum of what they add is negative."""
    wide = [shard(np.zeros(2), 3.0 * np.linalg.inv(FIT), i) for i in range(3)]
    with pytest.raises(InputError, match="shards=3 do not combine"):
        combined_normal(wide, FIT)


def test_importance_weights_mend_shards_that_are_no_normal_distributions():
    """The consensus is off by one and a half standard deviations and too narrow; the weights lead back to the target."""
    target = normal(CENTER + 1.2 * np.sqrt(np.diag(PRODUCT)), 1.3 * PRODUCT)
    found = combine(target, shards(20_000), FIT, "importance", 0)
    weights = np.exp(found.log_weights - found.log_weights.max()).reshape(-1)
    mean = np.average(found.z.reshape(-1, 2), axis=0, weights=weights)
    np.testing.assert_allclose((mean - np.asarray(target.mean)) / np.sqrt(np.diag(PRODUCT)), 0.0, atol=0.15)


def test_weights_that_cannot_mend_say_so():
    far = normal(CENTER + 40 * np.sqrt(np.diag(PRODUCT)), 0.01 * PRODUCT)
    assert combine(far, shards(), FIT, "importance", 0).pareto_k > 0.7
