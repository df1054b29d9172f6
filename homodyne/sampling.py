"""Sample the posterior of a model's parameters. Usable without configuration files and without tracking."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from homodyne.errors import InputError
from homodyne.files import require_writable
from homodyne.fitting import fit as fit_dataset
from homodyne.models import Model, get_model
from homodyne.optimization.nlsq.finished import Finished, request_of
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.posterior.consensus import COMBINERS
from homodyne.optimization.posterior.predictive import predictive_cuts
from homodyne.optimization.posterior.priors import Prior, make_priors
from homodyne.optimization.posterior.record import Settings
from homodyne.optimization.posterior.run import run
from homodyne.optimization.posterior.shards import make_groups
from homodyne.optimization.processors import n_workers as granted
from homodyne.optimization.source import BlockSource
from homodyne.result import FitResult
from homodyne.result.posterior import Posterior
from homodyne.result.predictive import PredictiveCut

METHODS = ("nuts", "cmc")
LIKELIHOODS = ("honest", "iid")
# Sectors that are shown, and earlier times, as parts of the series.
_SHOWN, _AGES = 4, (0.02, 0.25, 0.6)


def sample(
    dataset: BlockSource,
    model: str | Model = "laminar_flow",
    scaling: str = "individual",
    method: str = "nuts",
    *,
    likelihood: str = "honest",
    fit: FitResult | None = None,
    priors: Mapping[str, Prior | Mapping[str, Any]] | None = None,
    shards: int | str = "auto",
    max_points_per_shard: int | str = "auto",
    n_workers: int | None = None,
    combiner: str = "importance",
    n_chains: int = 4,
    n_samples: int = 1500,
    n_warmup: int = 500,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    options: NLSQOptions | None = None,
    **settings: Any,
) -> Posterior:
    """Posterior of the physical parameters, contrast and offset at their best for each of them.

    The likelihood is that of all data, reduced to a summary by one pass over them (optimization/posterior/summary.py), so
    that sampling takes as long for 10**4 points as for 10**10.

    Args:
        dataset, model, scaling: as for ``homodyne.fit``. settings: its other arguments, for the fit that is made first.
        method: ``nuts``, all data at once; ``cmc``, Consensus Monte Carlo: shards of whole sectors in processes of their own,
            combined with full covariance matrices.
        likelihood: ``honest``, with the weights of the fit, whitened or uniform, and the widths of its errors; ``iid``, as if
            pairs were independent, too narrow, with uniform weights.
        fit: a finished fit of the same data, made where it is missing.
        priors: by parameter: ``Prior("normal", mean, sd)``, ``Prior("log_uniform")``; uniform within the bounds by default.
        shards, max_points_per_shard: how many shards, or how large at most; shards are never smaller than two sectors.
        n_workers: processes at a time; as many as processors were granted by default.
        combiner: of shards: ``importance``, consensus draws weighted by the posterior of all data; ``gaussian``, consensus alone.
        n_chains, n_samples, n_warmup: chains, draws of each that are kept, and draws before them.
        seed: of all random numbers.
        folder: where finished shards are kept, so that the same call goes on after it was stopped.
        options: memory settings of the passes.

    Returns:
        Posterior. One that did not converge is returned too: look at ``status`` and ``message``.

    Raises:
        InputError: bad input, naming field, value and remedy.
    """
    _check(method, likelihood, combiner, n_chains=n_chains, n_samples=n_samples, n_warmup=n_warmup)
    if n_workers is not None and n_workers < 1:
        raise InputError("n_workers", n_workers, "must be at least 1", "leave it out to use all processors")
    convention = settings.get("convention", "physical")
    if fit is not None:
        if settings:
            raise InputError(
                "fit", next(iter(settings)), "is a setting of the fit, which is already there", "leave it out"
            )
        scaling, convention = fit.scaling, fit.convention
        if isinstance(model, str) and model != fit.model:
            raise InputError("model", model, f"is not the model of the fit, {fit.model}", "give the same model")
    chosen = get_model(model, convention) if isinstance(model, str) else model
    given = make_priors(priors, chosen.parameters if fit is None else fit.parameters)
    if fit is None:
        if likelihood == "iid":
            settings = {"weighting": "uniform", **settings}
        fit = fit_dataset(dataset, chosen, scaling, options=options, **settings)
    _check_fit(fit, likelihood, method)
    request = request_of(dataset, chosen, fit, options or NLSQOptions())
    groups = make_groups(dataset, request.n_points, shards, max_points_per_shard) if method == "cmc" else []
    kept = None if folder is None else require_writable(Path(folder), "folder")
    return run(
        dataset, fit, Finished.of(request, fit), given,
        Settings(
            likelihood, n_chains, n_samples, n_warmup, seed, n_workers or granted(), combiner, tuple(groups), kept
        ),
    )  # fmt: skip


def predictive(
    dataset: BlockSource,
    posterior: Posterior,
    model: Model | None = None,
    *,
    n_draws: int = 200,
    sectors: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
) -> list[PredictiveCut]:
    """What the posterior says of c2(t1, t1 + lag), beside the data: bands of the model, and of a measurement with its noise.

    Args:
        model: the model of the posterior, needed only if it is not a built-in one.
        n_draws: draws that stand for all, chosen evenly with their weights.
        sectors: positions in ``dataset.phi``; four of them, evenly, by default.
        frames: positions of t1 in ``dataset.t``; an early, a middle and a late one by default.

    Returns:
        One cut a sector and t1.

    Raises:
        InputError: data with other sectors than those of the posterior, a position that is not there, no draws.
    """
    n_phi, n_t = len(dataset.phi), len(dataset.t)
    of = posterior.idata.posterior["phi"].values
    if len(of) != n_phi or not np.allclose(of, dataset.phi):
        raise InputError(
            "dataset", f"{n_phi} sectors", "is not the data of the posterior", "give the data that were sampled"
        )
    if n_draws < 1:
        raise InputError("n_draws", n_draws, "must be at least 1", "200 are enough for bands of 95 %")
    shown = np.unique(np.linspace(0, n_phi - 1, _SHOWN).round().astype(int)) if sectors is None else sectors
    first = np.unique([int(part * n_t) for part in _AGES]) if frames is None else frames
    for field, positions, n in (("sectors", shown, n_phi), ("frames", first, n_t - 1)):
        for position in positions:
            if not 0 <= position < n:
                raise InputError(field, int(position), f"is no position below {n}", f"choose from 0 to {n - 1}")
    chosen = model or get_model(posterior.model, posterior.convention)
    return predictive_cuts(dataset, posterior, chosen, n_draws, [int(k) for k in shown], [int(i) for i in first])


def _check(method: str, likelihood: str, combiner: str, **numbers: int) -> None:
    for name, value, choices in (
        ("method", method, METHODS), ("likelihood", likelihood, LIKELIHOODS), ("combiner", combiner, COMBINERS),
    ):  # fmt: skip
        if value not in choices:
            raise InputError(name, value, "is unknown", f"choose one of {', '.join(choices)}")
    least = {"n_chains": 2, "n_samples": 50, "n_warmup": 50}
    for name, number in numbers.items():
        if number < least[name]:
            raise InputError(
                name, number, f"must be at least {least[name]}", "R-hat needs several chains, and they need time"
            )


def _check_fit(fit: FitResult, likelihood: str, method: str) -> None:
    require_possible(
        method, likelihood, scaling=fit.scaling, covariance=fit.covariance_method,
        loss=fit.provenance.get("options", {}).get("loss", "linear"), weighting=fit.weighting.name,
    )  # fmt: skip
    if all(name in fit.fixed for name in fit.theta):
        raise InputError("fixed", sorted(fit.fixed), "leaves nothing to sample", "free a parameter")


def require_possible(
    method: str, likelihood: str, *, scaling: str, covariance: str, loss: str = "linear", weighting: str = "uniform"
) -> None:
    """Refuse what a posterior cannot be made of, as far as the settings of the fit tell.

    Raises:
        InputError: honest likelihood of iid errors, iid likelihood of whitened weights, a robust loss, or shards that share
            their scaling.
    """
    if likelihood == "honest" and covariance == "iid":
        raise InputError(
            "likelihood", likelihood, "needs honest errors, and those of the fit are iid",
            "fit with covariance='speckle', or use likelihood='iid' for comparison",
        )  # fmt: skip
    if loss != "linear":
        raise InputError("loss", loss, "has no likelihood here", "sample a fit with loss=linear")
    if likelihood == "iid" and weighting == "whitened":
        raise InputError(
            "likelihood", likelihood, "counts pairs as independent, which whitened weights leave none of",
            "use likelihood='honest', or fit with weighting='uniform'",
        )  # fmt: skip
    if method == "cmc" and scaling not in ("individual", "constant"):
        raise InputError(
            "scaling", scaling, "ties all sectors together, and shards would each have their own",
            "use scaling='individual', or method='nuts'",
        )  # fmt: skip
