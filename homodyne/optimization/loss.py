"""Robust losses: how much a pair far from the model counts.

With z = (c2 - model) / sigma and c the scale, the objective is half the sum of c**2 rho((z / c)**2), the one that
``scipy.optimize.least_squares`` minimizes with ``f_scale=c``. With u = (z / c)**2:

    linear    rho = u                          every square counts: least squares
    soft_l1   rho = 2 (sqrt(1 + u) - 1)        a smooth Huber loss
    huber     rho = u for u <= 1, else 2 sqrt(u) - 1
    cauchy    rho = log(1 + u)                 far pairs lose all influence; the cost has more than one minimum

psi = z rho'(u) is the influence of a pair, and its derivative psi' = rho' + 2 u rho'' the curvature it adds (P. J. Huber,
E. M. Ronchetti, *Robust Statistics*, 2009, ch. 3 and 7).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

LOSSES = ("linear", "soft_l1", "huber", "cauchy")

# Least curvature of a pair relative to rho'. Without it a pair on the flat part of a loss would carry a gradient and no
# curvature, and the sums of its row could not be written as squares. Changes the Hessian by less than one percent.
_LEAST_CURVATURE = 0.01

# What a pass sums beside the gram matrix, in the order of the rows of ``Loss.terms``.
TERMS = ("cost", "psi2", "curvature", "core", "aside", "squares")


@dataclasses.dataclass(frozen=True)
class Loss:
    """One of ``LOSSES`` but linear, which is None wherever a loss may be given: it needs nothing of this.

    Attributes:
        name: soft_l1, huber or cauchy. scale: c, in units of sigma.
    """

    name: str
    scale: float

    def derivatives(self, u: jax.Array | np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
        """rho(u), rho'(u), and the curvature psi' = rho' + 2 u rho'', for u >= 0 of any shape."""
        u = jnp.asarray(u)
        if self.name == "soft_l1":
            root = jnp.sqrt(1.0 + u)
            return 2.0 * u / (1.0 + root), 1.0 / root, 1.0 / (root * (1.0 + u))
        if self.name == "huber":
            inside, root = u <= 1.0, jnp.sqrt(jnp.maximum(u, 1.0))
            return jnp.where(inside, u, 2.0 * root - 1.0), 1.0 / root, jnp.where(inside, 1.0, 0.0)
        return jnp.log1p(u), 1.0 / (1.0 + u), (1.0 - u) / (1.0 + u) ** 2

    def weights(self, z: jax.Array | np.ndarray) -> tuple[jax.Array, jax.Array]:
        """rho' and the curvature that the fit uses, psi' but at least a hundredth of rho'."""
        _, slope, curvature = self.derivatives((z / self.scale) ** 2)
        return slope, jnp.maximum(curvature, _LEAST_CURVATURE * slope)

    def rows(self, z: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Factors of the rows of X (see ``moments``) but for the last column, of that one, and ``terms`` where valid.

        With h the curvature the columns are multiplied by sqrt(h) and r by rho' / sqrt(h): products of two columns are
        then those of the Hessian, products with r those of the gradient.
        """
        slope, curvature = self.weights(z)
        column = jnp.sqrt(curvature)
        return column, slope / column, jnp.where(valid, self.terms(z), 0.0)

    def terms(self, z: jax.Array | np.ndarray) -> jax.Array:
        """Of every pair, along a new first axis as ``TERMS``: what is summed beside the gram matrix.

        cost: c**2 rho. psi2: psi**2. curvature: as ``weights`` has it. core: z**2 where the pair keeps half its
        influence, rho' >= 1/2. aside: 1 where it does not. squares: z**2.
        """
        rho, slope, curvature = self.derivatives((z / self.scale) ** 2)
        aside = jnp.abs(z) > self.limit
        square = z * z
        return jnp.stack(
            [
                self.scale**2 * rho,
                slope**2 * square,
                jnp.maximum(curvature, _LEAST_CURVATURE * slope),
                jnp.where(aside, 0.0, square),
                aside.astype(square.dtype),
                square,
            ]
        )

    @property
    def limit(self) -> float:
        """|z| beyond which rho' < 1/2: such pairs are called set aside."""
        return self.scale * {"soft_l1": 3.0**0.5, "huber": 2.0, "cauchy": 1.0}[self.name]


def make_loss(name: str, scale: float) -> Loss | None:
    """The loss of that name, one of ``LOSSES``; None for linear."""
    return None if name == "linear" else Loss(name, float(scale))
