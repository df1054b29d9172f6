"""First-order steps before least squares, by any optimizer of optax."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.errors import InputError
from homodyne.optimization.search.coarse import CoarseCost
from homodyne.optimization.search.coordinates import Coordinates
from homodyne.parameters import Parameter


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """Steps of an optax optimizer on a few frames, in coordinates scaled by the bounds, before every local fit.

    Attributes:
        optimizer: name of a function of ``optax`` that makes an optimizer, "adam", say.
        arguments: its keyword arguments; ``learning_rate`` is in units of the width of the bounds.
        steps: how many.
    """

    optimizer: str = "adam"
    arguments: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"learning_rate": 0.02})
    steps: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError("optimization.optax.steps", self.steps, "must be at least 1", "leave it out")
        self.make()

    def make(self) -> Any:
        """The optimizer.

        Raises:
            InputError: optax has no optimizer of that name, or it does not take these arguments.
        """
        import optax

        known = sorted(n for n, f in vars(optax).items() if _makes_optimizer(f))
        if self.optimizer not in known:
            raise InputError(
                "optimization.optax.name",
                self.optimizer,
                "is not an optimizer of optax",
                f"choose one of {', '.join(known)}",
            )
        try:
            return getattr(optax, self.optimizer)(**self.arguments)
        except TypeError as error:
            raise InputError(
                "optimization.optax.arguments", dict(self.arguments), f"does not fit {self.optimizer}: {error}",
                f"it takes {', '.join(inspect.signature(getattr(optax, self.optimizer)).parameters)}",
            ) from error  # fmt: skip

    def run(
        self, coarse: CoarseCost, parameters: tuple[Parameter, ...], free: np.ndarray, theta: np.ndarray
    ) -> np.ndarray:
        """The best point (p,) on the way from ``theta``; parameters that are not free (p,) stay."""
        import optax

        optimizer, coordinates = optax.with_extra_args_support(self.make()), Coordinates.of(parameters)
        unit, fixed = jnp.asarray(coordinates.to_unit(theta)), jnp.asarray(~free)
        cost, scale = coarse.in_unit_box(coordinates), max(float(coarse(theta[None, :])[0]), 1e-300)

        def relative(u: jax.Array) -> jax.Array:
            return cost(u) / scale

        # optimizers with a line search evaluate the cost themselves
        update = jax.jit(lambda g, s, u, v: optimizer.update(g, s, u, value=v, grad=g, value_fn=relative))
        slope, state, path = jax.jit(jax.value_and_grad(relative)), optimizer.init(unit), [theta]
        for _ in range(self.steps):
            value, gradient = slope(unit)
            gradient = jnp.where(fixed | ~jnp.isfinite(gradient), 0.0, gradient)
            updates, state = update(gradient, state, unit, value)
            unit = jnp.clip(jnp.where(fixed, unit, optax.apply_updates(unit, updates)), 0.0, 1.0)
            path.append(np.where(free, np.asarray(coordinates.from_unit(unit)), theta))
        points = np.array(path)
        return points[np.argmin(coarse(points))]


def _makes_optimizer(function: Any) -> bool:
    """Functions whose parameters begin with a learning rate; schedules and wrappers do not."""
    if not inspect.isfunction(function):
        return False
    return next(iter(inspect.signature(function).parameters), "") == "learning_rate"
