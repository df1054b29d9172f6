#!/usr/bin/env python3
"""Uniform against whitened weights: fits of simulated speckle with known truth, side by side.

    python experiments/whitened/run.py --replicates 60 --out outputs/whitened
    python experiments/whitened/report.py outputs/whitened

Every replicate is new light of 23 sectors of a static or a sheared sample at one contrast; the same light is counted with 0.2, 2
and 20 photons per pixel and frame, and fitted with 5, 10 or all 23 sectors. A killed run goes on where it stopped:
every light is a file of its own. Larger cells take longer and get fewer replicates: ``EVERY``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from homodyne import Dataset, fit, get_model
from homodyne.fields import field_root, mode_weights, modes
from homodyne.files import write_whole

CONTRASTS, COUNTS, MODELS = (0.05, 0.33), (0.2, 2.0, 20.0), ("static", "laminar_flow")
DT_S, Q, GAP, PIXELS = 0.1, 0.0054, 2e6, 2000
THETA = {
    "D0": 8e3, "alpha": -0.4, "D_offset": 0.0,
    "gamma_dot_0": 2e-3, "beta": -0.2, "gamma_dot_offset": 0.0, "phi0": 2.0,
}  # fmt: skip
FIXED = ("D_offset", "gamma_dot_offset")
#: 23 sectors over half a turn; the smaller sets hold sectors along, across and oblique to the flow.
PHI = np.linspace(-88.0, 92.0, 24)[1:]
SETS = {5: (2, 8, 11, 16, 22), 10: (0, 2, 5, 8, 10, 12, 15, 18, 20, 22), 23: tuple(range(23))}
#: A cell of so many frames and sectors is fitted for every n-th light.
EVERY = {(150, 5): 1, (150, 10): 1, (150, 23): 4, (300, 5): 4, (300, 10): 2, (1000, 10): 20}


def intensities(model: str, contrast: float, frames: int, k: int, seed: int) -> np.ndarray:
    """Intensities of sector ``k``, (frames, pixels), mean 1."""
    sample, t = get_model(model), DT_S * np.arange(frames)
    theta = {p.name: THETA[p.name] for p in sample.parameters}
    rng = np.random.default_rng([seed, k, round(1000 * contrast), frames])
    root = field_root(sample.g1(theta, t, float(PHI[k]), Q, GAP))
    return sum(w * modes(root, PIXELS, rng, np.float32) for w in mode_weights(contrast))


def correlated(intensity: np.ndarray, counts: float, rng: np.random.Generator) -> np.ndarray:
    """c2 of photon counts, normalized by the mean of every frame over the sector, as a correlator does."""
    photons = rng.poisson(counts * intensity).astype(np.float32)
    mean = photons.mean(1, dtype=float)
    return np.asarray(photons @ photons.T, dtype=float) / photons.shape[1] / np.outer(mean, mean)


def fitted(model: str, c2: np.ndarray, phi: np.ndarray) -> dict:
    """One cell: values and errors by both weightings."""
    names = [p.name for p in get_model(model).parameters]
    free = [n for n in names if n not in FIXED]
    dataset = Dataset.from_arrays(c2, phi, DT_S * np.arange(c2.shape[1]), Q, GAP)
    began = time.perf_counter()
    result = fit(
        dataset, model, strategy="stratified_ls", weighting="whitened",
        start={n: THETA[n] for n in free}, fixed={n: 0.0 for n in FIXED if n in names},
    )  # fmt: skip
    record = result.weighting
    out = {
        "status": result.status.value,
        "name": record.name,
        "ratio": record.ratio,
        "method": result.covariance_method,
        "p_value": record.p_value,
    }
    out["seconds"] = [time.perf_counter() - began, record.seconds]
    for weighting in ("uniform", "whitened"):
        values, errors = getattr(record, weighting), getattr(record, f"{weighting}_stderr")
        out[weighting] = {n: [values[n], errors[n]] for n in free if n in values}
    if "jackknife" in result.uncertainties:
        out["jackknife"] = {n: result.stderr_by("jackknife")[n] for n in free}
    return out | {"warnings": [w[:60] for w in result.warnings]}


def light(model: str, contrast: float, frames: int, seed: int, target: Path) -> None:
    """All cells of one light; the results as JSON, whole or not at all."""
    cells = [n for (length, n), every in EVERY.items() if length == frames and seed % every == 0]
    rows = []
    for counts in COUNTS:
        c2 = {}
        for k in sorted({k for n in cells for k in SETS[n]}):
            rng = np.random.default_rng([seed, round(10 * counts), k, frames])
            c2[k] = correlated(intensities(model, contrast, frames, k, seed), counts, rng)
        for n in cells:
            chosen = list(SETS[n])
            rows.append(
                {"counts": counts, "angles": n, **fitted(model, np.array([c2[k] for k in chosen]), PHI[chosen])}
            )
    write_whole(
        target, json.dumps({"model": model, "contrast": contrast, "frames": frames, "seed": seed, "fits": rows})
    )


def main() -> int:
    """Run what is missing in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("outputs/whitened"))
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--contrasts", nargs="*", type=float, default=CONTRASTS)
    parser.add_argument("--frames", nargs="*", type=int, default=list(dict.fromkeys(length for length, _ in EVERY)))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    for seed in range(arguments.replicates):
        for frames in arguments.frames:
            if not any(length == frames and seed % every == 0 for (length, _), every in EVERY.items()):
                continue
            for model in arguments.models:
                for contrast in arguments.contrasts:
                    target = arguments.out / f"{model}_{contrast:g}_{frames}_{seed:04d}.json"
                    if not target.exists():
                        light(model, contrast, frames, seed, target)
        print(f"light {seed} done", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
