"""A posterior as the flat names that trackers store; pure functions."""

from __future__ import annotations

from homodyne.result.posterior import Posterior
from homodyne.tracking.flatten import shorten


def metrics(posterior: Posterior) -> dict[str, float]:
    """``posterior.*``: mean and sd of every parameter, R-hat, effective sample sizes, and what else tells how far to trust them."""
    # quality first: trackers list metrics in this order
    out: dict[str, float] = {
        "posterior.converged": float(posterior.converged),
        "posterior.rhat_max": max(posterior.rhat.values()),
        "posterior.ess_min": min(posterior.ess.values()),
        "posterior.divergences": posterior.divergences,
        "posterior.summary_error": posterior.summary_error,
        "posterior.pareto_k": posterior.pareto_k,
        "posterior.seconds": posterior.seconds,
        "posterior.peak_gb": posterior.peak_gb,
        "posterior.n_warnings": len(posterior.warnings),
    }
    if posterior.worker_gb:
        out["posterior.worker_gb_max"] = max(posterior.worker_gb)
    mean, sd = posterior.mean, posterior.sd
    for name in posterior.names:
        out[f"posterior.mean.{name}"] = mean[name]
        out[f"posterior.sd.{name}"] = sd[name]
        out[f"posterior.rhat.{name}"] = posterior.rhat[name]
        out[f"posterior.ess.{name}"] = posterior.ess[name]
    return {name: float(value) for name, value in out.items()}


def parameters(posterior: Posterior) -> dict[str, str]:
    """``posterior.*``: method, likelihood, chains and draws, shards, and the prior of every parameter."""
    settings = {f"posterior.{name}": str(value) for name, value in posterior.settings.items() if value != ""}
    out = {
        "posterior.method": posterior.method,
        "posterior.likelihood": posterior.likelihood,
        **settings,
        "posterior.n_shards": str(len(posterior.shards)),
    }
    if posterior.shards:
        sectors = "; ".join(", ".join(f"{phi:g}" for phi in shard) for shard in posterior.shards)
        out["posterior.shards_deg"] = shorten(sectors)
    return out | {f"posterior.prior.{name}": prior for name, prior in posterior.priors.items()}
