"""From draws to a Posterior: diagnostics of the chains, values of contrast and offset, what a user must be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.optimization.posterior.nuts import Draws
from homodyne.optimization.posterior.priors import Prior
from homodyne.optimization.posterior.target import Whole
from homodyne.optimization.source import BlockSource, sector_names
from homodyne.parameters import Parameter
from homodyne.result import FitResult
from homodyne.result.arviz import load_arviz
from homodyne.result.posterior import Posterior

# Largest error of the log-likelihood of a summary that is accepted.
WORST_ERROR = 0.1
# Departure of a shard, in standard deviations, that is named; part of the draws that may diverge; width of a posterior in
# units of its prior's from which on the prior decides.
_DISAGREE, _DIVERGING, _WIDE = 4.0, 0.01, 0.5


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a posterior is sampled; see ``homodyne.sample``. ``groups``: sectors of the shards, none for all data at once."""

    likelihood: str
    n_chains: int
    n_samples: int
    n_warmup: int
    seed: int
    n_workers: int
    combiner: str
    groups: tuple[np.ndarray, ...] = ()
    folder: Path | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """Draws of the whole posterior; chains are those that were run: of all data, or of every shard."""

    whole: Whole
    z: np.ndarray
    log_density: np.ndarray
    log_weights: np.ndarray
    pareto_k: float
    chains: list[Draws]
    error: float
    worker_gb: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Sampled:
    """What was sampled: the fit, its free parameters with their priors, and how."""

    source: BlockSource
    result: FitResult
    parameters: tuple[Parameter, ...]
    priors: tuple[Prior, ...]
    free: np.ndarray
    settings: Settings

    def posterior(self, found: Found, seconds: float, peak_gb: float) -> Posterior:
        """The record."""
        rhat, ess = self._diagnostics(found)
        result, chosen = self.result, self.settings
        root = result.uncertainty.root[self.free]
        if chosen.likelihood == "iid":
            root = result.uncertainties["iid"].root[self.free]
        names = tuple(p.name for p in self.parameters)
        return Posterior(
            idata=self._idata(found), names=names, units=tuple(p.unit for p in self.parameters),
            priors={p.name: prior.text(p) for p, prior in zip(self.parameters, self.priors, strict=True)},
            method="cmc" if chosen.groups else "nuts", likelihood=chosen.likelihood, model=result.model,
            convention=result.convention, scaling=result.scaling, rhat=rhat, ess=ess,
            divergences=int(sum(draws.diverging.sum() for draws in found.chains)), summary_error=found.error,
            pareto_k=found.pareto_k, fit_theta={name: result.theta[name] for name in names},
            fixed=dict(result.fixed), fit_covariance=root @ root.T, n_points=result.n_points, seconds=seconds, peak_gb=peak_gb,
            shards=tuple(tuple(float(result.phi[k]) for k in group) for group in chosen.groups),
            worker_gb=found.worker_gb, findings=tuple(self._findings(found)), warnings=tuple(self._warnings(found)),
            settings={
                "n_chains": chosen.n_chains, "n_samples": chosen.n_samples, "n_warmup": chosen.n_warmup,
                "seed": chosen.seed, "n_workers": chosen.n_workers, "combiner": chosen.combiner if chosen.groups else "",
            },
        )  # fmt: skip

    def _diagnostics(self, found: Found) -> tuple[dict[str, float], dict[str, float]]:
        """R-hat and effective sample size of the parameters from the chains that were run, of shards the worst."""
        arviz = load_arviz()
        rhat = {p.name: 0.0 for p in self.parameters}
        ess = {p.name: np.inf for p in self.parameters}
        for draws in found.chains:
            theta = _thetas(found.whole, draws.z)
            data = arviz.convert_to_dataset({p.name: theta[..., i] for i, p in enumerate(self.parameters)})
            mixed, size = arviz.rhat(data), arviz.ess(data)
            for name in rhat:
                rhat[name] = max(rhat[name], float(mixed[name]))
                ess[name] = min(ess[name], float(size[name]))
        if len(found.chains) > 1 and np.any(found.log_weights != found.log_weights.flat[0]):
            weights = np.exp(found.log_weights - found.log_weights.max())
            size = float(weights.sum() ** 2 / (weights**2).sum())
            ess = {name: min(value, size) for name, value in ess.items()}
        return rhat, ess

    def _idata(self, found: Found) -> Any:
        arviz = load_arviz()
        theta = _thetas(found.whole, found.z)
        scaling = np.asarray(_scalings(found.whole, jnp.asarray(found.z)))
        posterior = {p.name: theta[..., i] for i, p in enumerate(self.parameters)}
        posterior |= {"contrast": scaling[..., 0], "offset": scaling[..., 1]}
        stats: dict[str, np.ndarray] = {"lp": found.log_density, "log_weight": found.log_weights}
        if len(found.chains) == 1:
            only = found.chains[0]
            stats |= {"n_steps": only.n_steps, "acceptance_rate": only.acceptance, "diverging": only.diverging}
        idata = arviz.from_dict(
            posterior, sample_stats=stats, coords={"phi": np.asarray(self.source.phi, dtype=float)},
            dims={"contrast": ["phi"], "offset": ["phi"]},
        )  # fmt: skip
        for p in self.parameters:
            idata.posterior[p.name].attrs["units"] = p.unit
        return idata

    def _findings(self, found: Found) -> Iterator[str]:
        yield "Priors: " + "; ".join(
            f"{p.name} {prior.text(p)}" for p, prior in zip(self.parameters, self.priors, strict=True)
        )
        for p, share in zip(self.parameters, self._prior_share(found), strict=True):
            if share > _WIDE:
                yield f"{p.name}: the posterior is as wide as its prior, which decides its mean and its width"

    def _prior_share(self, found: Found) -> np.ndarray:
        """Posterior sd over that of the uniform distribution within the bounds, (f,)."""
        theta = _thetas(found.whole, found.z).reshape(-1, len(self.parameters))
        weights = np.exp(found.log_weights - found.log_weights.max()).reshape(-1)
        sd = np.sqrt(np.atleast_1d(np.diag(np.atleast_2d(np.cov(theta.T, aweights=weights)))))
        return np.asarray(sd / np.array([(p.upper - p.lower) / np.sqrt(12) for p in self.parameters]))

    def _warnings(self, found: Found) -> Iterator[str]:
        if self.settings.likelihood == "iid":
            yield (
                "likelihood=iid takes all pairs for independent, which they are not: these intervals are too narrow, as iid "
                "errors are. Use it for comparison only."
            )
        n = sum(draws.diverging.size for draws in found.chains)
        n_diverging = int(sum(draws.diverging.sum() for draws in found.chains))
        if n_diverging > _DIVERGING * n:
            yield (
                f"{n_diverging} of {n} draws diverged: the posterior has corners that the sampler may not reach, at a bound or "
                "where a rate changes its sign. Compare with profile(), or fix a parameter."
            )
        if found.error > WORST_ERROR:
            yield (
                f"The summary of the data misses up to {found.error:.2g} of the log-likelihood at the draws: the posterior is "
                "wider than the space of changes it holds. Means and widths are rough."
            )
        if self.settings.groups:
            yield from self._disagreeing(found)

    def _disagreeing(self, found: Found) -> Iterator[str]:
        """Shards whose estimate departs from that of all by more than their honest errors, and their worst sector."""
        result = self.result
        if "share" not in result.diagnostics or self.settings.likelihood == "iid":
            return
        moved = [p.name for p in self.parameters if not result.at_bound[p.name]]
        places = [i for i, p in enumerate(self.parameters) if p.name in moved]
        shift = (found.whole.misfit.scores() @ np.asarray(found.whole.metric.inverse))[:, places]
        shift = shift - shift.mean(0)
        variance = result.diagnostics["share"].values * np.array([result.stderr[name] ** 2 for name in moved])
        named = sector_names(self.source)
        for m, group in enumerate(self.settings.groups):
            with np.errstate(divide="ignore", invalid="ignore"):
                pull = np.abs(shift[group].sum(0)) / np.sqrt(variance[group].sum(0))
                single = np.abs(shift[group]) / np.sqrt(variance[group])
            pull = np.nan_to_num(pull)
            if pull.max(initial=0.0) <= _DISAGREE:
                continue
            i = int(np.argmax(pull))
            worst = named[int(group[int(np.argmax(np.nan_to_num(single[:, i])))])]
            yield (
                f"Shard {m + 1} disagrees with the others about {moved[i]} by {pull[i]:.1f} standard errors, most of it at phi = "
                f"{worst}: look at the residuals there, or leave that sector out."
            )


@jax.jit
def _scalings(whole: Whole, z: jax.Array) -> jax.Array:
    """Contrast and offset that go with draws (chains, draws, f): (chains, draws, n_phi, 2)."""

    def one(point: jax.Array) -> jax.Array:
        return whole.misfit.scaling + whole.misfit.change(whole.coordinates.theta(point)).scaling

    flat = jax.lax.map(one, z.reshape(-1, z.shape[-1]), batch_size=64)
    return flat.reshape(*z.shape[:-1], *flat.shape[1:])


def _thetas(whole: Whole, z: np.ndarray) -> np.ndarray:
    """Free parameters of draws (chains, draws, f)."""
    return np.asarray(jax.vmap(jax.vmap(whole.coordinates.theta))(jnp.asarray(z)))
