"""Static sample: anomalous diffusion with a time-dependent transport coefficient."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from homodyne.models.base import Channel, Geometry, Model, Rate
from homodyne.models.rates import cumulative_trapezoid, power_law
from homodyne.parameters import Parameter

DIFFUSION = (
    Parameter("D0", "angstrom^2 s^-1", 1e4, 1.0, 1e6, 1e4, "transport coefficient at t = 1 s", (10.0, 1e6)),
    Parameter("alpha", "", -0.5, -2.0, 2.0, 1.0, "exponent of the transport coefficient", (-1.6, 0.6)),
    Parameter("D_offset", "angstrom^2 s^-1", 0.0, -1e5, 1e5, 1e3, "time-independent transport coefficient"),
)
_NAMES = tuple(p.name for p in DIFFUSION)


def transport(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    """J(t) = D0 t**alpha + D_offset [angstrom^2/s]."""
    return power_law(theta, t, geometry.dt)


def decay_exponent(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    """q**2 A(t), A(t) = integral of J from 0 to t; dimensionless."""
    return geometry.q**2 * cumulative_trapezoid(transport(theta, t, geometry), geometry.dt)


TRANSPORT_RATE = Rate("J", "angstrom^2 s^-1", _NAMES, transport, True, "A", "angstrom^2")
DECAY_CHANNEL = Channel("decay", _NAMES, decay_exponent, exponential=True)


def _kernel(decay: jax.Array) -> jax.Array:
    return jnp.exp(-decay)


def static() -> Model:
    """s = exp(-q**2 (A(t2) - A(t1))): squared field correlation of Brownian displacements, Siegert relation."""
    return Model("static", DIFFUSION, (DECAY_CHANNEL,), _kernel, (TRANSPORT_RATE,))
