"""s = exp(-2 [int Gamma dt]**k) with a rate that may age: the form in which the authors of the data fit them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from homodyne.models import Channel, Model, Rate
from homodyne.models.rates import cumulative_trapezoid
from homodyne.parameters import Parameter

PARAMETERS = (
    Parameter("rate", "s^-1", 0.02, 1e-5, 1.0, 0.01, "decay rate at t = 1 s", (1e-4, 0.1)),
    Parameter("aging", "", 0.0, -3.0, 3.0, 1.0, "exponent of the rate's dependence on time"),
    Parameter("exponent", "", 1.0, 0.2, 3.0, 1.0, "of the decay: 1 exponential, 2 Gaussian, below 1 stretched"),
)


def decay_rate(theta: jax.Array, t: jax.Array, geometry) -> jax.Array:
    """Gamma(t) = rate t**aging [1/s]."""
    return theta[0] * jnp.maximum(t, geometry.dt / 2) ** theta[1]


def decay() -> Model:
    """The model; docs/own_model.md explains how it is written."""
    relaxation = Channel(
        "relaxation", ("rate", "aging"), lambda theta, t, g: cumulative_trapezoid(decay_rate(theta, t, g), g.dt)
    )
    exponent = Channel(
        "exponent", ("exponent",), lambda theta, t, g: jnp.full_like(t, theta[0]), pairwise_constant=True
    )
    return Model(
        "decay",
        PARAMETERS,
        (relaxation, exponent),
        lambda change, k: jnp.exp(-2.0 * jnp.maximum(change, 1e-30) ** k),  # 0**k has no derivative in k
        (Rate("Gamma", "s^-1", ("rate", "aging"), decay_rate, positive=True),),
    )
