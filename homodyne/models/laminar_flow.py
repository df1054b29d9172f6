"""Laminar flow between rotor and stator: diffusion and a gap average over the velocity profile."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from homodyne.errors import InputError
from homodyne.models.base import Channel, Geometry, Model, Phase, Rate
from homodyne.models.rates import cumulative_trapezoid, power_law
from homodyne.models.sinc import sinc
from homodyne.models.static import DECAY_CHANNEL, DIFFUSION, TRANSPORT_RATE
from homodyne.parameters import Parameter

SHEAR = (
    Parameter("gamma_dot_0", "s^-1", 1e-3, 1e-7, 10.0, 1e-3, "shear rate at t = 1 s", (1e-5, 1.0)),
    Parameter("beta", "", 0.0, -2.0, 2.0, 1.0, "exponent of the shear rate", (-1.0, 1.0)),
    Parameter("gamma_dot_offset", "s^-1", 0.0, -1.0, 1.0, 1e-3, "time-independent shear rate"),
)
PHI0 = Parameter("phi0", "degree", 0.0, -90.0, 90.0, 10.0, "azimuth of the flow direction", (-90.0, 90.0))
_RATE_NAMES = tuple(p.name for p in SHEAR)
CONVENTIONS = ("physical", "homodyne-2")


def shear_rate(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    """gamma_dot(t) = gamma_dot_0 t**beta + gamma_dot_offset [1/s]."""
    return power_law(theta, t, geometry.dt)


def shear_phase(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    """X(t) = (q gap / 2) cos(phi0 - phi) G(t) [rad], G(t) = accumulated strain; theta = (SHEAR..., phi0)."""
    strain = cumulative_trapezoid(shear_rate(theta[:3], t, geometry), geometry.dt)
    return 0.5 * geometry.q * geometry.gap * jnp.cos(jnp.deg2rad(theta[3] - geometry.phi)) * strain


def _shear_phase_homodyne2(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    return shear_phase(theta, t, geometry) / jnp.pi


def _kernel(decay: jax.Array, shear: Phase) -> jax.Array:
    return jnp.exp(-decay) * sinc(shear) ** 2


def _field(decay: jax.Array, shear: Phase) -> jax.Array:
    return jnp.exp(-0.5 * decay) * sinc(shear)


def _kernel_homodyne2(decay: jax.Array, shear: Phase) -> jax.Array:
    return jnp.exp(-decay) * sinc(shear) ** 4


def laminar_flow(convention: str = "physical") -> Model:
    """s = exp(-q**2 dA) sinc(X)**2, X = (q gap / 2) cos(phi0 - phi) dG.

    The gap average of exp(i q cos(phi0 - phi) dG x) over 0 <= x <= gap is sinc(X) up to a phase; the Siegert relation
    squares it. ``convention="homodyne-2"`` gives the expression homodyne 2.x evaluates, sinc(X / pi)**4, for
    comparison with numbers obtained there; see docs/physics.md for the conversion.

    Raises:
        InputError: unknown convention.
    """
    if convention not in CONVENTIONS:
        raise InputError("model.convention", convention, "is unknown", f"choose one of {', '.join(CONVENTIONS)}")
    physical = convention == "physical"
    shear = Channel("shear", (*_RATE_NAMES, "phi0"), shear_phase if physical else _shear_phase_homodyne2, phase=True)
    rates = (TRANSPORT_RATE, Rate("gamma_dot", "s^-1", _RATE_NAMES, shear_rate, integral="G", integral_unit="1"))
    kernel = _kernel if physical else _kernel_homodyne2
    return Model(
        "laminar_flow",
        (*DIFFUSION, *SHEAR, PHI0),
        (DECAY_CHANNEL, shear),
        kernel,
        rates,
        needs_gap=True,
        convention=convention,
        field=_field if physical else None,
    )
