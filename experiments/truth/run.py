#!/usr/bin/env python3
"""Does a fit find the truth? Simulated laminar flow with independent noise, both strategies, ten seeds.

    python experiments/truth/run.py [--seeds 10]

Prints a Markdown table: largest pull |fit - truth| / error over the seven parameters, chi2/N, agreement of the two
strategies, time; then what ``auto`` scaling says about the first data set. Ends with an error if a limit is missed.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import homodyne
from homodyne.simulate import two_time

TRUTH = {
    "D0": 8e3, "alpha": -0.4, "D_offset": 300.0, "gamma_dot_0": 2e-3, "beta": -0.2, "gamma_dot_offset": 1e-4, "phi0": 2.0,
}  # fmt: skip
N_PHI, N_T, DT_S, Q, GAP = 23, 300, 0.1, 0.0054, 2e6
CONTRAST, SPREAD, OFFSET, NOISE = 0.3, 0.1, 1.05, 0.005
LIMITS = {"pull": 4.5, "chi2": 0.02, "agreement": 1e-6}


def simulate(seed: int) -> homodyne.Dataset:
    """Contrasts differ by 10 % (standard deviation) from angle to angle."""
    rng = np.random.default_rng(1000 + seed)
    phi, t = np.linspace(-85.0, 91.0, N_PHI), DT_S * np.arange(N_T)
    contrast = CONTRAST * (1 + SPREAD * rng.standard_normal(N_PHI))
    c2 = two_time("laminar_flow", TRUTH, phi, t, Q, GAP, contrast=contrast, offset=OFFSET, noise=NOISE, seed=seed)
    return homodyne.Dataset.from_arrays(c2, phi, t, Q, gap=GAP, sigma=NOISE)


def start_of(seed: int) -> dict[str, float]:
    """20 to 30 % off the truth, each parameter in a random direction."""
    rng = np.random.default_rng(2000 + seed)
    return {name: x * (1 + rng.choice([-1, 1]) * rng.uniform(0.2, 0.3)) for name, x in TRUTH.items()}


def timed(dataset: homodyne.Dataset, strategy: str, seed: int) -> tuple[homodyne.FitResult, float]:
    """One fit and its seconds."""
    began = time.perf_counter()
    return homodyne.fit(
        dataset, strategy=strategy, start=start_of(seed), weighting="uniform"
    ), time.perf_counter() - began


def passes(result: homodyne.FitResult) -> int:
    """Passes over all points."""
    return int((result.history["stage"] == "full").sum())


def row(seed: int) -> dict[str, float]:
    """Both strategies on the data of one seed; prints a line."""
    dataset = simulate(seed)
    (full, full_s), (streamed, streamed_s) = (timed(dataset, s, seed) for s in ("stratified_ls", "hybrid_streaming"))
    pull = {n: (streamed.theta[n] - x) / streamed.stderr[n] for n, x in TRUTH.items()}
    worst = max(pull, key=lambda n: abs(pull[n]))
    apart = max(abs(full.theta[n] / streamed.theta[n] - 1) for n in TRUTH)
    print(
        f"| {seed} | {full.status} / {streamed.status} | {abs(pull[worst]):.2f} ({worst}) | {streamed.chi2_reduced:.5f} | "
        f"{apart:.1e} | {passes(full)} / {passes(streamed)} | {full_s:.1f} / {streamed_s:.1f} |",
        flush=True,
    )
    return {
        "pull": abs(pull[worst]),
        "chi2": abs(streamed.chi2_reduced - 1),
        "agreement": apart,
        "not converged": float(not (full.converged and streamed.converged)),
    }


def main() -> None:
    """Print the table, the verdict on a shared pair, and fail if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    print("| seed | status, full batch / streamed | largest pull | chi2/N | strategies differ by | passes | seconds |")
    print("|--:|---|---|--:|--:|--:|--:|")
    rows = [row(seed) for seed in seeds]
    shared = homodyne.fit(simulate(0), scaling="auto", start=start_of(0), weighting="uniform")
    worst = max(abs(shared.theta[n] - x) / shared.stderr[n] for n, x in TRUTH.items())
    print(f"\n`auto` on seed 0: chi2/N {shared.chi2_reduced:.2f}, largest pull {worst:.0f}; it reports:\n")
    print("\n".join(f"> {text}" for text in shared.warnings))
    missed = [n for n, limit in LIMITS.items() if max(r[n] for r in rows) > limit]
    missed += ["not converged"] * any(r["not converged"] for r in rows)
    missed += ["auto not refuted"] * (not any("refuted" in text for text in shared.warnings))
    if missed:
        raise SystemExit(f"limits missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
