#!/usr/bin/env python3
"""Do credible intervals cover what they claim? Posteriors of simulated speckle with known truth, counted.

    python experiments/posterior/coverage.py run --replicates 100 --out outputs/posterior_coverage
    python experiments/posterior/coverage.py run --weighting whitened --replicates 60 --cells 0 1 --out outputs/posterior_whitened
    python experiments/posterior/coverage.py report --out outputs/posterior_coverage

Every replicate simulates one light (see experiments/coverage/run.py), fits it, and samples three posteriors: the honest
likelihood, that of independent pairs (iid), and the Wishart likelihood of intensities with Gaussian statistics, by
importance weights; of whitened fits the honest one alone. A killed run goes on where it stopped: every replicate is a file of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "coverage"))
from run import DT_S, FIXED, GAP, N_FRAMES, PHI, PIXELS, SETS, THETA, Q, correlated, sectors

import homodyne
from homodyne.files import write_whole
from homodyne.optimization.posterior.pairs import pair_signal
from homodyne.optimization.source import sector_geometries

HERE = Path(__file__).parent
#: model, contrast, counts, sectors, direction of the flow: ``any``, drawn anew for every replicate; or ``across``, 2 degrees, to
#: which one of the sectors is exactly perpendicular, where its signal does not depend on phi0 to first order.
CELLS = (
    ("static", 0.33, 2.0, 6, "any"), ("laminar_flow", 0.33, 2.0, 6, "any"), ("laminar_flow", 0.33, 2.0, 6, "across"),
    ("laminar_flow", 0.33, 2.0, 3, "any"), ("laminar_flow", 0.05, 20.0, 6, "any"),
)  # fmt: skip
LEVELS = (0.6827, 0.95)
PROPOSALS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("outputs/posterior_coverage"))
    parser.add_argument("--cells", type=int, nargs="*", default=list(range(len(CELLS))), help="positions in CELLS")
    parser.add_argument("--csv", type=Path, default=HERE / "coverage.csv", help="of the report")
    parser.add_argument("--weighting", choices=("uniform", "whitened"), default="uniform")
    chosen = parser.parse_args()
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    if chosen.what == "report":
        report(chosen.out, chosen.csv)
        return
    chosen.out.mkdir(parents=True, exist_ok=True)
    # a cell at a time: what was compiled for one replicate serves the next
    for cell in (CELLS[n] for n in chosen.cells):
        for seed in range(chosen.replicates):
            target = chosen.out / f"{'_'.join(str(x) for x in cell)}_{seed:04d}.json"
            if not target.exists():
                began = time.perf_counter()
                write_whole(target, json.dumps(replicate(*cell, seed, chosen.weighting)))
                print(target.name, f"{time.perf_counter() - began:.0f} s", flush=True)


def replicate(model: str, contrast: float, counts: float, angles: int, flow: str, seed: int, weighting: str) -> dict:
    """Intervals of every parameter by every likelihood, beside those of the fit."""
    chosen = SETS[angles]
    truth = THETA if flow == "across" else {**THETA, "phi0": float(np.random.default_rng([seed, 8]).uniform(-5, 5))}
    light = sectors(model, contrast, seed, chosen, truth)
    rng = np.random.default_rng([seed, round(10 * counts), 7])
    c2 = np.array([correlated(i, counts, rng) for i in light])
    dataset = homodyne.Dataset.from_arrays(c2, PHI[list(chosen)], DT_S * np.arange(N_FRAMES), Q, GAP)
    names = [p.name for p in homodyne.get_model(model).parameters]
    fit = homodyne.fit(
        dataset, model, start={n: truth[n] for n in names if n not in FIXED},
        fixed={n: 0.0 for n in FIXED if n in names}, weighting=weighting,
    )  # fmt: skip
    free = [n for n in names if n not in FIXED]
    out: dict = {
        "cell": [model, contrast, counts, angles, flow], "truth": truth, "seed": seed, "status": fit.status.value,
        "intervals": {},
    }  # fmt: skip
    out["intervals"]["fit"] = {n: [fit.interval(n, level) for level in LEVELS] for n in free}
    for likelihood in ("honest", "iid") if weighting == "uniform" else ("honest",):
        posterior = homodyne.sample(
            dataset, model, fit=fit, likelihood=likelihood, n_samples=400, n_warmup=300, seed=seed
        )
        out["intervals"][likelihood] = {n: [posterior.interval(n, level) for level in LEVELS] for n in free}
        out[likelihood] = {
            "rhat": max(posterior.rhat.values()), "ess": min(posterior.ess.values()), "error": posterior.summary_error,
            "divergences": posterior.divergences, "seconds": posterior.seconds,
        }  # fmt: skip
        if likelihood == "honest" and weighting == "uniform":
            out["intervals"]["wishart"], out["wishart"] = wishart(dataset, model, fit, posterior, c2, contrast, rng)
    return out


def wishart(dataset, model, fit, posterior, c2, contrast, rng):
    """Intervals from -P/2 [log det S + tr(S^-1 (c2 - 1))], S = contrast s + I / counts, with contrast and counts of the data."""
    names = list(posterior.names)
    mean = np.array([posterior.mean[n] for n in names])
    root = np.linalg.cholesky(posterior.covariance.values)
    # the honest posterior is the wider one: proposals from a t distribution of its shape
    unit = rng.standard_normal((PROPOSALS, len(names))) * np.sqrt(5 / rng.chisquare(5, (PROPOSALS, 1)))
    theta = mean + unit @ root.T
    log_weight = 0.5 * (5 + len(names)) * np.log1p((unit**2).sum(1) / 5)
    sample = homodyne.get_model(model)
    inside, order = np.ones(PROPOSALS, dtype=bool), [p.name for p in sample.parameters]
    whole = np.tile([fit.theta[n] for n in order], (PROPOSALS, 1))
    whole[:, [order.index(n) for n in names]] = theta
    for i, p in enumerate(sample.parameters):
        inside &= (whole[:, i] >= p.lower) & (whole[:, i] <= p.upper)
    offset = fit.offset
    contrast = fit.contrast / offset
    nu = np.maximum(np.einsum("kii->k", c2) / c2.shape[1] / offset - 1.0 - contrast, 1e-3)
    geometry = sector_geometries(sample, dataset)
    data = c2 / offset[:, None, None] - 1.0
    log_weight += np.asarray(_wishart(sample, whole, dataset.t, geometry, data, contrast, nu))
    log_weight = np.where(inside & np.isfinite(log_weight), log_weight, -np.inf)
    weight = np.exp(log_weight - np.nanmax(log_weight))
    weight /= weight.sum()
    intervals = {}
    for i, n in enumerate(names):
        ordered = np.argsort(theta[:, i])
        reached = np.cumsum(weight[ordered])
        intervals[n] = [
            [float(np.interp(x, reached, theta[ordered, i])) for x in (0.5 - level / 2, 0.5 + level / 2)]
            for level in LEVELS
        ]
    return intervals, {"ess": float(1 / (weight**2).sum())}


@partial(jax.jit, static_argnames=("model",))
def _wishart(model, thetas, t, geometry, data, contrast, nu):
    rows, cols = np.triu_indices(N_FRAMES)
    pairs = (jnp.tile(jnp.asarray(x), (len(data), 1)) for x in (rows, cols))
    rows, cols = pairs

    def one(theta):
        s = pair_signal(model, theta, t, geometry, rows, cols)
        upper = jnp.zeros(data.shape).at[:, rows[0], cols[0]].set(s)
        full = upper + jnp.swapaxes(upper, 1, 2)
        full = full - jnp.eye(N_FRAMES) * full / 2
        sigma = contrast[:, None, None] * full + nu[:, None, None] * jnp.eye(N_FRAMES)
        low = jnp.linalg.cholesky(sigma)
        inverse = jax.scipy.linalg.cho_solve((low, True), data)
        logdet = 2 * jnp.log(jnp.einsum("kii->ki", low)).sum()
        return -0.5 * PIXELS * (logdet + jnp.einsum("kii->", inverse))

    return jax.lax.map(one, jnp.asarray(thetas))


def report(folder: Path, csv: Path) -> None:
    """Coverage by cell, parameter and likelihood, as a table."""
    rows: dict = {}
    files = sorted(folder.glob("*.json"))
    for path in files:
        found = json.loads(path.read_text())
        for method, intervals in found["intervals"].items():
            if method in ("honest", "iid") and found[method]["rhat"] > 1.05:
                continue
            for name, pairs in intervals.items():
                hits = [low <= found["truth"][name] <= high for low, high in pairs]
                width = pairs[0][1] - pairs[0][0]
                rows.setdefault((tuple(found["cell"]), name), {}).setdefault(method, []).append((*hits, width))
    lines = ["model,contrast,counts,angles,flow,parameter,method,n,cover68,cover95,median_width"]
    for (cell, name), methods in rows.items():
        for method, hits in methods.items():
            table = np.array(hits, dtype=float)
            lines.append(
                f"{','.join(str(x) for x in cell)},{name},{method},{len(table)},{table[:, 0].mean():.3f},"
                f"{table[:, 1].mean():.3f},{np.median(table[:, 2]):.4g}"
            )
    write_whole(csv, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
