"""Stretched or compressed exponential (Kohlrausch-Williams-Watts) with a relaxation rate that may age."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from homodyne.models.base import Channel, Geometry, Model, Rate
from homodyne.models.rates import cumulative_trapezoid, power_law
from homodyne.parameters import Parameter

RELAXATION = (
    Parameter("Gamma_0", "s^-1", 0.1, 1e-7, 1e6, 0.1, "relaxation rate at t = 1 s", (1e-4, 1e2)),
    Parameter("aging", "", 0.0, -3.0, 3.0, 1.0, "exponent of the rate's time dependence", (-1.5, 0.5)),
    Parameter("Gamma_offset", "s^-1", 0.0, -1e4, 1e4, 0.01, "time-independent relaxation rate"),
)
KWW_EXPONENT = Parameter("kww_exponent", "", 1.0, 0.2, 3.0, 1.0, "k: below 1 stretched, above compressed", (0.4, 2.0))
_NAMES = tuple(p.name for p in RELAXATION)


def relaxation_rate(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    """Gamma(t) = Gamma_0 t**aging + Gamma_offset [1/s]."""
    return power_law(theta, t, geometry.dt)


def relaxation(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    """Integral of Gamma from the first frame to t; dimensionless."""
    return cumulative_trapezoid(relaxation_rate(theta, t, geometry), geometry.dt)


def _exponent(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    return jnp.full_like(t, theta[0])


def _kernel(change: jax.Array, k: jax.Array) -> jax.Array:
    later = change > 0  # 0**k has no derivative in k
    return jnp.exp(-2.0 * jnp.where(later, jnp.where(later, change, 1.0) ** k, 0.0))


def kww() -> Model:
    """s = exp(-2 [int Gamma dt']**k), the integral from t1 to t2: g1 = exp(-[...]**k), Siegert relation.

    Phenomenological (Williams and Watts, Trans. Faraday Soc. 66, 80 (1970)): how Gamma and k depend on q is a result
    of fits at several q, not an assumption. For k = 1 it is ``static`` with J = 2 Gamma / q**2. No stationary light has
    this g1 with k > 2 (Bochner); see docs/physics.md.
    """
    channels = (
        Channel("relaxation", _NAMES, relaxation),
        Channel("exponent", (KWW_EXPONENT.name,), _exponent, pairwise_constant=True),
    )
    rate = Rate("Gamma", "s^-1", _NAMES, relaxation_rate, positive=True, integral="relaxation", integral_unit="1")
    return Model("kww", (*RELAXATION, KWW_EXPONENT), channels, _kernel, (rate,), needs_one_q=True)
