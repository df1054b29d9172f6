#!/usr/bin/env python3
"""Where the program says that a symmetric interval is no good answer: does the profile's interval cover?

    python experiments/coverage/profiles.py --replicates 100 --out outputs/coverage_profiles

The same light as in ``run.py``, cells with three sectors, whose phi0 is far from linear.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from run import DT_S, FIXED, GAP, N_FRAMES, PHI, SETS, THETA, Q, correlated, sectors

from homodyne.files import write_whole

CELLS = ((0.33, 2.0), (0.33, 20.0), (0.33, 0.2), (0.05, 20.0))
NAMES, LEVELS, ANGLES = ("phi0", "beta", "gamma_dot_0"), (0.6827, 0.95), 3


def replicate(contrast: float, counts: float, seed: int) -> dict:
    """Fit one cell; both intervals of every parameter that is called far from linear."""
    from homodyne import Dataset, fit

    chosen = SETS[ANGLES]
    light = sectors("laminar_flow", contrast, seed, chosen)
    rng = np.random.default_rng([seed, round(10 * counts), 7])
    c2 = np.array([correlated(i, counts, rng) for i in light])
    dataset = Dataset.from_arrays(c2, PHI[list(chosen)], DT_S * np.arange(N_FRAMES), Q, GAP)
    start = {n: v for n, v in THETA.items() if n not in FIXED}
    result = fit(dataset, "laminar_flow", start=start, fixed=dict.fromkeys(FIXED, 0.0), weighting="uniform")
    said = " ".join(text.split(":")[0] for text in result.findings if "far from linear" in text)
    out: dict = {"status": result.status.value, "intervals": {}}
    for name in NAMES:
        if name in said.replace(",", "").split() and result.stderr[name] > 0:
            profile = result.profile(name, levels=LEVELS)
            linear = [result.interval(name, level) for level in LEVELS]
            out["intervals"][name] = {"linear": linear, "profile": [profile.interval(level) for level in LEVELS]}
    return out


def main() -> int:
    """Run what is missing, then count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("outputs/coverage_profiles"))
    arguments = parser.parse_args()
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.replicates):
        for contrast, counts in CELLS:
            file = arguments.out / f"{contrast:g}_{counts:g}_{seed:04d}.json"
            if not file.exists():
                write_whole(file, json.dumps(replicate(contrast, counts, seed)))
        if (seed + 1) % 20 == 0:
            print(f"{seed + 1} of {arguments.replicates}", flush=True)
    print(
        "| contrast | counts | parameter | n | linear 68 / 95 | profile 68 / 95 | open sides |\n|--:|--:|---|--:|---|---|--:|"
    )
    for contrast, counts in CELLS:
        fits = [json.loads(f.read_text()) for f in sorted(arguments.out.glob(f"{contrast:g}_{counts:g}_*.json"))]
        for name in NAMES:
            found = [f["intervals"][name] for f in fits if name in f["intervals"]]
            if len(found) < 20:
                continue
            held = {
                k: [100 * np.mean([f[k][n][0] <= THETA[name] <= f[k][n][1] for f in found]) for n in (0, 1)]
                for k in found[0]
            }
            opened = np.mean([not np.isfinite(f["profile"][1]).all() for f in found])
            linear, profile = (" / ".join(f"{v:.0f}" for v in held[k]) for k in ("linear", "profile"))
            print(
                f"| {contrast:g} | {counts:g} | {name} | {len(found)} | {linear} | {profile} | {100 * opened:.0f} % |"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
