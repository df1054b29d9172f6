"""Settings of a posterior: ``strategy=nuts`` and ``strategy=cmc``, whose fit comes first and is that of ``strategy=auto``."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homodyne.config.validate import Settings
from homodyne.errors import InputError

if TYPE_CHECKING:
    from homodyne.models import Model

_OF_CHAINS = ("n_chains", "n_samples", "n_warmup", "likelihood", "seed")
#: Samplers, and which keys of the group ``strategy`` each takes.
SAMPLERS: dict[str, tuple[str, ...]] = {
    "nuts": _OF_CHAINS,
    "cmc": (*_OF_CHAINS, "shards", "max_points_per_shard", "n_workers", "combiner"),
}


def sampler_settings(strategy: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the group ``strategy`` that were set, for one of ``SAMPLERS``.

    Raises:
        InputError: a setting of another strategy.
    """
    name = strategy["name"]
    given = {k: v for k, v in strategy.items() if v is not None and k not in ("name", "weighting")}
    for key, value in given.items():
        if key not in SAMPLERS[name]:
            raise InputError(
                f"strategy.{key}", value, f"is not a setting of {name}", f"leave it out; it has {', '.join(SAMPLERS[name])}"
            )  # fmt: skip
    return given


def sample_arguments(settings: Settings, model: Model, outputs: Path) -> dict[str, Any] | None:
    """Keyword arguments of ``homodyne.sample``, all but dataset, model and fit; None for a strategy that samples nothing.

    Raises:
        InputError: what cannot be sampled, as far as the settings tell.
    """
    name, weighting = settings["strategy"]["name"], settings["strategy"]["weighting"]
    if name not in SAMPLERS:
        return None
    from homodyne.config.build import fit_arguments
    from homodyne.optimization.posterior.priors import make_priors
    from homodyne.parameters import with_bounds
    from homodyne.sampling import require_possible, sample

    usual = inspect.signature(sample).parameters
    chosen = {k: usual[k].default for k in SAMPLERS[name]} | sampler_settings(settings["strategy"])
    fit = fit_arguments(settings, outputs)
    options = fit["options"]
    require_possible(
        name, chosen["likelihood"], scaling=fit["scaling"], covariance=fit["covariance"], loss=options.loss,
        weighting=weighting,
    )  # fmt: skip
    bounded = with_bounds(model.parameters, settings["model"]["bounds"])
    priors = dict(zip([p.name for p in bounded], make_priors(given_priors(settings), bounded), strict=True))
    kept = name == "cmc" and settings["optimization"]["checkpoint"]
    folder = outputs / "checkpoints" / f"cmc_{_identity(settings)}" if kept else None
    return {"method": name, **chosen, "priors": priors, "options": options, "folder": folder}


def given_priors(settings: Settings) -> dict[str, dict[str, Any]]:
    """``model.priors`` without what was left out."""
    priors = settings["model"]["priors"].items()
    return {name: {k: v for k, v in prior.items() if v is not None} for name, prior in priors}


def _identity(settings: Settings) -> str:
    """Of runs with the same data, model and settings: they may share shards that are done."""
    same = {k: settings[k] for k in ("model", "dataset", "strategy", "optimization")}
    return hashlib.sha256(json.dumps(same, sort_keys=True, default=str).encode()).hexdigest()[:16]
