"""sin(x)/x with value and derivative smooth through 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from homodyne.models.base import Phase

# Below |x| = 0.5 Taylor series replace sin(x)/x and its derivative (cos x - sinc x)/x, which cancel there; with these
# many terms their remainders are below 1e-17, and outside the cancellation costs less than a digit.
_SWITCH = 0.25
_VALUE = (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800, -1 / 1307674368000)
_SLOPE = tuple(2 * k * c for k, c in enumerate(_VALUE))[1:]  # derivative / x, in x**2


def sinc(phase: Phase) -> jax.Array:
    """Unnormalized sinc, ``sin(x) / x``, from x and its sine and cosine."""
    return _sinc(phase.x, phase.sin, phase.cos)


@jax.custom_jvp
def _sinc(x: jax.Array, sin: jax.Array, cos: jax.Array) -> jax.Array:
    return _value_and_slope(x, sin, cos)[0]


@_sinc.defjvp
def _sinc_jvp(primals, tangents):
    """The whole derivative belongs to x: sine and cosine are functions of it, so their own tangents are not used.

    One division for value and derivative together, instead of the three that differentiating sin / x would take.
    """
    value, slope = _value_and_slope(*primals)
    return value, slope * tangents[0]


def _value_and_slope(x: jax.Array, sin: jax.Array, cos: jax.Array) -> tuple[jax.Array, jax.Array]:
    x2 = x * x
    small = x2 < _SWITCH
    inverse = 1.0 / jnp.where(small, 1.0, x)
    value = jnp.where(small, _series(_VALUE, x2), sin * inverse)
    return value, jnp.where(small, x * _series(_SLOPE, x2), (cos - value) * inverse)


def _series(coefficients: tuple[float, ...], x2: jax.Array) -> jax.Array:
    total = jnp.full_like(x2, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x2 + coefficient
    return total
