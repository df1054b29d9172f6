"""What a fit returns: parameters with errors, how it got there, and what it cost."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from homodyne.errors import InputError
from homodyne.files import save_whole
from homodyne.parameters import Parameter
from homodyne.result.intervals import linear_interval
from homodyne.result.records import Decision, Memory, Status, Uncertainty, Weighting

HISTORY_VARIABLES = {
    "stage": "subset (warm-up on a part of the frames) or full (every point); full_2: of the second of several optima",
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


@dataclasses.dataclass(frozen=True)
class FitResult:
    """A finished fit.

    Attributes:
        parameters: the model's parameters with unit and bounds, in model order (p of them).
        theta: physical parameters by name. contrast, offset: scaling per sector (n_phi,).
        phi, q: azimuth [degree] and wave vector [1/angstrom] of every sector, (n_phi,). q_ref: where there are several q
            their geometric mean, at which D0, D_offset and J(t) of models of joint q hold; NaN at one q.
        uncertainties: errors by method; ``covariance_method`` names the one behind ``stderr`` and ``interval``.
        undetermined: parameters that the data leave open within their bounds: their error is inf.
        findings: what the noise is, and what the data determine and what not, as sentences.
        n_points: unordered pairs that entered the sum; n_parameters: free physical and scaling parameters.
        chi2_reduced: sum of squared residuals over sigma**2 per degree of freedom.
        curve_table: see ``curves``. diagnostics: what the residuals say, by angle, lag and age; see docs/errors.md.
        history: one row a pass; see ``HISTORY_VARIABLES``.
        optima: local optima found on a subset of frames before the fit, best first: theta, chi2, origin.
        provenance: data fingerprint, options, versions.
        weighting: of the pairs, and what the other way would have given.
    """

    model: str
    convention: str
    scaling: str
    strategy: str
    parameters: tuple[Parameter, ...]
    theta: dict[str, float]
    uncertainties: Mapping[str, Uncertainty]
    covariance_method: str
    undetermined: tuple[str, ...]
    at_bound: dict[str, bool]
    fixed: dict[str, float]
    start: dict[str, float]
    start_source: str
    phi: np.ndarray
    q: np.ndarray
    q_ref: float
    contrast: np.ndarray
    offset: np.ndarray
    n_points: int
    n_parameters: int
    chi2_reduced: float
    chi2_per_angle: np.ndarray
    sigma: np.ndarray
    sigma_source: str
    condition: float
    status: Status
    message: str
    curve_table: xr.Dataset
    diagnostics: xr.Dataset
    history: xr.Dataset
    memory: Memory
    decision: Decision
    residual_histogram: tuple[np.ndarray, np.ndarray]
    optima: xr.Dataset = dataclasses.field(default_factory=xr.Dataset)
    findings: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weighting: Weighting = dataclasses.field(default_factory=Weighting)
    live: Any = dataclasses.field(default=None, repr=False, compare=False)  # data and model, see homodyne.fitting.Live

    @property
    def converged(self) -> bool:
        """True only when the convergence tests were met."""
        return self.status is Status.CONVERGED

    @property
    def q_values(self) -> tuple[float, ...]:
        """The different q [1/angstrom], in order of their first sectors."""
        return tuple(dict.fromkeys(self.q.tolist()))

    @property
    def uncertainty(self) -> Uncertainty:
        """Errors by the chosen method."""
        return self.uncertainties[self.covariance_method]

    @property
    def stderr(self) -> dict[str, float]:
        """Standard errors by name: 0 where fixed, inf where undetermined, NaN at a bound (all at an infeasible border)."""
        return self.stderr_by(self.covariance_method)

    @property
    def contrast_stderr(self) -> np.ndarray:
        """Standard errors of the contrasts, (n_phi,)."""
        return self.uncertainty.contrast_stderr

    @property
    def offset_stderr(self) -> np.ndarray:
        """Standard errors of the offsets, (n_phi,)."""
        return self.uncertainty.offset_stderr

    @property
    def covariance(self) -> xr.DataArray:
        """(p, p) covariance of the physical parameters, in their units; inf and NaN for undetermined ones."""
        return self.covariance_by(self.covariance_method)

    @property
    def correlation(self) -> xr.DataArray:
        """(p, p) correlation matrix; NaN for fixed and undetermined parameters."""
        covariance = self.covariance
        sd = np.sqrt(np.diag(covariance.values))
        with np.errstate(invalid="ignore", divide="ignore"):
            return covariance / np.where((sd > 0) & np.isfinite(sd), np.outer(sd, sd), np.nan)

    @property
    def chi2_unit(self) -> float:
        """Of chi2 in the iid errors: chi2_reduced but where a robust loss counts chi2 otherwise."""
        return float(self.provenance.get("loss", {}).get("unit", self.chi2_reduced))

    def stderr_by(self, method: str) -> dict[str, float]:
        """Standard errors by another method: ``speckle``, ``repetitions``, ``jackknife`` or ``iid``.

        Raises:
            InputError: the method was not computed.
        """
        sd = np.sqrt(np.diag(self.covariance_by(method).values))
        open_ones = {p.name for p in self.parameters if self._without_error(p.name)}
        return {
            p.name: float("nan") if p.name in open_ones else float(s) for p, s in zip(self.parameters, sd, strict=True)
        }

    def covariance_by(self, method: str) -> xr.DataArray:
        """The covariance by another method."""
        if method not in self.uncertainties:
            raise InputError("method", method, "was not computed", f"choose one of {', '.join(self.uncertainties)}")
        root = self.uncertainties[method].root
        theta = root @ root.T
        names = [p.name for p in self.parameters]
        for i in (names.index(n) for n in self.undetermined):
            theta[i, :] = theta[:, i] = np.nan
            theta[i, i] = np.inf
        return xr.DataArray(theta, dims=("parameter", "parameter_"), coords={"parameter": names, "parameter_": names})

    def interval(self, name: str, level: float = 0.6827, method: str | None = None) -> tuple[float, float]:
        """Confidence interval of a parameter, theta -+ quantile x error; (-inf, inf) where it is undetermined.

        Quantiles are those of the normal distribution, for jackknife and repetitions of the t distribution. Where the model is far
        from linear, ``profile(name)`` gives an asymmetric one.

        Raises:
            InputError: unknown name or method, or a level outside (0, 1).
        """
        chosen = method or self.covariance_method
        if name not in self.theta:
            raise InputError("name", name, "is not a parameter", f"choose one of {', '.join(self.theta)}")
        stderr = self.stderr_by(chosen)[name]
        return linear_interval(self.theta[name], stderr, level, self.uncertainties[chosen].dof)

    def curves(self) -> xr.Dataset:
        """The rates and their integrals over t [s] with standard errors, by the chosen method.

        J(t) [angstrom^2/s], gamma_dot(t) [1/s], their integrals A(t) [angstrom^2] and G(t), each with ``_stderr`` (delta
        method with the full covariance), and by every method M ``_stderr_M``; NaN where a parameter is at its bound. Often well known where the parameters are not.
        """
        return self.curve_table

    def profile(self, name: str, **settings: Any) -> Any:
        """Profile likelihood of a parameter; needs the data, so it works on what ``homodyne.fit`` returned.

        Settings and result are those of ``homodyne.profile``.

        Raises:
            InputError: the result was read from a file; call ``homodyne.profile(dataset, result, name)`` then.
        """
        if self.live is None:
            raise InputError(
                "profile", name, "needs the data, and this result was read from a file",
                "call homodyne.profile(dataset, result, name)",
            )  # fmt: skip
        return self.live.profile(self, name, **settings)

    def table(self) -> str:
        """Parameters as text: name, unit, value, error by the chosen method and by the others in brackets, remark.

        (uniform): what the error of a fit with uniform weights would have been.
        """
        methods = [
            m for m in ("repetitions", "jackknife", "iid") if m in self.uncertainties and m != self.covariance_method
        ]
        others = {m: self.stderr_by(m) for m in methods}
        if self.weighting.name == "whitened":
            methods, others["uniform"] = [*methods, "uniform"], self.weighting.uniform_stderr
        widths = {m: max(12, len(m) + 2) for m in methods}
        heads = "".join(f" {'(' + m + ')':>{widths[m]}}" for m in methods)
        rows = [f"{'parameter':<18} {'unit':<18} {'value':>14} {self.covariance_method:>12}{heads}  remark"]
        stderr = self.stderr
        for p in self.parameters:
            beside = "".join(f" {others[m][p.name]:>{widths[m]}.3g}" for m in methods)
            rows.append(
                f"{p.name:<18} {p.unit:<18} {self.theta[p.name]:>14.6g} {stderr[p.name]:>12.3g}{beside}"
                f"  {self._remark(p.name)}".rstrip()
            )
        if "q_exponent" in self.theta:
            rows.append(f"D(q) = D(q_ref) (q / q_ref)**q_exponent, q_ref = {self.q_ref:g} 1/angstrom")
        return "\n".join(rows)

    def sector_table(self) -> str:
        """Sectors as text: q, phi, contrast and offset with their errors, chi2 per point and what noise alone makes of it."""
        heads = ("q", "phi", "contrast", "error", "offset", "error", "chi2/N", "(noise)")
        rows = ["{:>10} {:>8} {:>10} {:>9} {:>10} {:>9} {:>8} {:>8}".format(*heads)]
        nothing = np.full(len(self.phi), np.nan)
        expected = self.diagnostics["chi2_expected"].values if "chi2_expected" in self.diagnostics else nothing
        columns = (
            self.q, self.phi, self.contrast, self.contrast_stderr, self.offset, self.offset_stderr, self.chi2_per_angle,
            expected,
        )  # fmt: skip
        rows += [
            "{:>10.6g} {:>8.4g} {:>10.5f} {:>9.2g} {:>10.6f} {:>9.2g} {:>8.3f} {:>8.3f}".format(*row)
            for row in zip(*columns, strict=True)
        ]
        return "\n".join(rows)

    def _remark(self, name: str) -> str:
        if name in self.fixed:
            return "fixed"
        if self.at_bound[name]:
            return "at bound"
        return "undetermined" if name in self.undetermined else ""

    def _without_error(self, name: str) -> bool:
        """Beside a bound, or where a rate's sign stopped the fit, the quadratic picture behind an error does not hold."""
        return self.at_bound[name] or (self.status is Status.BORDER and name not in self.fixed)

    def to_dataset(self) -> xr.Dataset:
        """Everything as one xarray.Dataset with units; strings and nested records as JSON attributes."""
        from homodyne.result.storage import to_dataset

        return to_dataset(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write ``to_dataset()`` as NetCDF; the file appears complete or not at all.

        Raises:
            InputError: the folder does not exist or is not writable.
        """
        return save_whole(path, lambda partial: self.to_dataset().to_netcdf(partial, engine="netcdf4"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FitResult:
        """Read a file written by ``save``."""
        from homodyne.result.storage import from_dataset

        if not Path(path).is_file():
            raise InputError("path", str(path), "does not exist", "give the result.nc of a fit")
        with xr.open_dataset(path, engine="netcdf4") as opened:
            return from_dataset(opened.load())
