"""Coordinates in which a search moves: every parameter between 0 and 1, on the scale on which it varies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.parameters import Parameter

# Bounds further apart than this ratio, or than this many scales where they include 0, span decades.
_DECADES = 100.0
_LINEAR, _LOG, _ASINH = 0, 1, 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Coordinates:
    """The map between values (n, p) and the unit box.

    A parameter whose positive bounds span decades is logarithmic. One that may change its sign and whose bounds are far
    beyond its ``scale`` is asinh(x / scale): linear up to the scale, logarithmic beyond. All others are linear.

    Attributes:
        kind: 0 linear, 1 log, 2 asinh; scale: of each parameter; low, high: transformed bounds; all (p,).
    """

    kind: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, parameters: Sequence[Parameter]) -> Coordinates:
        """Those of parameters with these bounds."""
        kind = np.array([_kind(p) for p in parameters])
        scale = np.array([p.scale for p in parameters])
        low, high = (
            _forward(np.array([getattr(p, side) for p in parameters]), kind, scale) for side in ("lower", "upper")
        )
        return cls(kind, scale, low, high)

    def to_unit(self, points: np.ndarray) -> np.ndarray:
        """Values (..., p) -> unit box."""
        return (_forward(points, self.kind, self.scale) - self.low) / (self.high - self.low)

    def from_unit(self, unit: Any) -> jnp.ndarray:
        """Unit box (..., p) -> values; differentiable."""
        x = self.low + unit * (self.high - self.low)
        # arguments of the branches that are not taken stay finite, so that derivatives do
        log, asinh = self.kind == _LOG, self.kind == _ASINH
        exp, sinh = jnp.exp(jnp.where(log, x, 0.0)), self.scale * jnp.sinh(jnp.where(asinh, x, 0.0))
        return jnp.where(log, exp, jnp.where(asinh, sinh, x))


def _kind(p: Parameter) -> int:
    if p.lower > 0:
        return _LOG if p.upper / p.lower > _DECADES else _LINEAR
    return _ASINH if max(-p.lower, p.upper) > _DECADES * p.scale / 2 else _LINEAR


def _forward(values: np.ndarray, kind: np.ndarray, scale: np.ndarray) -> np.ndarray:
    log = np.log(np.where(kind == _LOG, np.maximum(values, 1e-300), 1.0))
    return np.where(kind == _LOG, log, np.where(kind == _ASINH, np.arcsinh(values / scale), values))


def scale_ratio(parameters: Sequence[Parameter]) -> float:
    """Ratio of the widest to the narrowest range of values that the bounds leave, as numbers in the parameters' units.

    A search whose steps are one number for all parameters needs scaling where it is large. 1 for fewer than two.
    """
    widths = [p.upper - p.lower for p in parameters]
    return max(widths) / min(widths) if len(widths) > 1 else 1.0
