"""What is known about parameters before the data: a distribution within the bounds of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from homodyne.errors import InputError
from homodyne.parameters import Parameter, check_known

KINDS = ("uniform", "log_uniform", "normal")


@dataclasses.dataclass(frozen=True)
class Prior:
    """Density of one parameter between its bounds.

    Attributes:
        kind: ``uniform``; ``log_uniform``, 1 / value, for bounds above zero; ``normal``, cut off at the bounds.
        mean, sd: of the normal one, in the parameter's unit.
    """

    kind: str = "uniform"
    mean: float = math.nan
    sd: float = math.nan

    def log_density(self, value: jax.Array) -> jax.Array:
        """Logarithm of the density, up to a constant."""
        if self.kind == "log_uniform":
            return -jnp.log(value)
        if self.kind == "normal":
            return -0.5 * ((value - self.mean) / self.sd) ** 2
        return jnp.zeros_like(value)

    def text(self, parameter: Parameter) -> str:
        """For tables: ``uniform in [100, 1e+05]``."""
        of = "" if self.kind != "normal" else f"({self.mean:g}, {self.sd:g})"
        return f"{self.kind}{of} in [{parameter.lower:g}, {parameter.upper:g}]"


def make_priors(
    given: Mapping[str, Prior | Mapping[str, Any]] | None, parameters: Sequence[Parameter]
) -> tuple[Prior, ...]:
    """A prior for every parameter, uniform where none is given.

    Raises:
        InputError: unknown parameter or kind, a normal one without mean and positive sd, bounds that do not allow the kind.
    """
    chosen = dict(given or {})
    check_known(chosen, parameters, "priors")
    return tuple(_checked(p, chosen.get(p.name, Prior())) for p in parameters)


def _checked(parameter: Parameter, given: Prior | Mapping[str, Any]) -> Prior:
    field = f"priors[{parameter.name!r}]"
    if not isinstance(given, Prior):
        unknown = set(given) - {"kind", "mean", "sd"}
        if unknown:
            raise InputError(field, dict(given), f"has the unknown key {sorted(unknown)[0]!r}", "use kind, mean, sd")
        given = Prior(**given)
    if given.kind not in KINDS:
        raise InputError(field, given.kind, "is an unknown kind", f"choose one of {', '.join(KINDS)}")
    if given.kind == "log_uniform" and parameter.lower <= 0:
        raise InputError(
            field, given.kind, f"needs a lower bound above zero, it is {parameter.lower:g}",
            f"raise the lower bound of {parameter.name}, or use uniform",
        )  # fmt: skip
    if given.kind != "normal":
        if not (math.isnan(given.mean) and math.isnan(given.sd)):
            raise InputError(
                field, given.kind, "has neither mean nor sd, and one was given", "leave it out, or use kind='normal'"
            )
        return given
    if not (math.isfinite(given.mean) and math.isfinite(given.sd) and given.sd > 0):
        raise InputError(
            field, (given.mean, given.sd), "needs a mean and a positive sd", "give both in the parameter's unit"
        )
    return given
