"""What the data determine, judged by honest errors, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from homodyne.models import Model, Rate
from homodyne.parameters import Parameter
from homodyne.result import Uncertainty

# A parameter is not determined by itself when its error is this part of what it is compared with, see ``_scale``.
_WEAK = 0.5
# A curve is called determined where its error is below this part of its value.
_CURVE = 0.25


def outside_bounds(found: Uncertainty, parameters: tuple[Parameter, ...]) -> tuple[int, ...]:
    """Parameters whose error is larger than half their range: the data say less than the bounds do."""
    half = np.array([0.5 * (p.upper - p.lower) for p in parameters])
    sd = np.sqrt((found.root**2).sum(1))
    return tuple(int(i) for i in np.flatnonzero(~(sd <= half)))


def weak(model: Model, parameters: tuple[Parameter, ...], stderr: np.ndarray, curves: xr.Dataset) -> tuple[int, ...]:
    """Parameters that are not determined one by one."""
    scale = _scale(model, parameters, curves)
    return tuple(int(i) for i in np.flatnonzero(~(stderr <= _WEAK * scale) & ~np.isnan(stderr)))


def _scale(model: Model, parameters: tuple[Parameter, ...], curves: xr.Dataset) -> np.ndarray:
    """What an error is compared with: the typical rate for its amplitude and offset, the parameter's scale otherwise."""
    scale = np.array([p.scale for p in parameters])
    for rate in model.rates:
        typical = float(np.median(np.abs(curves[rate.name].values)))
        for i in model.indices(rate):
            if parameters[i].unit == rate.unit:
                scale[i] = typical
    return scale


def sentences(
    model: Model,
    parameters: tuple[Parameter, ...],
    stderr: np.ndarray,
    undetermined: tuple[int, ...],
    curves: xr.Dataset,
) -> Iterator[str]:
    """Which parameters the data leave open, and what is known instead.

    Args:
        stderr: (p,), by the chosen method; 0 for fixed parameters, NaN without an error. undetermined: positions.
    """
    loose = {*weak(model, parameters, stderr, curves), *undetermined}
    for rate in model.rates:
        members = [i for i in model.indices(rate) if i in loose]
        if any(not parameters[i].unit for i in members):  # with its exponent open, no part of a rate stands for itself
            members = [i for i in model.indices(rate) if stderr[i] > 0]
        if members:
            names = ", ".join(parameters[i].name for i in members)
            verb = "are not determined one by one" if len(members) > 1 else "is not determined by itself"
            yield f"{names} {verb}: {_curve(rate, curves)}"
        loose -= set(members)
    for i in sorted(loose):
        yield f"{parameters[i].name} is not determined (error {stderr[i]:.3g} {parameters[i].unit})".rstrip()


def _curve(rate: Rate, curves: xr.Dataset) -> str:
    t = curves["t"].values
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = curves[f"{rate.name}_stderr"].values / np.abs(curves[rate.name].values)
    relative = np.where(np.isfinite(relative), relative, np.inf)
    if not np.isfinite(relative).any():
        return f"nor is {rate.name}(t) at any time"
    good = relative <= _CURVE
    best = int(np.argmin(relative))
    if not good.any():
        return f"nor is {rate.name}(t), whose error is {100 * relative[best]:.0f} % at best, at t = {t[best]:.3g} s"
    spans = _spans(good)
    longest = max(spans, key=lambda s: s[1] - s[0])
    where = f"{max(t[longest[0]], t[1] if len(t) > 1 else 0):.3g} s to {t[longest[1]]:.3g} s"
    return (
        f"the data determine {rate.name}(t) within {100 * _CURVE:.0f} % for t = {where}, "
        f"best within {100 * relative[best]:.2g} % at {t[best]:.3g} s; use curves()"
    )


def _spans(good: np.ndarray) -> list[tuple[int, int]]:
    """First and last position of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
