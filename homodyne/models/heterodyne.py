"""Heterodyne scattering: a sample that diffuses and moves, mixed with a reference that stands still."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from homodyne.models.base import Channel, Geometry, Model, Phase, Rate
from homodyne.models.rates import cumulative_trapezoid, power_law
from homodyne.models.static import DIFFUSION, TRANSPORT_RATE, decay_exponent
from homodyne.parameters import Parameter

VELOCITY = (
    Parameter("v0", "angstrom s^-1", 100.0, 1e-4, 1e7, 100.0, "velocity at t = 1 s", (1.0, 1e4)),
    Parameter("beta", "", 0.0, -2.0, 2.0, 1.0, "exponent of the velocity", (-1.0, 1.0)),
    Parameter("v_offset", "angstrom s^-1", 0.0, -1e6, 1e6, 100.0, "time-independent velocity"),
)
# One half turn is searched, since s does not know the sign of v; bounds beyond it, so that a direction near
# +-90 degrees is not cut in two.
PHI0 = Parameter("phi0", "degree", 0.0, -100.0, 100.0, 10.0, "azimuth of the velocity", (-90.0, 90.0))
# At 1 nothing of the sample is left to see. From 0, so that the search is even: on a log scale small ones would crowd.
FRACTION = Parameter(
    "reference_fraction", "", 0.3, 0.0, 0.99, 0.1, "intensity of the static reference / all intensity", (0.0, 0.9)
)
_DIFFUSION_NAMES = tuple(p.name for p in DIFFUSION)
_VELOCITY_NAMES = tuple(p.name for p in VELOCITY)


def velocity(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    """v(t) = v0 t**beta + v_offset [angstrom/s]."""
    return power_law(theta, t, geometry.dt)


def doppler_phase(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    """X(t) = q cos(phi0 - phi) times the path from the first frame to t [rad]; theta = (VELOCITY..., phi0)."""
    path = cumulative_trapezoid(velocity(theta[:3], t, geometry), geometry.dt)
    return geometry.q * jnp.cos(jnp.deg2rad(theta[3] - geometry.phi)) * path


def _fraction(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    return jnp.full_like(t, theta[0])


def _kernel(decay: jax.Array, doppler: Phase, f: jax.Array) -> jax.Array:
    sample = (1.0 - f) * jnp.exp(-0.5 * decay)
    return f * f + sample * (sample + 2.0 * f * doppler.cos)


def _field(decay: jax.Array, doppler: Phase, f: jax.Array) -> jax.Array:
    return f + (1.0 - f) * jnp.exp(-0.5 * decay) * jax.lax.complex(doppler.cos, doppler.sin)


def heterodyne() -> Model:
    """s = f**2 + (1-f)**2 exp(-q**2 dA) + 2 f (1-f) exp(-q**2 dA / 2) cos X,  X = q cos(phi0 - phi) int v dt'.

    The squared modulus of g1 = f + (1-f) exp(-q**2 dA / 2 + i X): two independent components with Gaussian light, the
    static one with the fraction f of the intensity; dA as in ``static``. See docs/physics.md for the derivation, and
    for what of it the data cannot tell.
    """
    channels = (
        Channel("decay", _DIFFUSION_NAMES, decay_exponent),
        Channel("doppler", (*_VELOCITY_NAMES, PHI0.name), doppler_phase, phase=True),
        Channel("fraction", (FRACTION.name,), _fraction, pairwise_constant=True),
    )
    rates = (
        TRANSPORT_RATE,
        Rate("v", "angstrom s^-1", _VELOCITY_NAMES, velocity, integral="path", integral_unit="angstrom"),
    )
    parameters = (*DIFFUSION, *VELOCITY, PHI0, FRACTION)
    return Model("heterodyne", parameters, channels, _kernel, rates, field=_field)
