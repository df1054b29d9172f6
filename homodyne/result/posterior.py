"""What sampling returns: draws of the parameters with their diagnostics."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from homodyne.errors import InputError
from homodyne.files import save_whole
from homodyne.result.arviz import load_arviz

_MOST_RHAT, _LEAST_ESS = 1.01, 400.0


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Draws from a posterior.

    Attributes:
        idata: ``arviz.InferenceData``; group posterior: free parameters (chain, draw), contrast and offset
            (chain, draw, phi); group sample_stats: lp, n_steps, acceptance_rate, diverging, log_weight.
        names, units: of the free parameters. priors: as text, by name.
        method: nuts or cmc. likelihood: honest or iid. model, convention, scaling: of the fit.
        rhat, ess: by name, of the chains that were run (of shards the worst).
        divergences: draws after which the sampler lost its way, of all chains.
        summary_error: largest error of the log-likelihood that exact passes at some draws have shown.
        pareto_k: shape of the importance weights; 0 where none were needed.
        fit_theta, fit_covariance: the fit it is built on, of the free parameters. fixed: values of the others.
        shards: azimuths of the sectors of every shard. seconds, peak_gb, worker_gb: what it took.
        findings, warnings: sentences.
        settings: chains, draws, seed and the like.
    """

    idata: Any
    names: tuple[str, ...]
    units: tuple[str, ...]
    priors: Mapping[str, str]
    method: str
    likelihood: str
    model: str
    convention: str
    scaling: str
    rhat: Mapping[str, float]
    ess: Mapping[str, float]
    divergences: int
    summary_error: float
    pareto_k: float
    fit_theta: Mapping[str, float]
    fit_covariance: np.ndarray
    n_points: int
    seconds: float
    peak_gb: float
    shards: tuple[tuple[float, ...], ...] = ()
    worker_gb: tuple[float, ...] = ()
    findings: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def converged(self) -> bool:
        """R-hat below 1.01 and an effective sample size above 400 for every parameter, and weights that can be trusted."""
        return self.status == "converged"

    @property
    def status(self) -> str:
        """``converged``, or what failed: ``not_mixed``, ``too_few_draws``, ``weights_failed``."""
        if not max(self.rhat.values()) < _MOST_RHAT:
            return "not_mixed"
        if not min(self.ess.values()) >= _LEAST_ESS:
            return "too_few_draws"
        return "converged" if self.pareto_k < 0.7 else "weights_failed"

    @property
    def message(self) -> str:
        """What the status means, and what to do."""
        worst = max(self.rhat, key=lambda name: self.rhat[name])
        least = min(self.ess, key=lambda name: self.ess[name])
        return {
            "converged": f"R-hat at most {self.rhat[worst]:.3f}, effective sample size at least {self.ess[least]:.0f}.",
            "not_mixed": f"The chains do not agree: R-hat of {worst} is {self.rhat[worst]:.3f}, it must be below {_MOST_RHAT}. Do "
            "not use these draws; raise n_warmup and n_samples, or fix parameters that the fit calls undetermined.",
            "too_few_draws": f"The effective sample size of {least} is {self.ess[least]:.0f}, below {_LEAST_ESS:.0f}: means and "
            "widths are rough. Raise n_samples.",
            "weights_failed": f"The shards do not combine to the posterior: Pareto shape {self.pareto_k:.2f} of the importance "
            "weights, it must be below 0.7. Use method='nuts', or fewer shards.",
        }[self.status]

    @property
    def weights(self) -> np.ndarray:
        """Of the draws, (chain * draw,), adding up to one."""
        log_weight = self.idata.sample_stats["log_weight"].values.reshape(-1)
        weight = np.exp(log_weight - log_weight.max())
        return np.asarray(weight / weight.sum())

    def draws(self, name: str) -> np.ndarray:
        """Values of a parameter, (chain * draw,); ``weights`` go with them.

        Raises:
            InputError: not a free parameter.
        """
        if name not in self.names:
            raise InputError(
                "name", name, "is not a parameter that was sampled", f"choose one of {', '.join(self.names)}"
            )
        return np.asarray(self.idata.posterior[name].values.reshape(-1))

    @property
    def mean(self) -> dict[str, float]:
        """Posterior means."""
        return {name: float(self.weights @ self.draws(name)) for name in self.names}

    @property
    def sd(self) -> dict[str, float]:
        """Posterior standard deviations."""
        return dict(zip(self.names, np.sqrt(np.diag(self.covariance.values)).tolist(), strict=True))

    @property
    def covariance(self) -> xr.DataArray:
        """(f, f) of the free parameters, in their units."""
        values = np.stack([self.draws(name) for name in self.names])
        matrix = np.atleast_2d(np.cov(values, aweights=self.weights, ddof=0))
        return self._matrix(matrix)

    @property
    def correlation(self) -> xr.DataArray:
        """(f, f) correlation matrix."""
        covariance = self.covariance.values
        sd = np.sqrt(np.diag(covariance))
        return self._matrix(covariance / np.outer(sd, sd))

    def _matrix(self, values: np.ndarray) -> xr.DataArray:
        names = list(self.names)
        return xr.DataArray(values, dims=("parameter", "parameter_"), coords={"parameter": names, "parameter_": names})

    def interval(self, name: str, level: float = 0.6827) -> tuple[float, float]:
        """Credible interval with equal probability on either side.

        Raises:
            InputError: not a free parameter, or a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise InputError("level", level, "must lie between 0 and 1", "0.6827 is one standard error, 0.95 is common")
        values = self.draws(name)
        order = np.argsort(values)
        reached = np.cumsum(self.weights[order])
        ends = np.interp([0.5 * (1 - level), 0.5 * (1 + level)], reached, values[order])
        return float(ends[0]), float(ends[1])

    def table(self) -> str:
        """Parameters as text: mean, sd, 95 % interval, R-hat, effective sample size, beside the fit."""
        rows = [
            f"{'parameter':<18} {'unit':<18} {'mean':>12} {'sd':>10} {'2.5 %':>12} {'97.5 %':>12} {'R-hat':>7} {'ESS':>7}"
            f" {'fit':>12} {'error':>10}"
        ]
        mean, sd, error = self.mean, self.sd, np.sqrt(np.diag(self.fit_covariance))
        for name, unit, of_fit in zip(self.names, self.units, error, strict=True):
            low, high = self.interval(name, 0.95)
            rows.append(
                f"{name:<18} {unit:<18} {mean[name]:>12.6g} {sd[name]:>10.3g} {low:>12.6g} {high:>12.6g}"
                f" {self.rhat[name]:>7.4f} {self.ess[name]:>7.0f} {self.fit_theta[name]:>12.6g} {of_fit:>10.3g}"
            )
        return "\n".join(rows)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything as one NetCDF file that arviz can read; it appears complete or not at all.

        Raises:
            InputError: the folder does not exist or is not writable.
        """
        idata = self.idata.copy()
        facts = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("idata", "fit_covariance")
        }
        idata.posterior.attrs["homodyne"] = json.dumps({**facts, "fit_covariance": self.fit_covariance.tolist()})
        return save_whole(path, lambda partial: idata.to_netcdf(str(partial)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Posterior:
        """Read a file written by ``save``.

        Raises:
            InputError: the file does not exist, or holds no posterior of ours.
        """
        if not Path(path).is_file():
            raise InputError("path", str(path), "does not exist", "give the posterior.nc of a run")
        idata = load_arviz().from_netcdf(str(path))
        if "homodyne" not in idata.posterior.attrs:
            raise InputError("path", str(path), "was not written by Posterior.save", "give the posterior.nc of a run")
        facts = json.loads(idata.posterior.attrs.pop("homodyne"))
        facts["fit_covariance"] = np.array(facts["fit_covariance"])
        for name in ("names", "units", "worker_gb", "findings", "warnings"):
            facts[name] = tuple(facts[name])
        return cls(idata=idata, **{**facts, "shards": tuple(tuple(s) for s in facts["shards"])})
