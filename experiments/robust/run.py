"""Robust losses on simulated speckle with spoiled pairs: bias, scatter and coverage, beside least squares.

Run: python experiments/robust/run.py [replicates]
"""

from __future__ import annotations

import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

TRUTH = {
    "D0": 2e4, "alpha": -0.5, "D_offset": 0.0, "gamma_dot_0": 4e-4, "beta": -0.3, "gamma_dot_offset": 0.0, "phi0": 4.0,
}  # fmt: skip
FREE = ("D0", "alpha", "gamma_dot_0", "beta", "phi0")
PHI, T, Q, GAP = np.array([-85.0, -60.0, -30.0, 0.0, 30.0, 60.0]), 0.1 * np.arange(60), 0.0054, 2e6
LIGHT = {"contrast": 0.3, "counts": 2.0}
LOSSES = ("linear", "soft_l1", "huber", "cauchy")
CASES = ("clean", "spikes", "glitch", "hot frames", "few pixels")


def spoiled(c2: np.ndarray, case: str, rng: np.random.Generator) -> np.ndarray:
    """Maps (n_phi, n, n) with pairs, or frames, that no speckle makes."""
    n = c2.shape[1]
    if case in ("spikes", "glitch"):
        # glitch: in pairs of the second quarter only, so that they do not look like an offset
        chance = np.full((n, n), 0.03)
        if case == "glitch":
            chance[:] = 0.0
            chance[n // 4 : n // 2] = 0.08
        add = np.where(np.triu(rng.random(c2.shape) < chance, 1), rng.exponential(0.3, c2.shape), 0.0)
        c2 = c2 + add + np.swapaxes(add, 1, 2)
    if case == "hot frames":
        up = np.zeros(n)
        up[rng.choice(n, 2, replace=False)] = 0.3
        c2 = c2 + up[:, None] + up[None, :]
    return c2


def one(job: tuple[str, int]) -> dict:
    """All losses on one simulated measurement."""
    import homodyne
    from homodyne import NLSQOptions
    from homodyne.simulate import speckle_maps

    logging.getLogger("homodyne").setLevel(logging.ERROR)
    case, seed = job
    pixels = 100 if case == "few pixels" else 2000
    c2 = speckle_maps("laminar_flow", TRUTH, PHI, T, Q, GAP, pixels=pixels, seed=seed, **LIGHT)
    ds = homodyne.Dataset.from_arrays(spoiled(c2, case, np.random.default_rng([seed, 7])), PHI, T, Q, GAP)
    out: dict = {"case": case, "seed": seed}
    for loss in LOSSES:
        fit = homodyne.fit(
            ds,
            start=TRUTH,
            fixed={"D_offset": 0.0, "gamma_dot_offset": 0.0},
            options=NLSQOptions(loss=loss),
            weighting="uniform",
        )
        out[loss] = {
            "theta": [fit.theta[n] for n in FREE],
            "contrast": float(fit.contrast.mean()),
            **{m: [fit.stderr_by(m)[n] for n in FREE] for m in ("speckle", "iid")},
            "passes": int((fit.history["stage"] == "full").sum()),
            "misfit": any("misses something" in text for text in fit.findings),
        }
    return out


def table(rows: list[dict]) -> str:
    """Bias and scatter in units of the scatter of least squares on clean data, and coverage, over the five parameters."""
    truth = np.array([TRUTH[n] for n in FREE])
    lines = [
        "| data | loss | bias / sd, worst | sd, relative | error / sd | 68 % | 95 % | contrast | passes | misfit told |"
    ]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for case in CASES:
        some = [row for row in rows if row["case"] == case]
        if not some:
            continue
        values = {loss: np.array([row[loss]["theta"] for row in some]) for loss in LOSSES}
        clean = [row["linear"]["theta"] for row in rows if row["case"] == ("clean" if case != "few pixels" else case)]
        unit = np.array(clean).std(0)
        for loss in LOSSES:
            errors = np.array([row[loss]["speckle"] for row in some])
            pull = (values[loss] - truth) / errors
            bias, sd = values[loss].mean(0) - truth, values[loss].std(0)
            lines.append(
                f"| {case} | {loss} | {np.abs(bias / unit).max():.2f} | {np.median(sd / unit):.2f} "
                f"| {np.median(np.median(errors, 0) / sd):.2f} | {100 * np.mean(np.abs(pull) < 1):.0f} "
                f"| {100 * np.mean(np.abs(pull) < 1.96):.0f} | {np.mean([r[loss]['contrast'] for r in some]):.4f} "
                f"| {np.mean([r[loss]['passes'] for r in some]):.1f} | {sum(r[loss]['misfit'] for r in some)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Simulate, fit, print the table."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 80
    began = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        rows = list(pool.map(one, [(case, seed) for case in CASES for seed in range(n)], chunksize=4))
    print(table(rows))
    print(f"{n} replicates a case, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
