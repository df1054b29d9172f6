"""sin(x)/x with value and derivative smooth through 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from homodyne.models.base import Phase

# Taylor coefficients (-1)^k / (2k+1)! in x**2. With |x| < 0.5 eight terms leave a remainder below 1e-19, and outside
# the cancellation of (cos x - sinc x)/x costs less than a digit.
_SWITCH = 0.25
_COEFFICIENTS = (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800, -1 / 1307674368000)


def sinc(phase: Phase) -> jax.Array:
    """Unnormalized sinc, ``sin(x) / x``, from x and its sine.

    The derivative with respect to ``x`` and ``sin`` that automatic differentiation finds is exact on both branches.
    """
    x2 = phase.x * phase.x
    small = x2 < _SWITCH
    series = jnp.zeros_like(x2)
    for coefficient in reversed(_COEFFICIENTS):
        series = series * x2 + coefficient
    # the division is made safe *before* it happens, or its derivative would be NaN at x = 0
    return jnp.where(small, series, phase.sin / jnp.where(small, 1.0, phase.x))
