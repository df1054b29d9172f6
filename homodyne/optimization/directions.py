"""Data without directions, as files of ring averages hold, fit only models that know none."""

from __future__ import annotations

import numpy as np

from homodyne.errors import InputError
from homodyne.models import Model
from homodyne.optimization.source import BlockSource


def require_directions(source: BlockSource, model: Model) -> None:
    """Raise InputError where the data are averaged over all directions and the model depends on them."""
    attrs = getattr(source, "attrs", {})
    if not str(attrs.get("phi_source", "")).startswith("none") or not depends_on_direction(model, source):
        return
    raise InputError(
        "dataset.phi", None, f"is missing: the file holds maps averaged over all directions, and {model.name} depends on phi",
        "correlate again with sectors in azimuth, or fit a model without flow (static)",
    )  # fmt: skip


def depends_on_direction(model: Model, source: BlockSource) -> bool:
    """Whether any channel of the model at its start values is another one in another direction."""
    theta = np.array([p.start if p.start != 0 else p.scale for p in model.parameters])
    t = np.asarray(source.t)[:3]
    q = float(np.ravel(source.q)[0])
    of = [
        model.channel_curves(
            theta, t, model.geometry(phi, q, 1e6 if source.gap is None else source.gap, source.dt, q_ref=q)
        )
        for phi in (0.0, 77.0)
    ]
    return any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(*of, strict=True))
