"""What a fit returns: parameters with errors, how it got there, and what it cost."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from homodyne.errors import InputError
from homodyne.parameters import Parameter


class Status(enum.StrEnum):
    """How a fit ended. ``advice`` tells the user what to do about it."""

    CONVERGED = "converged"
    MAX_PASSES = "max_passes"
    STALLED = "stalled"
    BORDER = "infeasible_border"
    NOT_IDENTIFIABLE = "not_identifiable"
    INTERRUPTED = "interrupted"

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE = {
    Status.CONVERGED: "The next step would be negligible against the standard errors.",
    Status.MAX_PASSES: "The pass limit was reached first: raise optimization.nlsq.max_passes or give a closer start.",
    Status.STALLED: "No trial step lowers the cost although the gradient is not small: try another start, or check the data.",
    Status.BORDER: "The best point lies where a rate J(t) or gamma_dot(t) changes its sign: fix or bound the offset parameters.",
    Status.NOT_IDENTIFIABLE: "The data do not determine all parameters: fix one of those listed, or add angles, q values or frames.",
    Status.INTERRUPTED: "Stopped by Ctrl-C or SIGTERM: the values are the best found so far.",
}


@dataclasses.dataclass(frozen=True)
class Decision:
    """Which strategy runs, and why. Memory figures in GB (2**30 bytes).

    Attributes:
        strategy: ``stratified_ls`` or ``hybrid_streaming``.
        reason: one sentence.
        estimate_gb: predicted peak of the *full-batch* strategy, the number the choice compares.
        threshold_gb: what may be used.
        block_points: points per streamed block.
        n_points, n_params: unordered pairs over all angles; free parameters (physical + scaling).
        log_lines: the lines that were logged at the moment of decision.
    """

    strategy: str
    reason: str
    estimate_gb: float
    threshold_gb: float
    block_points: int
    n_points: int
    n_params: int
    log_lines: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory over a fit, GB (2**30 bytes); the series holds resident-set sizes against seconds since the start."""

    available_gb: float
    threshold_gb: float
    predicted_peak_gb: float
    measured_peak_gb: float
    baseline_gb: float
    series_seconds: np.ndarray
    series_gb: np.ndarray


@dataclasses.dataclass(frozen=True)
class AngleMap:
    """One angle of data and model on a (possibly strided) frame grid, for display only; shapes (n, n), NaN on the diagonal."""

    phi_deg: float
    t_s: np.ndarray
    data: np.ndarray
    model: np.ndarray
    sigma: float


@dataclasses.dataclass(frozen=True)
class FitResult:
    """A finished fit.

    Attributes:
        parameters: the model's parameters with unit and bounds, in model order (p of them).
        theta, stderr: physical parameters and their standard errors, by name; a fixed parameter has error 0, an
            undetermined one inf, one at a bound (and all at an infeasible border) NaN.
        covariance: (p, p) covariance matrix of the physical parameters, in their units.
        contrast, offset: scaling per angle (n_phi,), with ``contrast_stderr`` and ``offset_stderr``.
        n_points: unordered pairs that entered the sum; n_parameters: free physical and scaling parameters.
        chi2_reduced: sum of squared residuals over sigma**2 per degree of freedom.
        history: one row a pass; see ``HISTORY_VARIABLES``.
        provenance: data fingerprint, options, versions.
    """

    model: str
    convention: str
    scaling: str
    strategy: str
    parameters: tuple[Parameter, ...]
    theta: dict[str, float]
    stderr: dict[str, float]
    covariance: xr.DataArray
    covariance_method: str
    at_bound: dict[str, bool]
    fixed: dict[str, float]
    start: dict[str, float]
    start_source: str
    phi: np.ndarray
    contrast: np.ndarray
    contrast_stderr: np.ndarray
    offset: np.ndarray
    offset_stderr: np.ndarray
    n_points: int
    n_parameters: int
    chi2_reduced: float
    chi2_per_angle: np.ndarray
    sigma: np.ndarray
    sigma_source: str
    condition: float
    status: Status
    message: str
    history: xr.Dataset
    memory: Memory
    decision: Decision
    residual_histogram: tuple[np.ndarray, np.ndarray]
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def converged(self) -> bool:
        """True only when the convergence tests were met."""
        return self.status is Status.CONVERGED

    def table(self) -> str:
        """Parameters as text: name, unit, value, error, remark."""
        rows = [f"{'parameter':<18} {'unit':<18} {'value':>14} {'error':>12}  remark"]
        for p in self.parameters:
            remark = "fixed" if p.name in self.fixed else ("at bound" if self.at_bound[p.name] else "")
            rows.append(
                f"{p.name:<18} {p.unit:<18} {self.theta[p.name]:>14.6g} {self.stderr[p.name]:>12.3g}  {remark}".rstrip()
            )
        return "\n".join(rows)

    def to_dataset(self) -> xr.Dataset:
        """Everything as one xarray.Dataset with units; strings and nested records as JSON attributes."""
        names = [p.name for p in self.parameters]
        edges, counts = self.residual_histogram
        ds = xr.Dataset(
            {
                "theta": ("parameter", [self.theta[n] for n in names]),
                "stderr": ("parameter", [self.stderr[n] for n in names]),
                "start": ("parameter", [self.start[n] for n in names]),
                "lower": ("parameter", [p.lower for p in self.parameters]),
                "upper": ("parameter", [p.upper for p in self.parameters]),
                "scale": ("parameter", [p.scale for p in self.parameters]),
                "is_fixed": ("parameter", [n in self.fixed for n in names]),
                "at_bound": ("parameter", [self.at_bound[n] for n in names]),
                "covariance": (("parameter", "parameter_"), self.covariance.values),
                "contrast": ("phi", self.contrast),
                "contrast_stderr": ("phi", self.contrast_stderr),
                "offset": ("phi", self.offset),
                "offset_stderr": ("phi", self.offset_stderr),
                "chi2_per_angle": ("phi", self.chi2_per_angle),
                "sigma": ("phi", self.sigma),
                "rss": ("seconds_since_start", self.memory.series_gb, {"units": "GB"}),
                "residual_counts": ("residual_bin", counts),
                "residual_edges": ("residual_edge", edges),
                **dict(self.history.data_vars.items()),
            },
            coords={
                "parameter": names,
                "parameter_": names,
                "unit": ("parameter", [p.unit for p in self.parameters]),
                "description": ("parameter", [p.description for p in self.parameters]),
                "phi": ("phi", self.phi, {"units": "degree"}),
                "seconds_since_start": ("seconds_since_start", self.memory.series_seconds, {"units": "s"}),
            },
        )
        ds.attrs = {name: getattr(self, name) for name in _SCALARS}
        ds.attrs["status"] = self.status.value
        ds.attrs["n_warnings"] = len(self.warnings)
        ds.attrs["warnings"] = json.dumps(list(self.warnings))
        ds.attrs["decision"] = json.dumps(dataclasses.asdict(self.decision))
        ds.attrs["memory"] = json.dumps({n: getattr(self.memory, n) for n in _MEMORY_SCALARS})
        ds.attrs["provenance"] = json.dumps(dict(self.provenance), default=str)
        return ds

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write ``to_dataset()`` as NetCDF; the file appears complete or not at all.

        Raises:
            InputError: the folder does not exist or is not writable.
        """
        target = Path(path)
        if not os.access(target.parent, os.W_OK):
            raise InputError(
                "path", str(target), "lies in a folder that is missing or not writable",
                "create the folder or choose another",
            )  # fmt: skip
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        self.to_dataset().to_netcdf(partial, engine="netcdf4")
        os.replace(partial, target)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FitResult:
        """Read a file written by ``save``."""
        if not Path(path).is_file():
            raise InputError("path", str(path), "does not exist", "give the result.nc of a fit")
        with xr.open_dataset(path, engine="netcdf4") as opened:
            return _from_dataset(opened.load())


_SCALARS = (
    "model", "convention", "scaling", "strategy", "covariance_method", "start_source", "n_points", "n_parameters",
    "chi2_reduced", "sigma_source", "condition", "message",
)  # fmt: skip
_MEMORY_SCALARS = ("available_gb", "threshold_gb", "predicted_peak_gb", "measured_peak_gb", "baseline_gb")

HISTORY_VARIABLES = {
    "stage": "subset (warm-up on a strided part of the data) or full (every point)",
    "cost": "half the sum of squared weighted residuals at the trial point",
    "chi2": "2 cost per point",
    "gradient_norm": "largest component of the gradient, in units of the parameter's iid standard error",
    "step_norm": "largest component of the step, in units of the parameter's iid standard error",
    "radius": "Levenberg-Marquardt damping of the step",
    "accepted": "1 where the trial point lowered the cost",
    "points": "points read in this pass",
    "seconds": "wall time of this pass",
    "points_per_second": "points / seconds",
    "from_checkpoint": "1 where the pass was not repeated but taken from a checkpoint",
}


def _from_dataset(ds: xr.Dataset) -> FitResult:
    names = [str(n) for n in ds["parameter"].values]
    parameters = tuple(
        Parameter(
            n,
            str(ds["unit"].values[i]),
            min(max(float(ds["start"][i]), float(ds["lower"][i])), float(ds["upper"][i])),
            float(ds["lower"][i]),
            float(ds["upper"][i]),
            float(ds["scale"][i]),
            str(ds["description"].values[i]),
        )
        for i, n in enumerate(names)
    )

    def by_name(variable: str) -> dict[str, Any]:
        return dict(zip(names, ds[variable].values.tolist(), strict=True))

    theta, fixed = by_name("theta"), by_name("is_fixed")
    return FitResult(
        parameters=parameters,
        theta=theta,
        stderr=by_name("stderr"),
        covariance=ds["covariance"].reset_coords(drop=True),
        at_bound={n: bool(v) for n, v in by_name("at_bound").items()},
        fixed={n: theta[n] for n in names if fixed[n]},
        start=by_name("start"),
        phi=ds["phi"].values,
        contrast=ds["contrast"].values,
        contrast_stderr=ds["contrast_stderr"].values,
        offset=ds["offset"].values,
        offset_stderr=ds["offset_stderr"].values,
        chi2_per_angle=ds["chi2_per_angle"].values,
        sigma=ds["sigma"].values,
        status=Status(ds.attrs["status"]),
        history=ds[[n for n in HISTORY_VARIABLES if n in ds]].reset_coords(drop=True),
        memory=Memory(
            **json.loads(ds.attrs["memory"]),
            series_seconds=ds["seconds_since_start"].values,
            series_gb=ds["rss"].values,
        ),
        decision=_decision(json.loads(ds.attrs["decision"])),
        residual_histogram=(ds["residual_edges"].values, ds["residual_counts"].values),
        warnings=tuple(json.loads(ds.attrs["warnings"])),
        provenance=json.loads(ds.attrs["provenance"]),
        **{n: ds.attrs[n] for n in _SCALARS},
    )


def _decision(record: dict[str, Any]) -> Decision:
    return Decision(**{**record, "log_lines": tuple(record["log_lines"])})
