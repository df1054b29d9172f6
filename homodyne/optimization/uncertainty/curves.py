"""Rates and their integrals over time with errors: known where the parameters often are not."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import xarray as xr

from homodyne.models import Model
from homodyne.optimization.source import BlockSource, sector_geometry
from homodyne.result import Uncertainty

# Frames of a table; longer series are thinned, evenly in log t and in t.
_LONGEST = 2000


def rate_table(
    model: Model,
    theta: np.ndarray,
    source: BlockSource,
    uncertainties: Mapping[str, Uncertainty],
    chosen: str,
    without_error: Collection[int] = (),
) -> xr.Dataset:
    """Every rate and its time integral on the frames, with standard errors by the delta method.

    ``X_stderr`` is by the method ``chosen``; ``X_stderr_M`` by every method M; NaN where a rate depends on a parameter
    ``without_error``, one at a bound.
    """
    t = np.asarray(source.t, dtype=float)
    geometry = sector_geometry(model, source)
    values, slopes = model.rate_curves(theta, t, geometry), model.rate_jacobians(theta, t, geometry)
    keep = _thinned(len(t))
    columns: dict[str, tuple] = {}
    for rate in model.rates:
        pairs = [(rate.name, rate.unit, values[rate.name], slopes[rate.name])]
        if rate.integral:
            value, slope = (_integral(x, source.dt) for x in (values[rate.name], slopes[rate.name]))
            pairs.append((rate.integral, rate.integral_unit, value, slope))
        for name, unit, value, slope in pairs:
            columns[name] = ("t", value[keep], {"units": unit})
            for method, found in uncertainties.items():
                stderr = found.stderr_of(slope[:, keep])
                if any(i in without_error for i in model.indices(rate)):
                    stderr = np.full(stderr.shape, np.nan)
                columns[f"{name}_stderr_{method}"] = ("t", stderr, {"units": unit})
            columns[f"{name}_stderr"] = columns[f"{name}_stderr_{chosen}"]
    return xr.Dataset(columns, coords={"t": ("t", t[keep], {"units": "s"})})


def _integral(values: np.ndarray, dt: float) -> np.ndarray:
    """Cumulative trapezoid over the last axis, 0 at the first frame: the rule of the models."""
    steps = 0.5 * dt * (values[..., 1:] + values[..., :-1])
    return np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(steps, axis=-1)], axis=-1)


def _thinned(n: int) -> np.ndarray:
    if n <= _LONGEST:
        return np.arange(n)
    half = _LONGEST // 2
    return np.unique(np.concatenate([np.geomspace(1, n - 1, half), np.linspace(0, n - 1, half)]).astype(int))
