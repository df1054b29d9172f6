"""Rates and their time integrals on the frame grid."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def power_law(theta: jax.Array, t: jax.Array, dt: jax.Array | float) -> jax.Array:
    """Rate ``a * t**b + c`` on the frames.

    ``t**b`` with b < 0 is singular at t = 0, so the law is evaluated at ``max(t, dt/2)``: the first frame stands for
    its own exposure.

    Args:
        theta: (a, b, c); a and c carry the unit of the rate, with t in seconds.
        t: frame times [s], (n_t,).
        dt: frame spacing [s].
    """
    a, b, c = theta
    return a * jnp.maximum(t, dt / 2) ** b + c


def cumulative_trapezoid(rate: jax.Array, dt: jax.Array | float) -> jax.Array:
    """Integral of ``rate`` from the first frame to every frame, (n_t,), trapezoid rule, 0 at the first frame."""
    steps = 0.5 * dt * (rate[1:] + rate[:-1])
    return jnp.concatenate([jnp.zeros_like(rate[:1]), jnp.cumsum(steps)])
