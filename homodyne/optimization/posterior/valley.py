"""Lines along the curved valleys of a posterior, which coordinates then follow.

Where data know parameters only in combination, the posterior is long and thin, and it bends: along J(t) = D0 t**alpha + D_offset the
curve J stays, while D0, alpha and D_offset change together and not in proportion. Whitened coordinates know only the
direction of the valley at the fit. Its line is found point by point: coordinate a is held at one value after another, and
the coordinates after it are solved for zero displacement in the space of the data.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.optimization.posterior.coordinates import GRID, Coordinates
from homodyne.optimization.posterior.likelihood import Misfit
from homodyne.optimization.posterior.metric import inverse_on_range

# Valleys that bend by less than this at one standard deviation are straight, and lines at most.
_STRAIGHT, _MOST = 0.1, 3
# Newton's steps for a point, its largest remaining displacement, and the largest step that is believed.
_STEPS, _LEFT, _FARTHEST = 12, 0.02, 20.0


def straightened(misfit: Misfit, plain: Coordinates) -> Coordinates:
    """Coordinates along the valleys of a posterior.

    Args:
        misfit: of all data, or of enough to tell where the valleys run.
        plain: straight ones, which are turned so that those which bend the others most come first.
    """
    unit = jnp.linalg.inv(plain.slope()[:, None] * plain.root) @ inverse_on_range(misfit.hessian())

    curvature = np.asarray(_curvature(misfit, plain, unit))
    strength, turn = np.linalg.eigh(np.einsum("ijk,ijl->kl", curvature, curvature))
    turn = turn[:, ::-1]
    n_lines = min(_MOST, len(turn) - 1, int(np.sum(0.5 * np.sqrt(np.maximum(strength, 0.0)) > _STRAIGHT)))
    turned = dataclasses.replace(plain, root=plain.root @ turn)

    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _along(misfit, plain, unit, jnp.asarray(turn), x)

    lines = [_line(both, a, len(turn)) for a in range(n_lines)]
    return dataclasses.replace(turned, lines=jnp.asarray(np.array(lines).reshape(n_lines, len(GRID), len(turn))))


def _displacement(misfit: Misfit, plain: Coordinates, unit: jax.Array, z: jax.Array) -> jax.Array:
    return unit @ misfit.projection(misfit.change(plain.theta(z)))


@jax.jit
def _curvature(misfit: Misfit, plain: Coordinates, unit: jax.Array) -> jax.Array:
    """Second derivatives of the displacement at the fit, (f, f, f)."""
    zero = jnp.zeros(len(plain.center))
    return jax.jacfwd(jax.jacfwd(lambda z: _displacement(misfit, plain, unit, z)))(zero)


@jax.jit
def _along(misfit: Misfit, plain: Coordinates, unit: jax.Array, turn: jax.Array, x: jax.Array) -> Any:
    """Displacement in turned coordinates, which have no lines yet, and its derivatives."""

    def along(x: jax.Array) -> jax.Array:
        return turn.T @ _displacement(misfit, plain, unit, turn @ x)

    return along(x), jax.jacfwd(along)(x)


def _line(both, a: int, n: int) -> np.ndarray:
    """l_a on the grid, (grid, n), zero up to coordinate a; constant from where no point of the valley is found."""
    line, middle = np.zeros((len(GRID), n)), len(GRID) // 2
    for sign in (1, -1):
        x, before = np.zeros(n), np.zeros(n)
        for m in range(1, middle + 1):
            place = middle + sign * m
            guess = 2 * x - before  # straight on
            guess[a] = GRID[place]
            found = _solved(both, guess, a)
            if found is None:
                ends = slice(place, None) if sign > 0 else slice(None, place + 1)
                line[ends] = line[place - sign]
                break
            before, x = x, found
            line[place, a + 1 :] = found[a + 1 :]
    return line


def _solved(both, x: np.ndarray, a: int) -> np.ndarray | None:
    """Coordinates after a without displacement, by Newton's method; None where it fails."""
    x, after = x.copy(), slice(a + 1, None)
    for _ in range(_STEPS):
        value, slope = (np.asarray(part) for part in both(jnp.asarray(x)))
        if not (np.all(np.isfinite(value)) and np.all(np.isfinite(slope))):
            return None
        if np.abs(value[after]).max() < _LEFT:
            return x
        step = -np.linalg.lstsq(slope[after, after], value[after], rcond=None)[0]
        if np.abs(step).max() > _FARTHEST:
            return None
        x[after] += step
    return None
