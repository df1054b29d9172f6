"""What makes two fits the same one: the facts on which the sums of their passes and the path of their steps depend."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np

from homodyne.checkout import commit
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.search.base import settings
from homodyne.optimization.search.candidates import candidates
from homodyne.optimization.source import BlockSource, View, sector_geometry

_PROBES = 8  # points of the parameter space at which a model is compared
_PROBE_FRAMES = 16


def identity(request: Request, held: View) -> str:
    """The facts as JSON text. ``max_passes``, ``xtol`` and memory are not among them: they do not change a pass.

    The data are known by the dataset's fingerprint, the time and size of its file, and the values on the frames of the
    warm-up, so that data in memory, too, and a file that was written again are told apart.

    Args:
        held: the frames of the warm-up.
    """
    facts = {
        "code": {
            "commit": commit(),
            "versions": {name: importlib.metadata.version(name) for name in ("homodyne", "jax")},
        },
        "data": _data(request.source, held),
        "model": {
            "name": request.model.name,
            "convention": request.model.convention,
            "parameters": [dataclasses.asdict(p) for p in request.parameters],
            "values": _model_values(request),
        },
        "start": request.start,
        "fixed": request.fixed,
        "scaling": request.scaling,
        "fourier_order": request.options.fourier_order,
        "subset_frames": held.n_frames,
        "min_lag": request.min_lag,
        "strategy": [type(request.strategy).__qualname__, settings(request.strategy)],
        "warm_up": None if request.warm_up is None else dataclasses.asdict(request.warm_up),
        "passes": request.decision.passes,
        "block_points": request.decision.block_points,
        "precision": request.options.precision,
        "loss": [request.options.loss, request.options.loss_scale],
    }
    return json.dumps(facts, sort_keys=True, default=str)


def _data(source: BlockSource, held: View) -> dict[str, Any]:
    fingerprint = getattr(source, "fingerprint", None)
    facts = fingerprint() if fingerprint else {}
    file = Path(str(facts.get("path") or ""))
    assert held.held is not None
    return {
        "fingerprint": facts,
        "modified_ns": file.stat().st_mtime_ns if file.is_file() else None,
        "bytes": file.stat().st_size if file.is_file() else None,
        "geometry": [np.asarray(source.q).tolist(), source.gap, source.dt, len(source.t)],
        "phi": _sha256(source.phi),
        # estimated from the data on another processor it may differ in its last digit
        "sigma": [f"{s:.9g}" for s in np.asarray(source.sigma, dtype=float)],
        "subset": _sha256(held.held),
        "subset_sigma": None if held.held_sigma is None else _sha256(held.held_sigma),
    }


def _model_values(request: Request) -> str:
    """Hash of s at a few points: a model of one's own can change and keep its name.

    Rounded to six digits, because the last ones differ between processors.
    """
    source = request.source
    t = np.asarray(source.t, dtype=float)
    t = t[:: max(1, len(t) // _PROBE_FRAMES)][:_PROBE_FRAMES]
    points = candidates(request.parameters, {**request.start, **request.fixed}, _PROBES)
    values = [
        request.model.g1_squared(theta, t, float(g.phi), float(g.q), source.gap, q_ref=float(g.q_ref))
        for theta in points[request.feasible(points)]
        for g in (sector_geometry(request.model, source, k) for k in (0, -1))
    ]
    # adding 0 turns -0 into 0
    return _sha256(np.round(np.clip(np.nan_to_num(values), -10, 10), 6) + 0.0)


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
