#!/usr/bin/env python3
"""Posteriors: shards against all data, time and memory, runs that must fail, workers that die; see README.md.

python experiments/posterior/run.py consensus    # CMC with 2, 4, 8 shards beside one NUTS of all data, 23 x 300
python experiments/posterior/run.py bad          # chains without warm-up on a curved posterior: reported as failed
python experiments/posterior/run.py killed       # a worker killed while it runs
python experiments/posterior/run.py points       # time, memory and error of the summary against the number of points
python experiments/posterior/run.py curved       # a posterior that is far from normal, with and without its lines
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

import homodyne
from homodyne.files import write_whole
from homodyne.simulate import speckle_dataset
from homodyne.simulate.synthetic import synthetic_dataset

HERE = Path(__file__).parent
MILD = {
    "D0": 8e3, "alpha": -0.4, "D_offset": 300.0, "gamma_dot_0": 2e-3, "beta": -0.2, "gamma_dot_offset": 1e-4, "phi0": 2.0,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = {"consensus": consensus, "bad": bad, "killed": killed, "points": points, "curved": curved}
    parser.add_argument("study", choices=studies)
    chosen = parser.parse_args().study
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("jax").setLevel(logging.ERROR)
    rows = studies[chosen]()
    write_whole(HERE / f"{chosen}.json", json.dumps(rows, indent=1) + "\n")


def record(posterior: homodyne.Posterior) -> dict:
    """What is compared."""
    return {
        "status": posterior.status, "mean": posterior.mean, "sd": posterior.sd,
        "correlation": posterior.correlation.values.tolist(), "rhat": dict(posterior.rhat), "ess": dict(posterior.ess),
        "divergences": posterior.divergences, "pareto_k": posterior.pareto_k, "summary_error": posterior.summary_error,
        "seconds": posterior.seconds, "peak_gb": posterior.peak_gb, "worker_gb": list(posterior.worker_gb),
        "warnings": list(posterior.warnings), "message": posterior.message,
    }  # fmt: skip


def difference(found: homodyne.Posterior, whole: homodyne.Posterior) -> dict:
    """Means in standard deviations, ratios of these, and correlations, against all data at once: the largest."""
    sd = np.array(list(whole.sd.values()))
    shift = (np.array(list(found.mean.values())) - np.array(list(whole.mean.values()))) / sd
    return {
        "mean": float(np.abs(shift).max()),
        "sd": float(np.abs(np.array(list(found.sd.values())) / sd - 1).max()),
        "correlation": float(np.abs(found.correlation.values - whole.correlation.values).max()),
    }


def consensus() -> dict:
    """Shards against all data, 23 sectors of 300 frames."""
    dataset = synthetic_dataset(theta=MILD, n_phi=23, n_t=300)
    fit = homodyne.fit(dataset, weighting="uniform")
    whole = homodyne.sample(dataset, fit=fit)
    print(whole.table(), whole.status, f"{whole.seconds:.0f} s", flush=True)
    rows = {"nuts": record(whole)}
    for n in (2, 4, 8):
        with tempfile.TemporaryDirectory() as folder:  # the second combiner finds the shards of the first one
            for combiner in ("importance", "gaussian"):
                found = homodyne.sample(dataset, fit=fit, method="cmc", shards=n, combiner=combiner, folder=folder)
                rows[f"{n} {combiner}"] = record(found) | {"difference": difference(found, whole)}
                print(n, combiner, difference(found, whole), found.status, f"k = {found.pareto_k:.2f}", flush=True)
    return rows


def _valley() -> tuple:
    dataset = speckle_dataset(
        "laminar_flow", MILD, np.linspace(-90, 85, 12), np.arange(200) * 0.1, 0.0054, 2e5, counts=20.0, pixels=4000
    )
    return dataset, homodyne.fit(dataset, weighting="uniform")


def bad() -> dict:
    """Fifty draws without a real warm-up on a curved posterior."""
    dataset, fit = _valley()
    found = homodyne.sample(dataset, fit=fit, n_warmup=50, n_samples=50, seed=1)
    print(found.table(), found.status, found.message)
    return record(found)


def curved() -> dict:
    """The same with enough draws."""
    dataset, fit = _valley()
    found = homodyne.sample(dataset, fit=fit)
    print(found.table(), found.status, found.message, *found.warnings)
    return record(found) | {"fit": fit.theta, "stderr": fit.stderr}


def killed() -> dict:
    """A worker killed after ten seconds; draws against those of a run that was left alone."""
    dataset = synthetic_dataset(theta=MILD, n_phi=23, n_t=300)
    fit = homodyne.fit(dataset, weighting="uniform")
    settings = {"fit": fit, "method": "cmc", "shards": 2, "n_samples": 300}
    alone = homodyne.sample(dataset, **settings)
    victims: list[int] = []

    def kill() -> None:
        while not victims:
            for child in psutil.Process().children():
                if "homodyne.optimization.posterior.worker" in child.cmdline():
                    time.sleep(10.0)
                    child.kill()
                    victims.append(child.pid)
                    return
            time.sleep(0.1)

    threading.Thread(target=kill, daemon=True).start()
    hurt = homodyne.sample(dataset, **settings)
    same = all(np.array_equal(alone.draws(name), hurt.draws(name)) for name in alone.names)
    print("killed:", len(victims), "the same draws:", same)
    return {"killed": len(victims), "same": same, "alone": record(alone), "hurt": record(hurt)}


def points() -> list[dict]:
    """10 sectors, more and more frames."""
    rows = []
    for n_t in (100, 300, 1000, 1415, 4473):
        dataset = synthetic_dataset(theta=MILD, n_phi=10, n_t=n_t, dt=30.0 / n_t)
        began = time.perf_counter()
        fit = homodyne.fit(dataset, start=MILD, covariance="speckle", weighting="uniform")
        fitted = time.perf_counter() - began
        found = homodyne.sample(dataset, fit=fit)
        rows.append({"points": fit.n_points, "fit_seconds": fitted, **record(found)})
        print(fit.n_points, f"{fitted:.1f} s", f"{found.seconds:.1f} s", found.status, found.summary_error, flush=True)
    return rows


if __name__ == "__main__":
    main()
