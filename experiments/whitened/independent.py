#!/usr/bin/env python3
"""Whitened weights where noise is that of no light: independent from pair to pair, for which uniform weights are the best.

    python experiments/whitened/independent.py

Five sectors, 60 frames, offsets of the rates held; the diagonal, from which counts are taken, missing, without shot noise, or with.
"""

from __future__ import annotations

import logging

import numpy as np
from run import DT_S, FIXED, GAP, THETA, Q

from homodyne import Dataset, fit, get_model

PHI = np.array([-70.0, -30.0, 5.0, 40.0, 85.0])
T, CONTRAST, REPLICATES = DT_S * np.arange(60), 0.3, 30


def maps(model: str, noise: float, diagonal: float, seed: int) -> np.ndarray:
    """c2 (n_phi, n, n) with normal noise of its own for every pair."""
    rng, chosen = np.random.default_rng(seed), get_model(model)
    out = np.empty((len(PHI), len(T), len(T)))
    for k, phi in enumerate(PHI):
        theta = [THETA[p.name] for p in chosen.parameters]
        upper = np.triu(rng.normal(0, noise, (len(T), len(T))), 1)
        out[k] = 1.0 + CONTRAST * chosen.g1_squared(theta, T, float(phi), Q, GAP) + upper + upper.T
        np.fill_diagonal(out[k], diagonal)
    return out


def cell(model: str, noise: float, diagonal: float) -> str:
    """One row of the table."""
    truth = {p.name: THETA[p.name] for p in get_model(model).parameters if p.name not in FIXED}
    off: dict[str, list] = {"uniform": [], "whitened": [], "ratio": [], "auto": []}
    for seed in range(REPLICATES):
        data = Dataset.from_arrays(maps(model, noise, diagonal, seed), PHI, T, Q, GAP)
        held = {n: 0.0 for n in FIXED if n in [p.name for p in get_model(model).parameters]}
        found = fit(data, model, start=truth, fixed=held, strategy="stratified_ls", weighting="whitened")
        if found.weighting.name != "whitened":
            continue
        off["uniform"].append([found.weighting.uniform[n] - x for n, x in truth.items()])
        off["whitened"].append([found.theta[n] - x for n, x in truth.items()])
        off["ratio"].append(found.weighting.ratio)
        again = fit(data, model, start=truth, fixed=held, strategy="stratified_ls")
        off["auto"].append(again.weighting.name == "whitened")
    rms = {n: np.sqrt(np.mean(np.square(off[n]), axis=0)) for n in ("uniform", "whitened")}
    shown = " ".join(f"{x:.2f}" for x in rms["whitened"] / rms["uniform"])
    low, high = np.min(off["ratio"]), np.max(off["ratio"])
    return (
        f"| {model} | {noise} | {diagonal} | {len(off['ratio'])} | {shown} | {low:.2f} to {high:.2f} "
        f"| {100 * np.mean(off['auto']):.0f} % |"
    )


def main() -> int:
    """Print the table."""
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    print("| model | noise of a pair | diagonal | n | rms error, whitened / uniform | predicted | auto whitens |")
    print("|---|--:|--:|--:|---|---|--:|")
    for model in ("static", "laminar_flow"):
        for diagonal in (np.nan, 1 + CONTRAST, 7.0):
            for noise in (0.02, 0.1):
                print(cell(model, noise, diagonal), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
