"""From draws of shards to draws of the whole: weighted by full matrices, then corrected by importance weights.

With C_m the covariance of the draws of shard m over z, the draws are combined as (sum C_m^-1)^-1 sum C_m^-1 z_m (Scott et al.,
Int. J. Manag. Sci. Eng. Manag. 11 (2016) 78): exact where shards are normal distributions, correlations kept. Where they
are not, the combined draws are proposals, their density that of the combined normal distribution, and are weighted by the
posterior of all data over that density, with Pareto-smoothed weights (Vehtari et al., J. Mach. Learn. Res. 25 (2024) 72).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.optimization.posterior.nuts import Draws
from homodyne.optimization.posterior.target import Whole
from homodyne.result.arviz import load_arviz

# Pareto shape above which weights are not to be trusted.
WORST_SHAPE = 0.7
COMBINERS = ("importance", "gaussian")
# Degrees of freedom of the proposals.
_DOF = 10.0


@dataclasses.dataclass(frozen=True)
class Combined:
    """Attributes:
    z: (chains, draws, f). log_density: of the whole posterior, (chains, draws).
    log_weights: of the draws, normalized, (chains, draws); zeros where they are not needed. pareto_k: of the weights.
    """

    z: np.ndarray
    log_density: np.ndarray
    log_weights: np.ndarray
    pareto_k: float


def combine(whole: Whole, shards: list[Draws], how: str, seed: int) -> Combined:
    """Consensus of the shards.

    Args:
        how: ``gaussian``, the weighted means of their draws; ``importance``, weighted draws of the whole posterior.
    """
    mean, covariance = combined_normal(shards)
    if how == "gaussian":
        z = averaged(shards, covariance)
        return Combined(z, log_densities(whole, z), np.zeros(z.shape[:2]), 0.0)
    n_chains, n_draws, n_free = shards[0].z.shape
    rng = np.random.default_rng([seed, 1])
    # tails heavier than those of the normal distribution: weights stay bounded
    unit = rng.standard_normal((n_chains, n_draws, n_free)) * np.sqrt(
        _DOF / rng.chisquare(_DOF, (n_chains, n_draws, 1))
    )
    z = mean + unit @ np.linalg.cholesky(covariance).T
    proposal = -0.5 * (_DOF + n_free) * np.log1p((unit**2).sum(-1) / _DOF)
    target = log_densities(whole, z)
    weights, shape = load_arviz().psislw(np.maximum(target - proposal, -1e300).reshape(-1))
    return Combined(z, target, np.asarray(weights).reshape(n_chains, n_draws), float(shape))


def averaged(shards: list[Draws], covariance: np.ndarray) -> np.ndarray:
    """(sum C_m^-1)^-1 sum C_m^-1 z_m, draw by draw, (chains, draws, f)."""
    total: np.ndarray | float = 0.0
    for shard in shards:
        total = total + shard.z @ np.linalg.inv(_covariance(shard))
    return np.asarray(total @ covariance)


def combined_normal(shards: list[Draws]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the product of the shards' normal distributions."""
    inverses = [np.linalg.inv(_covariance(shard)) for shard in shards]
    covariance = np.linalg.inv(np.sum(inverses, axis=0))
    weighted = sum(inverse @ shard.z.mean((0, 1)) for inverse, shard in zip(inverses, shards, strict=True))
    return covariance @ weighted, covariance


def _covariance(shard: Draws) -> np.ndarray:
    n_free = shard.z.shape[-1]
    return np.cov(shard.z.reshape(-1, n_free).T).reshape(n_free, n_free)


def log_densities(whole: Whole, z: np.ndarray) -> np.ndarray:
    """Of the whole posterior at draws (chains, draws, f); -inf where the model makes no sense."""
    flat = jnp.asarray(z.reshape(-1, z.shape[-1]))
    values = _log_densities(whole, flat)
    return np.asarray(values).reshape(z.shape[:-1])


@jax.jit
def _log_densities(whole: Whole, z: jax.Array) -> jax.Array:
    return jax.lax.map(whole.log_density, z, batch_size=64)
