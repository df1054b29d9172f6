"""From a finished fit to draws: the summary, chains, exact checks, diagnostics."""

from __future__ import annotations

import dataclasses
import logging
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.optimization.nlsq.finished import Finished
from homodyne.optimization.nlsq.memory import MemoryMonitor
from homodyne.optimization.posterior.consensus import combine, log_densities
from homodyne.optimization.posterior.coordinates import make_coordinates
from homodyne.optimization.posterior.likelihood import Misfit, make_misfit
from homodyne.optimization.posterior.memory import estimate_cmc_memory_gb
from homodyne.optimization.posterior.metric import Metric, honest_metric, iid_metric
from homodyne.optimization.posterior.nuts import draw
from homodyne.optimization.posterior.priors import Prior
from homodyne.optimization.posterior.record import WORST_ERROR, Found, Sampled, Settings
from homodyne.optimization.posterior.summary import independent, summarize
from homodyne.optimization.posterior.sums import sums_of
from homodyne.optimization.posterior.target import Whole, fit_precision, make_shards
from homodyne.optimization.posterior.valley import straightened
from homodyne.optimization.posterior.workers import draw_shards
from homodyne.optimization.source import BlockSource, View, all_frames, subset
from homodyne.result import FitResult
from homodyne.result.posterior import Posterior

log = logging.getLogger("homodyne")

# Snapshots, and by how much wider than the errors of the fit they are spread at first.
_SNAPSHOTS, _SPREAD = 32, 1.5
# Spread of those from which second derivatives are taken, and frames that tell where valleys run: any coordinates are right.
_NEAR, _FRAMES = 0.5, 320
# Times the points of those frames, from which on they choose the snapshots that all points see.
_MANY = 4
# Draws at which the summary is compared with exact passes, and how often it is made anew with better snapshots.
_CHECKS, _ROUNDS = 8, 3
# Proposals from which the first snapshots of a posterior that is no normal distribution are resampled.
_PROPOSALS = 2000


def run(
    source: BlockSource, result: FitResult, finished: Finished, priors: tuple[Prior, ...], settings: Settings
) -> Posterior:
    """Sample the posterior around a finished fit."""
    began = time.perf_counter()
    with MemoryMonitor() as monitor:
        free = finished.request.free
        kept = [(p, prior) for p, prior, moves in zip(result.parameters, priors, free, strict=True) if moves]
        sampled = Sampled(source, result, tuple(p for p, _ in kept), tuple(prior for _, prior in kept), free, settings)
        found = _Sampler(finished, sampled).sample()
    _, gb = monitor.series()
    return sampled.posterior(found, time.perf_counter() - began, float(gb.max()))


class _Sampler:
    """From a fit to draws: coordinates, summary, chains, checks."""

    def __init__(self, finished: Finished, of: Sampled) -> None:
        self._finished, self._of = finished, of
        self._sums = sums_of(finished)
        self._metric = self._make_metric()
        self._plain = self._coordinates = make_coordinates(
            of.parameters, of.priors, finished.best[of.free], self._metric
        )
        self._some = subset(of.source, _FRAMES)
        self._rng = np.random.default_rng([of.settings.seed, 0])

    def _make_metric(self) -> Metric:
        hessian, result = self._finished.hessian(), self._of.result
        if self._of.settings.likelihood == "iid":
            return iid_metric(hessian, result.chi2_reduced)
        moved = np.array([not result.at_bound[p.name] for p in self._of.parameters])
        return honest_metric(hessian, result.uncertainty.root[self._of.free], moved)

    def sample(self) -> Found:
        """Chains on a summary that exact passes have confirmed."""
        n_free = len(self._of.parameters)
        self._straighten()
        snapshots = _SPREAD * self._rng.standard_normal((_SNAPSHOTS, n_free))
        for round_ in range(_ROUNDS):
            whole = self._summarized(snapshots)
            error, tried = self._error(whole, self._proposed(whole, _CHECKS))
            if error <= WORST_ERROR or round_ == _ROUNDS - 1:
                found = self._draw(whole)
                z = found.z.reshape(-1, n_free)
                weights = np.exp(found.log_weights - found.log_weights.max()).reshape(-1)
                picked = self._rng.choice(len(z), _CHECKS, p=weights / weights.sum())
                error, tried = self._error(whole, z[picked])
                if error <= WORST_ERROR or round_ == _ROUNDS - 1:
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
            snapshots = spread * self._rng.standard_normal((_SNAPSHOTS, len(self._of.parameters)))
            self._coordinates = straightened(self._misfit(self._some, self._thetas(snapshots)), self._plain)
            if self._coordinates.lines.shape[0] == 0:
                break

    def _thetas(self, snapshots: np.ndarray) -> np.ndarray:
        """All parameters at points (S, f), those left out at which the model makes no sense."""
        theta = np.tile(self._finished.best, (len(snapshots), 1))
        theta[:, self._of.free] = np.asarray(jax.vmap(self._coordinates.theta)(jnp.asarray(snapshots)))
        return theta[self._finished.request.feasible(theta)]

    def _misfit(self, view: View, thetas: np.ndarray) -> Misfit:
        summary = summarize(self._sums, view, thetas)
        return make_misfit(self._sums, self._of.source, summary, self._finished.scaling.basis)

    def _summarized(self, snapshots: np.ndarray) -> Whole:
        began = time.perf_counter()
        thetas, n_points, min_lag = self._thetas(snapshots), self._of.result.n_points, self._finished.request.min_lag
        if n_points > _MANY * self._some.n_points(min_lag):
            thetas = thetas[independent(self._sums, self._some, thetas, n_points)]
        misfit = self._misfit(all_frames(self._of.source), thetas)
        summary = misfit.summary
        log.info(
            "Summary of %d points: %.2g MB, %d directions of change, %d pairs a sector, %.1f s",
            n_points, summary.nbytes / 1e6, summary.interpolation.shape[1], summary.rows.shape[1],
            time.perf_counter() - began,
        )  # fmt: skip
        return Whole(misfit, self._metric, self._coordinates)

    def _proposed(self, whole: Whole, n: int) -> np.ndarray:
        """About what the posterior will be, (n, f): resampled from a wide distribution."""
        z = _SPREAD * self._rng.standard_t(5, (_PROPOSALS, len(self._of.parameters)))
        log_proposal = -3.0 * np.log1p((z / _SPREAD) ** 2 / 5).sum(1)
        weight = log_densities(whole, z[None])[0] - log_proposal
        weight = np.exp(weight - weight.max())
        return np.asarray(z[self._rng.choice(len(z), n, p=weight / weight.sum())])

    def _error(self, whole: Whole, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Largest error of the log-likelihood of the summary at some points (n, f), and those points."""
        worst = 0.0
        for point in z:
            free, chi2, ratio = (np.asarray(x) for x in _told(whole, jnp.asarray(point)))
            theta = self._finished.best.copy()
            theta[self._of.free] = free
            exact = self._finished.change(theta) if self._finished.request.is_feasible(theta) else np.nan
            error = float(0.5 * ratio * abs(chi2 - exact))
            worst = max(worst, error if np.isfinite(error) else np.inf)
        return worst, z

    def _draw(self, whole: Whole) -> Found:
        chosen = self._of.settings
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
        combined = combine(whole, draws_of, fit_precision(whole), chosen.combiner, chosen.seed)
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
        chosen, n_phi = self._of.settings, len(self._of.source.phi)
        points = self._of.result.n_points * max(len(g) for g in chosen.groups) // n_phi
        memory = estimate_cmc_memory_gb(
            min(chosen.n_workers, len(chosen.groups)), points, len(self._of.parameters) + 2, len(chosen.groups),
            chosen.n_chains, chosen.n_samples,
        )  # fmt: skip
        log.info(
            "Consensus of %d shards of up to %d sectors, %d workers: predicted memory %.2f GB (shards %.4f, draws %.4f, "
            "processes %.2f)", len(chosen.groups), max(len(g) for g in chosen.groups), chosen.n_workers, memory.total_gb,
            memory.shards_gb, memory.results_gb, memory.overhead_gb,
        )  # fmt: skip


@jax.jit
def _told(whole: Whole, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Free parameters at a point, how much larger chi2 is there by the summary, and by what the likelihood multiplies it."""
    theta = whole.coordinates.theta(z)
    change = whole.misfit.change(theta)
    return theta, change.chi2.sum(), whole.metric.ratio(whole.metric.inverse @ whole.misfit.projection(change))
