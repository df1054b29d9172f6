"""A result as one xarray.Dataset, which NetCDF holds, and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import xarray as xr

from homodyne.parameters import Parameter
from homodyne.result.fit_result import HISTORY_VARIABLES, FitResult
from homodyne.result.records import Decision, Memory, Status, Uncertainty, Weighting

_SCALARS = (
    "model", "convention", "scaling", "strategy", "covariance_method", "start_source", "n_points", "n_parameters",
    "chi2_reduced", "sigma_source", "condition", "message",
)  # fmt: skip
_LISTS = ("undetermined", "findings", "warnings")
_MEMORY_SCALARS = ("available_gb", "threshold_gb", "predicted_peak_gb", "measured_peak_gb", "baseline_gb")
# Tables of their own in the one file, told apart by what their variables' names begin with.
_CURVES, _DIAGNOSTICS, _OPTIMA = "curve_", "diagnostic_", "optimum_"


def to_dataset(result: FitResult) -> xr.Dataset:
    """Everything as one dataset with units; strings and nested records as JSON attributes."""
    names = [p.name for p in result.parameters]
    ds = xr.Dataset(
        {**_parameters(result, names), **_angles(result), **_record(result), **_uncertainties(result)},
        coords={
            "parameter": names,
            "parameter_": names,
            "unit": ("parameter", [p.unit for p in result.parameters]),
            "description": ("parameter", [p.description for p in result.parameters]),
            "phi": ("phi", result.phi, {"units": "degree"}),
            "q": _wave_vector(result),
            "seconds_since_start": ("seconds_since_start", result.memory.series_seconds, {"units": "s"}),
        },
    )
    tables = ((result.curve_table, _CURVES), (result.diagnostics, _DIAGNOSTICS), (result.optima, _OPTIMA))
    ds = xr.merge([ds, *(_prefixed(table, prefix) for table, prefix in tables)])
    ds.attrs = {name: getattr(result, name) for name in _SCALARS}
    ds.attrs["q_ref"] = result.q_ref
    ds.attrs["status"] = result.status.value
    ds.attrs["n_warnings"] = len(result.warnings)
    for name in _LISTS:
        ds.attrs[name] = json.dumps(list(getattr(result, name)))
    ds.attrs["dof"] = json.dumps({m: u.dof for m, u in result.uncertainties.items()})
    ds.attrs["decision"] = json.dumps(dataclasses.asdict(result.decision))
    ds.attrs["memory"] = json.dumps({n: getattr(result.memory, n) for n in _MEMORY_SCALARS})
    ds.attrs["weighting"] = json.dumps(dataclasses.asdict(result.weighting))
    ds.attrs["provenance"] = json.dumps(dict(result.provenance), default=str)
    return ds


def _wave_vector(result: FitResult) -> tuple:
    """One number, or one a sector."""
    units = {"units": "1/angstrom"}
    return ("phi", result.q, units) if len(result.q_values) > 1 else ((), result.q[0], units)


def _parameters(result: FitResult, names: list[str]) -> dict[str, Any]:
    stderr = result.stderr
    return {
        "theta": ("parameter", [result.theta[n] for n in names]),
        "stderr": ("parameter", [stderr[n] for n in names]),
        "start": ("parameter", [result.start[n] for n in names]),
        "lower": ("parameter", [p.lower for p in result.parameters]),
        "upper": ("parameter", [p.upper for p in result.parameters]),
        "scale": ("parameter", [p.scale for p in result.parameters]),
        "is_fixed": ("parameter", [n in result.fixed for n in names]),
        "at_bound": ("parameter", [result.at_bound[n] for n in names]),
        "covariance": (("parameter", "parameter_"), result.covariance.values),
    }


def _angles(result: FitResult) -> dict[str, Any]:
    names = ("contrast", "contrast_stderr", "offset", "offset_stderr", "chi2_per_angle", "sigma")
    return {name: ("phi", getattr(result, name)) for name in names}


def _record(result: FitResult) -> dict[str, Any]:
    edges, counts = result.residual_histogram
    return {
        "rss": ("seconds_since_start", result.memory.series_gb, {"units": "GB"}),
        "residual_counts": ("residual_bin", counts),
        "residual_edges": ("residual_edge", edges),
        **{str(n): v for n, v in result.history.data_vars.items()},
    }


def _uncertainties(result: FitResult) -> dict[str, Any]:
    """``root_M`` and errors of every method M; those of the parameters again as numbers, for whoever reads the file."""
    out: dict[str, Any] = {"null": (("parameter", "open_direction"), result.uncertainty.null)}
    for method, found in result.uncertainties.items():
        out[f"root_{method}"] = (("parameter", f"component_{method}"), found.root)
        out[f"stderr_{method}"] = ("parameter", list(result.stderr_by(method).values()))
        out[f"contrast_stderr_{method}"] = ("phi", found.contrast_stderr)
        out[f"offset_stderr_{method}"] = ("phi", found.offset_stderr)
    return out


def _prefixed(table: xr.Dataset, prefix: str) -> xr.Dataset:
    return table.rename({n: f"{prefix}{n}" for n in table.data_vars})


def _unprefixed(ds: xr.Dataset, prefix: str) -> xr.Dataset:
    chosen = ds[[n for n in ds.data_vars if str(n).startswith(prefix)]]
    table = chosen.rename({n: str(n).removeprefix(prefix) for n in chosen.data_vars})
    dims = {d for v in table.data_vars.values() for d in v.dims}
    table = table.drop_vars([c for c in table.coords if c not in dims])
    table.attrs = {}
    return table


def from_dataset(ds: xr.Dataset) -> FitResult:
    """The result that ``to_dataset`` made this of."""
    names = [str(n) for n in ds["parameter"].values]

    def by_name(variable: str) -> dict[str, Any]:
        return dict(zip(names, ds[variable].values.tolist(), strict=True))

    theta, fixed = by_name("theta"), by_name("is_fixed")
    return FitResult(
        parameters=tuple(_parameter(ds, i, n) for i, n in enumerate(names)),
        theta=theta,
        uncertainties=_read_uncertainties(ds),
        at_bound={n: bool(v) for n, v in by_name("at_bound").items()},
        fixed={n: theta[n] for n in names if fixed[n]},
        start=by_name("start"),
        phi=ds["phi"].values,
        q=_read_q(ds),
        q_ref=float(ds.attrs.get("q_ref", np.nan)),
        contrast=ds["contrast"].values,
        offset=ds["offset"].values,
        chi2_per_angle=ds["chi2_per_angle"].values,
        sigma=ds["sigma"].values,
        status=Status(ds.attrs["status"]),
        curve_table=_unprefixed(ds, _CURVES),
        diagnostics=_unprefixed(ds, _DIAGNOSTICS),
        optima=_unprefixed(ds, _OPTIMA),
        history=ds[[n for n in HISTORY_VARIABLES if n in ds]].reset_coords(drop=True),
        memory=Memory(
            **json.loads(ds.attrs["memory"]),
            series_seconds=ds["seconds_since_start"].values,
            series_gb=ds["rss"].values,
        ),
        decision=_decision(json.loads(ds.attrs["decision"])),
        residual_histogram=(ds["residual_edges"].values, ds["residual_counts"].values),
        provenance=json.loads(ds.attrs["provenance"]),
        weighting=Weighting(**json.loads(ds.attrs.get("weighting", "{}"))),
        undetermined=tuple(json.loads(ds.attrs["undetermined"])),
        findings=tuple(json.loads(ds.attrs["findings"])),
        warnings=tuple(json.loads(ds.attrs["warnings"])),
        **{n: ds.attrs[n] for n in _SCALARS},
    )


def _parameter(ds: xr.Dataset, i: int, name: str) -> Parameter:
    lower, upper = float(ds["lower"][i]), float(ds["upper"][i])
    start = min(max(float(ds["start"][i]), lower), upper)
    return Parameter(
        name, str(ds["unit"].values[i]), start, lower, upper, float(ds["scale"][i]), str(ds["description"].values[i])
    )


def _read_uncertainties(ds: xr.Dataset) -> dict[str, Uncertainty]:
    null = ds["null"].values
    return {
        method: Uncertainty(
            method,
            ds[f"root_{method}"].values,
            np.asarray(null, dtype=float),
            ds[f"contrast_stderr_{method}"].values,
            ds[f"offset_stderr_{method}"].values,
            float(dof),
        )
        for method, dof in json.loads(ds.attrs["dof"]).items()
    }


def _read_q(ds: xr.Dataset) -> np.ndarray:
    """(n_phi,); files of earlier versions name the one q with the data, if at all."""
    stated = ds["q"].values if "q" in ds.coords else json.loads(ds.attrs["provenance"]).get("dataset", {}).get("q")
    values = np.asarray(np.nan if stated is None else stated, dtype=float)
    return np.array(np.broadcast_to(values, ds["phi"].shape))


def _decision(record: dict[str, Any]) -> Decision:
    return Decision(**{**record, "log_lines": tuple(record["log_lines"])})
