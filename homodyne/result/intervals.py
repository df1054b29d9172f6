"""Confidence intervals from a value, its error and a level."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from homodyne.errors import InputError


def quantile(level: float, dof: float = np.inf) -> float:
    """Half width, in standard errors, of the central interval that holds ``level``: normal, or t with ``dof``.

    Raises:
        InputError: level outside (0, 1).
    """
    if not 0 < level < 1:
        raise InputError("level", level, "must lie between 0 and 1", "0.6827 is one standard error, 0.95 is common")
    upper = 0.5 * (1.0 + level)
    return float(ndtri(upper) if np.isinf(dof) else stdtrit(dof, upper))


def linear_interval(value: float, stderr: float, level: float, dof: float = np.inf) -> tuple[float, float]:
    """value -+ quantile x stderr."""
    half = quantile(level, dof) * stderr
    return value - half, value + half
