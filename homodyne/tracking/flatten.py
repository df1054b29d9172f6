"""Nested settings and finished fits as the flat names that trackers store; pure functions."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from homodyne.result import FitResult
from homodyne.result.posterior import Posterior

# Trackers truncate long values silently; whole ones are in the artifact config.yaml.
LONGEST = 500
SERIES_LENGTH = 1000
# The description of a run, which MLflow shows in full.
LONGEST_NOTE = 5000
# Curves are smooth: this many frames, even in log t, hold them.
CURVE_LENGTH = 100
PASS_SERIES = ("cost", "chi2", "gradient_norm", "step_norm", "radius", "points", "seconds", "points_per_second")


@dataclasses.dataclass(frozen=True)
class Series:
    """A metric over steps; ``seconds`` since the start of the fit, where known."""

    name: str
    steps: np.ndarray
    values: np.ndarray
    seconds: np.ndarray


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"model": {"scaling": "auto"}}`` as ``{"model.scaling": "auto"}``; lists as JSON, no targets.

    A value longer than 500 characters is replaced by a pointer to config.yaml.
    """
    return {name: shorten(text) for name, text in _leaves(settings, prefix)}


def shorten(text: str) -> str:
    """``text``, or a pointer to the artifact where it is too long for a parameter."""
    return text if len(text) <= LONGEST else f"({len(text)} characters, see config.yaml or result.nc)"


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if key == "_target_":
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=str)
    return "null" if value is None else str(value)


def metrics(result: FitResult) -> dict[str, float]:
    """Numbers of one fit: ``theta.*``, ``stderr.*`` by the chosen method and ``stderr_iid.*``, ``stderr_jackknife.*`` beside
    it, ``at_bound.*``, fit quality, size, memory, time.
    """
    # quality first: trackers list metrics in this order
    out: dict[str, float] = {
        "chi2_reduced": result.chi2_reduced,
        **_expected(result),
        "converged": float(result.converged),
    }
    others = {m: result.stderr_by(m) for m in result.uncertainties if m != result.covariance_method}
    for name, value in result.theta.items():
        out[f"theta.{name}"] = value
        out[f"stderr.{name}"] = result.stderr[name]
        if math.isfinite(result.stderr[name]):  # without an error by one method there is none by another
            out |= {f"stderr_{method}.{name}": stderr[name] for method, stderr in others.items()}
        if result.at_bound[name]:  # zeros would fill the charts of every run
            out[f"at_bound.{name}"] = 1.0
    accepted = result.history["accepted"].values
    out |= {
        "n_points": result.n_points,
        "n_parameters": result.n_parameters,
        "n_phi": result.phi.size,
        "n_at_bound": sum(result.at_bound.values()),
        "n_undetermined": len(result.undetermined),
        "n_warnings": len(result.warnings),
        "condition": result.condition,
        "passes": accepted.size,
        "passes_accepted": float(np.sum(accepted)),
        "seconds": fit_seconds(result),
        "decision.estimate_gb": result.decision.estimate_gb,
        "decision.threshold_gb": result.decision.threshold_gb,
        "decision.block_points": result.decision.block_points,
    }
    if result.weighting.name == "whitened":
        out |= {f"stderr_uniform.{n}": e for n, e in result.weighting.uniform_stderr.items() if math.isfinite(e)}
        out["weighting.ratio"] = result.weighting.ratio
    scalars = dataclasses.asdict(result.memory)
    out |= {f"memory.{name}": value for name, value in scalars.items() if name.endswith("_gb") and np.ndim(value) == 0}
    return {name: float(value) for name, value in out.items()}


def _expected(result: FitResult) -> dict[str, float]:
    """chi2 per point that the noise of speckle makes, over all angles (they have as good as equally many pairs)."""
    if "chi2_expected" not in result.diagnostics:
        return {}
    mean, sd = (result.diagnostics[n].values for n in ("chi2_expected", "chi2_sd"))
    return {"chi2_expected": float(mean.mean()), "chi2_expected_sd": float(np.sqrt((sd**2).sum()) / sd.size)}


def fit_seconds(result: FitResult) -> float:
    """Wall time of the fit: the memory monitor spans it; the passes alone where there was no monitor."""
    watched = result.memory.series_seconds
    passes = float(np.sum(result.history["seconds"].values))
    return max(float(watched[-1]), passes) if watched.size else passes


def series(result: FitResult) -> list[Series]:
    """Curves of one fit: ``pass.*`` by pass, ``memory.rss_gb`` over time, ``angle.*`` by angle, ``curve.*`` by frame."""
    seconds = np.cumsum(result.history["seconds"].values.astype(float))
    steps = np.arange(seconds.size)
    out = [Series(f"pass.{n}", steps, result.history[n].values.astype(float), seconds) for n in PASS_SERIES]
    keep = _thinned(result.memory.series_gb.size)
    out.append(Series("memory.rss_gb", keep, result.memory.series_gb[keep], result.memory.series_seconds[keep]))
    angles = np.arange(result.phi.size)
    by_angle = {
        "contrast": result.contrast,
        "offset": result.offset,
        "chi2": result.chi2_per_angle,
        "phi_deg": result.phi,
        "q": result.q,
    }
    return [
        *out,
        *(Series(f"angle.{n}", angles, np.asarray(v, float), np.zeros(angles.size)) for n, v in by_angle.items()),
        *_curves(result.curve_table),
    ]


def _curves(table: xr.Dataset) -> list[Series]:
    """``curve.J``, ``curve.J_stderr`` and so on with the frame as step; ``curve.t_s`` is the time of the frame."""
    n = table.sizes["t"]
    keep = np.unique(np.geomspace(1, max(n, 1), min(n, CURVE_LENGTH)).astype(int)) - 1
    every, t = table["t"].values, table["t"].values[keep]
    dt = float(every[1] - every[0]) if n > 1 else 1.0  # tables begin with frames 0 and 1
    frames = np.round((t - every[0]) / dt).astype(int)
    rows = {"t_s": t}
    for name in (str(v) for v in table.data_vars if f"{v}_stderr" in table):
        rows |= {name: table[name].values[keep], f"{name}_stderr": table[f"{name}_stderr"].values[keep]}
    return [Series(f"curve.{name}", frames, v.astype(float), np.zeros(len(keep))) for name, v in rows.items()]


def _thinned(n: int) -> np.ndarray:
    """At most 1000 positions out of n, first and last included."""
    return np.unique(np.linspace(0, n - 1, min(n, SERIES_LENGTH)).astype(int)) if n else np.array([], dtype=int)


def split_finite(values: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Finite values, and the names of the others: MLflow stores infinity as 1.8e308, which reads like a number."""
    return {n: v for n, v in values.items() if math.isfinite(v)}, sorted(
        n for n, v in values.items() if not math.isfinite(v)
    )


def parameters(settings: Mapping[str, Any], result: FitResult) -> dict[str, str]:
    """Settings, decision and provenance as flat text."""
    decision = result.decision
    return (
        flatten(settings)
        | {
            "decision.strategy": decision.strategy,
            "decision.reason": shorten(decision.reason),
            "start_source": shorten(result.start_source),
            "sigma_source": result.sigma_source,
            "covariance_method": result.covariance_method,
            "weighting": result.weighting.name,
            "weighting.recommended": result.weighting.recommended,
            "undetermined": shorten(", ".join(result.undetermined) or "none"),
        }
        | flatten(result.provenance, "provenance.")
    )


def commit(result: FitResult) -> str | None:
    """Git commit of the code that fitted, None where it is not known."""
    found = re.match(r"[0-9a-f]{40}", str(result.provenance.get("git_commit", "")))
    return found.group() if found else None


def note(result: FitResult, posterior: Posterior | None = None) -> str:
    """What a person should read first: the warnings, then what the data determine."""
    both = (result,) if posterior is None else (result, posterior)
    texts = [text for kind in ("warnings", "findings") for one in both for text in getattr(one, kind)]
    if posterior is not None:
        texts.insert(0, f"Posterior: {posterior.status}. {posterior.message}")
    return "\n\n".join(texts)[:LONGEST_NOTE]


def run_name(tags: Mapping[str, str], swept: Sequence[str]) -> str:
    """What tells a run from its neighbors comes first, because a table shows 20 letters: ``scaling=auto`` in a sweep."""
    pairs = (override.partition("=") for override in swept)
    job = " ".join(
        tags["dataset"] if key == "dataset.path" else f"{key.rpartition('.')[2]}={value}" for key, _, value in pairs
    )
    return shorten(job or "-".join((tags["dataset"].partition(".")[0], tags["model"], tags["scaling"])))


def tags(settings: Mapping[str, Any], result: FitResult) -> dict[str, str]:
    """What runs are filtered by."""
    path = settings.get("dataset", {}).get("path")
    path = path[0] if isinstance(path, list) else path  # of several repetitions the first names them
    return {
        "model": result.model,
        "scaling": result.scaling,
        "strategy": result.strategy,
        "convention": result.convention,
        "status": result.status.value,
        "dataset": str(path).rstrip("/").rpartition("/")[2] if path else "synthetic",
    }
