"""Physical parameters: name, unit, bounds and the map between named values and vectors."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from homodyne.errors import InputError


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One physical parameter of a model.

    Attributes:
        name: the name used in papers and in every interface (``D0``).
        unit: unit as text (``angstrom^2 s^-1``); empty for dimensionless.
        start: default starting value, used only where the data cannot suggest one.
        lower, upper: default bounds, in ``unit``.
        scale: typical magnitude; the optimizer works with ``value / scale``.
        description: one line for tables and docs.
        search: range in which a start is sought when the user gives none, on a log scale if it is positive; None
            takes ``start``.
    """

    name: str
    unit: str
    start: float
    lower: float
    upper: float
    scale: float
    description: str = ""
    search: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lower) and math.isfinite(self.upper) and self.lower < self.upper):
            raise InputError(
                f"bounds['{self.name}']",
                (self.lower, self.upper),
                "needs finite lower < upper",
                "swap or widen the pair",
            )
        if not self.lower <= self.start <= self.upper:
            raise InputError(
                f"start['{self.name}']",
                self.start,
                f"lies outside the bounds [{self.lower:g}, {self.upper:g}]",
                f"choose a start inside them or widen bounds['{self.name}']",
            )


def names(parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """Parameter names in model order."""
    return tuple(p.name for p in parameters)


def check_known(given: Mapping[str, object], parameters: Sequence[Parameter], field: str) -> None:
    """Raise InputError if ``given`` holds a name that is not a parameter of the model."""
    known = names(parameters)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(
                f"{field}[{name!r}]",
                given[name],
                "is not a parameter of this model",
                hint + f"known: {', '.join(known)}",
            )


def with_bounds(parameters: Sequence[Parameter], bounds: Mapping[str, Sequence[float]]) -> tuple[Parameter, ...]:
    """Replace the default bounds by the user's ``{name: (lower, upper)}``; defaults starts are clipped into them.

    Raises:
        InputError: unknown name, not a pair, non-finite or lower >= upper.
    """
    check_known(bounds, parameters, "bounds")
    out = []
    for p in parameters:
        if p.name not in bounds:
            out.append(p)
            continue
        pair = bounds[p.name]
        if len(pair) != 2 or not all(math.isfinite(float(b)) for b in pair) or not float(pair[0]) < float(pair[1]):
            raise InputError(
                f"bounds[{p.name!r}]",
                tuple(pair),
                "needs two finite numbers with lower < upper",
                "swap or widen the pair",
            )
        lower, upper = float(pair[0]), float(pair[1])
        out.append(dataclasses.replace(p, lower=lower, upper=upper, start=min(max(p.start, lower), upper)))
    return tuple(out)


def check_values(values: Mapping[str, float], parameters: Sequence[Parameter], field: str) -> dict[str, float]:
    """Return ``values`` as floats after checking that each is known, finite and inside its bounds.

    Raises:
        InputError: unknown name, NaN or infinite value, value outside the bounds.
    """
    check_known(values, parameters, field)
    by_name = {p.name: p for p in parameters}
    out: dict[str, float] = {}
    for name, value in values.items():
        p, number = by_name[name], float(value)
        if not math.isfinite(number):
            raise InputError(f"{field}[{name!r}]", number, "is not a finite number", "give a number inside the bounds")
        if not p.lower <= number <= p.upper:
            raise InputError(
                f"{field}[{name!r}]",
                number,
                f"lies outside the bounds [{p.lower:g}, {p.upper:g}]",
                f"choose a value inside them or widen bounds[{name!r}]",
            )
        out[name] = number
    return out


def pack(values: Mapping[str, float], parameters: Sequence[Parameter]) -> np.ndarray:
    """Vector (p,) of the values in model order."""
    return np.array([values[p.name] for p in parameters], dtype=np.float64)


def unpack(theta: np.ndarray, parameters: Sequence[Parameter]) -> dict[str, float]:
    """Named values from a vector in model order."""
    return {p.name: float(v) for p, v in zip(parameters, theta, strict=True)}
