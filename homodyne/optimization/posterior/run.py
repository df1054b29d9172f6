"""From a finished fit to draws: the summary, chains, exact checks, diagnostics."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Model
from homodyne.optimization.nlsq.finished import Finished
from homodyne.optimization.nlsq.memory import MemoryMonitor
from homodyne.optimization.posterior.consensus import combine, log_densities
from homodyne.optimization.posterior.coordinates import make_coordinates
from homodyne.optimization.posterior.likelihood import make_misfit
from homodyne.optimization.posterior.memory import estimate_cmc_memory_gb
from homodyne.optimization.posterior.metric import Metric, honest_metric, iid_metric
from homodyne.optimization.posterior.nuts import Draws, draw
from homodyne.optimization.posterior.priors import Prior
from homodyne.optimization.posterior.summary import Fit, summarize
from homodyne.optimization.posterior.target import Whole, make_shards
from homodyne.optimization.posterior.valley import straightened
from homodyne.optimization.posterior.workers import draw_shards
from homodyne.optimization.source import BlockSource, sector_names
from homodyne.result import FitResult
from homodyne.result.arviz import load_arviz
from homodyne.result.posterior import Posterior

log = logging.getLogger("homodyne")

# Snapshots, and by how much wider than the errors of the fit they are spread at first.
_SNAPSHOTS, _SPREAD = 32, 1.5
# Spread of those from which second derivatives are taken.
_NEAR = 0.5
# Draws at which the summary is compared with exact passes, the largest error of the log-likelihood, and how often it is
# made anew with better snapshots.
_CHECKS, _WORST, _ROUNDS = 8, 0.1, 3
# Proposals from which the first snapshots of a posterior that is no normal distribution are resampled.
_PROPOSALS = 2000
# Departure of a shard, or a sector, in standard deviations that is named.
_DISAGREE = 4.0


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


def run(
    source: BlockSource,
    model: Model,
    result: FitResult,
    finished: Finished,
    priors: tuple[Prior, ...],
    settings: Settings,
) -> Posterior:
    """Sample the posterior around a finished fit."""
    began = time.perf_counter()
    with MemoryMonitor() as monitor:
        sampler = _Sampler(source, model, result, finished, priors, settings)
        found = sampler.sample()
    _, gb = monitor.series()
    return sampler.posterior(found, time.perf_counter() - began, float(gb.max()))


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


class _Sampler:
    def __init__(self, source, model, result, finished, priors, settings) -> None:
        self._source, self._model, self._result, self._finished = source, model, result, finished
        self._settings: Settings = settings
        self._free = finished.request.free
        self._parameters = tuple(p for p, free in zip(result.parameters, self._free, strict=True) if free)
        self._priors = tuple(prior for prior, free in zip(priors, self._free, strict=True) if free)
        pairs = np.stack([result.contrast, result.offset], axis=1)
        self._fit = Fit(finished.best, pairs, self._free)
        self._metric = self._make_metric()
        self._plain = self._coordinates = make_coordinates(
            self._parameters, self._priors, finished.best[self._free], self._metric
        )
        self._rng = np.random.default_rng([settings.seed, 0])

    def _make_metric(self) -> Metric:
        hessian, result = self._finished.hessian(), self._result
        if self._settings.likelihood == "iid":
            return iid_metric(hessian, result.chi2_reduced)
        moved = np.array([not result.at_bound[p.name] for p in self._parameters])
        return honest_metric(hessian, result.uncertainty.root[self._free], moved)

    def sample(self) -> Found:
        """Chains on a summary that exact passes have confirmed."""
        n_free = len(self._parameters)
        self._straighten()
        snapshots = _SPREAD * self._rng.standard_normal((_SNAPSHOTS, n_free))
        for round_ in range(_ROUNDS):
            whole = self._summarized(snapshots)
            error, tried = self._error(whole, self._proposed(whole, _CHECKS))
            if error <= _WORST or round_ == _ROUNDS - 1:
                found = self._draw(whole)
                z = found.z.reshape(-1, n_free)
                weights = np.exp(found.log_weights - found.log_weights.max()).reshape(-1)
                picked = self._rng.choice(len(z), _CHECKS, p=weights / weights.sum())
                error, tried = self._error(whole, z[picked])
                if error <= _WORST or round_ == _ROUNDS - 1:
                    log.info(
                        "Log-likelihood at %d draws against passes over all points: largest error %.2g", _CHECKS, error
                    )
                    return dataclasses.replace(found, error=error)
                more = z[self._rng.choice(len(z), _SNAPSHOTS, p=weights / weights.sum())]
            else:
                more = self._proposed(whole, _SNAPSHOTS)
            log.info("The summary misses up to %.2g of a log-likelihood: again, with snapshots from its draws", error)
            snapshots = np.concatenate([snapshots, more, tried])
        raise AssertionError("the last round returns")

    def _straighten(self) -> None:
        """Coordinates that follow curved valleys, from a summary near the fit and another one along the lines so found."""
        for spread in (_NEAR, _SPREAD):
            whole = self._summarized(spread * self._rng.standard_normal((_SNAPSHOTS, len(self._parameters))))
            self._coordinates = straightened(whole, self._plain)
            if self._coordinates.lines.shape[0] == 0:
                break

    def _summarized(self, snapshots: np.ndarray) -> Whole:
        began = time.perf_counter()
        theta = np.broadcast_to(self._fit.theta, (len(snapshots), len(self._fit.theta))).copy()
        theta[:, self._free] = np.asarray(jax.vmap(self._coordinates.theta)(jnp.asarray(snapshots)))
        usable = self._finished.request.feasible(theta)
        min_lag = self._finished.request.min_lag
        summary = summarize(self._model, self._source, self._fit, theta[usable], min_lag)
        misfit = make_misfit(self._model, self._source, self._fit, summary, self._finished.scaling.basis)
        log.info(
            "Summary of %d points: %.2g MB, %d directions of change, %d pairs a sector, %.1f s",
            self._result.n_points, summary.nbytes / 1e6, summary.interpolation.shape[1], summary.rows.shape[1],
            time.perf_counter() - began,
        )  # fmt: skip
        return Whole(misfit, self._metric, self._coordinates)

    def _proposed(self, whole: Whole, n: int) -> np.ndarray:
        """About what the posterior will be, (n, f): resampled from a wide distribution."""
        z = _SPREAD * self._rng.standard_t(5, (_PROPOSALS, len(self._parameters)))
        log_proposal = -3.0 * np.log1p((z / _SPREAD) ** 2 / 5).sum(1)
        weight = log_densities(whole, z[None])[0] - log_proposal
        weight = np.exp(weight - weight.max())
        return np.asarray(z[self._rng.choice(len(z), n, p=weight / weight.sum())])

    def _error(self, whole: Whole, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Largest error of the log-likelihood of the summary at some points (n, f), and those points."""
        worst = 0.0
        for point in z:
            free = self._coordinates.theta(jnp.asarray(point))
            theta = np.array(self._fit.theta)
            theta[self._free] = np.asarray(free)
            change = whole.misfit.change(free)
            ratio = float(self._metric.ratio(self._metric.inverse @ whole.misfit.projection(change)))
            exact = self._finished.change(theta) if self._finished.request.is_feasible(theta) else np.nan
            error = 0.5 * ratio * abs(float(change.chi2.sum()) - exact)
            worst = max(worst, error if np.isfinite(error) else 0.0)
        return worst, z

    def _draw(self, whole: Whole) -> Found:
        chosen = self._settings
        settings: dict[str, Any] = {
            "n_chains": chosen.n_chains, "n_samples": chosen.n_samples, "n_warmup": chosen.n_warmup, "seed": chosen.seed,
        }  # fmt: skip
        if not chosen.groups:
            draws = draw(whole, **settings)
            return Found(whole, draws.z, draws.log_density, np.zeros(draws.z.shape[:2]), 0.0, [draws], 0.0)
        self._announce_shards()
        place = TemporaryDirectory(prefix="homodyne-cmc-") if chosen.folder is None else nullcontext(str(chosen.folder))
        with place as folder:
            draws_of, peaks = draw_shards(
                make_shards(whole, list(chosen.groups)), Path(folder), chosen.n_workers, settings
            )
        combined = combine(whole, draws_of, chosen.combiner, chosen.seed)
        return Found(
            whole,
            combined.z,
            combined.log_density,
            combined.log_weights,
            combined.pareto_k,
            draws_of,
            0.0,
            tuple(peaks),
        )

    def _announce_shards(self) -> None:
        chosen, n_phi = self._settings, len(self._source.phi)
        points = self._result.n_points * max(len(g) for g in chosen.groups) // n_phi
        memory = estimate_cmc_memory_gb(
            min(chosen.n_workers, len(chosen.groups)), points, len(self._parameters) + 2, len(chosen.groups),
            chosen.n_chains, chosen.n_samples,
        )  # fmt: skip
        log.info(
            "Consensus of %d shards of up to %d sectors, %d workers: predicted memory %.2f GB (shards %.4f, draws %.4f, "
            "processes %.2f)", len(chosen.groups), max(len(g) for g in chosen.groups), chosen.n_workers, memory.total_gb,
            memory.shards_gb, memory.results_gb, memory.overhead_gb,
        )  # fmt: skip

    def posterior(self, found: Found, seconds: float, peak_gb: float) -> Posterior:
        """The record."""
        rhat, ess = self._diagnostics(found)
        result, chosen = self._result, self._settings
        root = result.uncertainty.root[self._free]
        if chosen.likelihood == "iid":
            root = result.uncertainties["iid"].root[self._free]
        names = tuple(p.name for p in self._parameters)
        return Posterior(
            idata=self._idata(found), names=names, units=tuple(p.unit for p in self._parameters),
            priors={p.name: prior.text(p) for p, prior in zip(self._parameters, self._priors, strict=True)},
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
        rhat = {p.name: 0.0 for p in self._parameters}
        ess = {p.name: np.inf for p in self._parameters}
        for draws in found.chains:
            theta = self._theta(draws.z)
            data = arviz.convert_to_dataset({p.name: theta[..., i] for i, p in enumerate(self._parameters)})
            mixed, size = arviz.rhat(data), arviz.ess(data)
            for name in rhat:
                rhat[name] = max(rhat[name], float(mixed[name]))
                ess[name] = min(ess[name], float(size[name]))
        if len(found.chains) > 1 and np.any(found.log_weights != found.log_weights.flat[0]):
            weights = np.exp(found.log_weights - found.log_weights.max())
            size = float(weights.sum() ** 2 / (weights**2).sum())
            ess = {name: min(value, size) for name, value in ess.items()}
        return rhat, ess

    def _theta(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(jax.vmap(jax.vmap(self._coordinates.theta))(jnp.asarray(z)))

    def _idata(self, found: Found) -> Any:
        arviz = load_arviz()
        theta = self._theta(found.z)
        scaling = np.asarray(_scalings(found.whole, jnp.asarray(found.z)))
        posterior = {p.name: theta[..., i] for i, p in enumerate(self._parameters)}
        posterior |= {"contrast": scaling[..., 0], "offset": scaling[..., 1]}
        stats: dict[str, np.ndarray] = {"lp": found.log_density, "log_weight": found.log_weights}
        if len(found.chains) == 1:
            only = found.chains[0]
            stats |= {"n_steps": only.n_steps, "acceptance_rate": only.acceptance, "diverging": only.diverging}
        idata = arviz.from_dict(
            posterior, sample_stats=stats, coords={"phi": np.asarray(self._source.phi, dtype=float)},
            dims={"contrast": ["phi"], "offset": ["phi"]},
        )  # fmt: skip
        for p in self._parameters:
            idata.posterior[p.name].attrs["units"] = p.unit
        return idata

    def _findings(self, found: Found) -> Iterator[str]:
        yield "Priors: " + "; ".join(
            f"{p.name} {prior.text(p)}" for p, prior in zip(self._parameters, self._priors, strict=True)
        )
        for p, share in zip(self._parameters, self._prior_share(found), strict=True):
            if share > 0.5:
                yield f"{p.name}: the posterior is as wide as its prior, which decides its mean and its width"

    def _prior_share(self, found: Found) -> np.ndarray:
        """Posterior sd over that of the uniform distribution within the bounds, (f,)."""
        theta = self._theta(found.z).reshape(-1, len(self._parameters))
        weights = np.exp(found.log_weights - found.log_weights.max()).reshape(-1)
        sd = np.sqrt(np.atleast_1d(np.diag(np.atleast_2d(np.cov(theta.T, aweights=weights)))))
        return np.asarray(sd / np.array([(p.upper - p.lower) / np.sqrt(12) for p in self._parameters]))

    def _warnings(self, found: Found) -> Iterator[str]:
        if self._settings.likelihood == "iid":
            yield (
                "likelihood=iid takes all pairs for independent, which they are not: these intervals are too narrow, as iid "
                "errors are. Use it for comparison only."
            )
        n = sum(draws.diverging.size for draws in found.chains)
        n_diverging = int(sum(draws.diverging.sum() for draws in found.chains))
        if n_diverging > 0.01 * n:
            yield (
                f"{n_diverging} of {n} draws diverged: the posterior has corners that the sampler may not reach, at a bound or "
                "where a rate changes its sign. Compare with profile(), or fix a parameter."
            )
        if found.error > _WORST:
            yield (
                f"The summary of the data misses up to {found.error:.2g} of the log-likelihood at the draws: the posterior is "
                "wider than the space of changes it holds. Means and widths are rough."
            )
        if self._settings.groups:
            yield from self._disagreeing(found)

    def _disagreeing(self, found: Found) -> Iterator[str]:
        """Shards whose estimate departs from that of all by more than their honest errors, and their worst sector."""
        result = self._result
        if "share" not in result.diagnostics or self._settings.likelihood == "iid":
            return
        moved = [p.name for p in self._parameters if not result.at_bound[p.name]]
        places = [i for i, p in enumerate(self._parameters) if p.name in moved]
        shift = (found.whole.misfit.scores() @ np.asarray(self._metric.inverse))[:, places]
        shift = shift - shift.mean(0)
        variance = result.diagnostics["share"].values * np.array([result.stderr[name] ** 2 for name in moved])
        named = sector_names(self._source)
        for m, group in enumerate(self._settings.groups):
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
