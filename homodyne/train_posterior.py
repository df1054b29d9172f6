"""What ``strategy=nuts`` and ``strategy=cmc`` add to a run: after the fit is saved, draws of its posterior, told and drawn."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from homodyne.config.outcome import Outcome
from homodyne.errors import InputError

if TYPE_CHECKING:
    from homodyne.data import Dataset
    from homodyne.models import Model
    from homodyne.result import FitResult
    from homodyne.result.posterior import Posterior

log = logging.getLogger("homodyne.train")

POSTERIOR = "posterior.nc"


class Sampled(NamedTuple):
    """How sampling ended; ``interrupted`` by Ctrl-C or the time limit."""

    outcome: Outcome
    interrupted: bool = False


def require_shards(dataset: Dataset, sampling: Mapping[str, Any], min_lag: int) -> list[int]:
    """Sectors of every shard, none for nuts; said before a fit of hours, not after it.

    Raises:
        InputError: so many shards cannot be made of these data.
    """
    if sampling["method"] != "cmc":
        return []
    from homodyne.optimization.posterior.shards import make_groups
    from homodyne.optimization.source import all_frames

    n_points = all_frames(dataset).n_points(min_lag)
    return [len(g) for g in make_groups(dataset, n_points, sampling["shards"], sampling["max_points_per_shard"])]


def tell_sampling(dataset: Dataset, model: Model, sampling: Mapping[str, Any], n_points: int, min_lag: int) -> None:
    """For ``mode=plan``: chains, shards and memory."""
    draws = f"{sampling['n_chains']} chains of {sampling['n_warmup']} + {sampling['n_samples']} draws"
    sectors = require_shards(dataset, sampling, min_lag)
    if not sectors:
        log.info("Posterior: nuts, %s, all data at once from a summary that one pass over them makes", draws)
        return
    from homodyne.optimization.posterior.memory import estimate_cmc_memory_gb
    from homodyne.optimization.processors import n_workers

    workers = min(sampling["n_workers"] or n_workers(), len(sectors))
    points = n_points * max(sectors) // len(dataset.phi)
    memory = estimate_cmc_memory_gb(
        workers, points, len(model.parameters) + 2, len(sectors), sampling["n_chains"], sampling["n_samples"]
    )
    log.info("Posterior: cmc, %d shards of up to %d sectors, %s in each", len(sectors), max(sectors), draws)
    log.info(
        "        memory about %.2f GB beside the fit's: %d workers %.2f, shards %.4f, draws %.4f",
        memory.total_gb, workers, memory.overhead_gb, memory.shards_gb, memory.results_gb,
    )  # fmt: skip


def sample_and_save(
    dataset: Dataset, model: Model, result: FitResult, sampling: Mapping[str, Any], run_dir: Path, *, plots: bool
) -> Sampled:
    """Sample around the finished fit; whatever happens here, the fit stays to be recorded."""
    from homodyne.sampling import sample

    if result.status.value == "interrupted":
        log.warning("The fit was interrupted: its posterior is not sampled")
        return Sampled(Outcome.NOT_CONVERGED, interrupted=True)
    try:
        posterior = sample(dataset, model, fit=result, **sampling)
        posterior.save(run_dir / POSTERIOR)
        _tell(posterior, run_dir)
        if plots:
            _draw(dataset, model, posterior, run_dir / "figures")
    except KeyboardInterrupt:
        kept = sampling["folder"]
        log.warning(
            "Interrupted while sampling: the fit is complete, its posterior is not%s",
            "" if kept is None else f"; shards that are done are kept in {kept} for the same command",
        )
        return Sampled(Outcome.NOT_CONVERGED, interrupted=True)
    except InputError as error:
        log.error("%s", error)
        return Sampled(Outcome.ERROR)
    if sampling["folder"] is not None:
        shutil.rmtree(sampling["folder"], ignore_errors=True)
    return Sampled(Outcome.OK if posterior.converged else Outcome.NOT_CONVERGED)


def _tell(posterior: Posterior, run_dir: Path) -> None:
    """The outcome, as a person reads it."""
    log.info("Posterior by %s, %s likelihood:", posterior.method, posterior.likelihood)
    for line in (*posterior.table().splitlines(), *posterior.findings):
        log.info("%s", line)
    for warning in posterior.warnings:
        log.warning("%s", warning)
    if posterior.converged:
        log.info("Posterior: converged. %s", posterior.message)
    else:
        log.warning("Posterior: NOT CONVERGED (%s). %s", posterior.status, posterior.message)
    log.info("Posterior: %s, %.0f s", run_dir / POSTERIOR, posterior.seconds)


def _draw(dataset: Dataset, model: Model, posterior: Posterior, folder: Path) -> None:
    from homodyne.plots import save_posterior_figures
    from homodyne.sampling import predictive

    paths = save_posterior_figures(posterior, predictive(dataset, posterior, model), folder)
    log.info("Figures: %s in %s", ", ".join(path.name for path in paths), folder)
