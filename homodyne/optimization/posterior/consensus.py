"""From draws of shards to draws of the whole: one normal distribution by full matrices, then corrected by importance weights.

Every shard holds all others as the normal distribution of the fit, precision B over z and mean 0 (see ``target.Shard``). With C_m and mu_m
the covariance and mean of its draws, C_m^-1 - B is what its own data add to that, and

    C^-1 = B + sum (C_m^-1 - B),     mu = C sum C_m^-1 mu_m

are those of the whole: exact where shards are normal distributions, correlations kept. Where they are not, this normal distribution
proposes draws, which are weighted by the posterior of all data over their density, with Pareto-smoothed weights (Vehtari
et al., J. Mach. Learn. Res. 25 (2024) 72).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.errors import InputError
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


def combine(whole: Whole, shards: list[Draws], fit_precision: np.ndarray, how: str, seed: int) -> Combined:
    """Consensus of the shards.

    Args:
        fit_precision: B, (f, f). how: ``gaussian``, draws of the combined normal distribution; ``importance``, weighted draws
            of the whole posterior.
    """
    mean, covariance = combined_normal(shards, fit_precision)
    n_chains, n_draws, n_free = shards[0].z.shape
    rng = np.random.default_rng([seed, 1])
    unit = rng.standard_normal((n_chains, n_draws, n_free))
    low = np.linalg.cholesky(covariance)
    if how == "gaussian":
        z = mean + unit @ low.T
        return Combined(z, log_densities(whole, z), np.zeros(z.shape[:2]), 0.0)
    # tails heavier than those of the normal distribution: weights stay bounded
    unit = unit * np.sqrt(_DOF / rng.chisquare(_DOF, (n_chains, n_draws, 1)))
    z = mean + unit @ low.T
    proposal = -0.5 * (_DOF + n_free) * np.log1p((unit**2).sum(-1) / _DOF)
    target = log_densities(whole, z)
    weights, shape = load_arviz().psislw(np.maximum(target - proposal, -1e300).reshape(-1))
    return Combined(z, target, np.asarray(weights).reshape(n_chains, n_draws), float(shape))


def combined_normal(shards: list[Draws], fit_precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (f,) and covariance (f, f) of the whole.

    Raises:
        InputError: what the shards add to each other is no normal distribution.
    """
    inverses = [np.linalg.inv(_covariance(shard)) for shard in shards]
    precision = np.sum(inverses, axis=0) - (len(shards) - 1) * fit_precision
    if np.linalg.eigvalsh(precision).min() <= 0:
        raise InputError(
            "shards", len(shards), "do not combine: together they are wider than any normal distribution",
            "use method='nuts', or fewer shards",
        )  # fmt: skip
    covariance = np.linalg.inv(precision)
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
