#!/usr/bin/env python3
"""Do intervals cover when the data come from moving particles, which know nothing of g1, fields or the error model?

    python experiments/particles/run.py --replicates 600 --out outputs/particles

Every replicate moves particles through six sectors (``homodyne.simulate.particle_maps``), counts their light, and fits
D0, gamma_dot_0 and phi0 with exponents and offsets held at the truth. A killed run goes on where it stopped: every
replicate is a file of its own. Prints a table of all replicates in the folder for each case.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy.stats import norm, t

from homodyne import Dataset, fit
from homodyne.files import write_whole
from homodyne.simulate import particle_maps

FREE = {"D0": 2e4, "gamma_dot_0": 4e-4, "phi0": 4.0}
HELD = {"alpha": -0.4, "beta": -0.2, "D_offset": 0.0, "gamma_dot_offset": 0.0}
PHI, T_S = np.linspace(-75.0, 75.0, 6), 0.1 * np.arange(40)
Q, GAP = 0.0054, 2e6
#: "few" has speckle of eight particles, whose field is not Gaussian; "bright" has four times the pixels and less shot noise.
LIGHT = {
    "common": {"contrast_modes": 2, "counts": 2.0, "pixels": 300, "particles": 60},
    "few": {"contrast_modes": 2, "counts": 2.0, "pixels": 300, "particles": 8},
    "bright": {"contrast_modes": 2, "counts": 10.0, "pixels": 1200, "particles": 60},
}
METHODS, LEVELS = ("speckle", "jackknife", "iid"), (0.6827, 0.95)


def replicate(light: dict[str, Any], seed: int) -> dict[str, Any]:
    """Simulate and fit once."""
    began = time.perf_counter()
    c2 = particle_maps(
        lambda s: FREE["D0"] * s ** HELD["alpha"],
        lambda s: FREE["gamma_dot_0"] * s ** HELD["beta"],
        PHI, T_S, Q, GAP, phi0=FREE["phi0"], seed=seed, **light,
    )  # fmt: skip
    simulated = time.perf_counter()
    result = fit(Dataset.from_arrays(c2, PHI, T_S, Q, GAP), start=FREE, fixed=HELD, weighting="uniform")
    return {
        "seed": seed,
        "status": result.status.value,
        "values": {n: result.theta[n] for n in FREE},
        "stderr": {m: {n: result.stderr_by(m)[n] for n in FREE} for m in METHODS},
        "contrast": result.contrast.tolist(),
        "contrast_stderr": {m: result.uncertainties[m].contrast_stderr.tolist() for m in METHODS},
        "counts": result.diagnostics["counts"].values.tolist(),
        "pixels": result.diagnostics["pixels"].values.tolist(),
        "chi2": float(result.chi2_reduced),
        "chi2_expected": float(result.diagnostics["chi2_expected"].mean()),
        "warnings": list(result.warnings),
        "seconds": [simulated - began, time.perf_counter() - simulated],
    }


def table(light: dict[str, Any], found: list[dict[str, Any]]) -> Iterator[str]:
    """Coverage in percent with its binomial uncertainty, and scatter over error, by quantity and method."""
    n = len(found)
    contrast = (1 - 1 / light["particles"]) / light["contrast_modes"]
    contrast *= 1 - (1 + contrast) / light["pixels"]  # division by frame means, see PixelSums, where |g1| is near 1
    quantities = [(name, [r["values"][name] for r in found], FREE[name]) for name in FREE]
    quantities.append((f"contrast at {PHI[0]:g}°", [r["contrast"][0] for r in found], contrast))
    yield f"{n} replicates, {sum(r['status'] != 'converged' for r in found)} not converged\n"
    yield "| quantity | truth | mean | scatter | method | median error | scatter / error | covered of 68 % | of 95 % |"
    yield "|---|--:|--:|--:|---|--:|--:|--:|--:|"
    for name, listed, truth in quantities:
        values = np.array(listed)
        for method in METHODS:
            errors = np.array(
                [r["stderr"][method][name] if name in FREE else r["contrast_stderr"][method][0] for r in found]
            )
            if not np.isfinite(errors).any():  # the jackknife gives no errors of contrasts
                continue
            covered = []
            for level in LEVELS:
                tail = 0.5 + level / 2
                reach = t.ppf(tail, len(PHI) - 1) if method == "jackknife" else norm.ppf(tail)
                p = float(np.mean(np.abs(values - truth) <= reach * errors))
                covered.append(f"{100 * p:.0f} ± {100 * np.sqrt(max(p * (1 - p), 0.5 / n) / n):.0f}")
            yield (
                f"| {name} | {truth:.4g} | {values.mean():.4g} ± {values.std() / np.sqrt(n):.2g} | {values.std():.3g} | {method} "
                f"| {np.median(errors):.3g} | {values.std() / np.sqrt(np.mean(errors[np.isfinite(errors)] ** 2)):.2f} | {' | '.join(covered)} |"
            )
    yield ""
    for name in ("counts", "pixels"):
        values = np.array([r[name] for r in found])
        yield f"Estimated {name}: median {np.median(values):.4g}, truth {light[name]:g}, scatter {values.std():.2g}."
    chi2, expected = (np.array([r[name] for r in found]) for name in ("chi2", "chi2_expected"))
    yield f"chi2/N: mean {chi2.mean():.3f}, expected of speckle {expected.mean():.3f}, scatter {chi2.std():.3f}."
    yield f"Replicates with a warning: {sum(bool(r['warnings']) for r in found)}."
    seconds = np.median([r["seconds"] for r in found], axis=0)
    yield f"Seconds a replicate: {seconds[0]:.1f} for the particles, {seconds[1]:.1f} for the fit."


def main() -> int:
    """Run what is missing in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=600)
    parser.add_argument("--cases", nargs="+", choices=list(LIGHT), default=list(LIGHT))
    parser.add_argument("--out", type=Path, default=Path("outputs/particles"))
    args = parser.parse_args()
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    for case in args.cases:
        light, folder = LIGHT[case], args.out / case
        folder.mkdir(parents=True, exist_ok=True)
        targets = [folder / f"{seed:04d}.json" for seed in range(args.replicates)]
        missing = [(seed, target) for seed, target in enumerate(targets) if not target.exists()]
        for n, (seed, target) in enumerate(missing, 1):
            write_whole(target, json.dumps(replicate(light, seed)))
            if n % 20 == 0 or n == len(missing):
                print(f"{case}: {n} of {len(missing)}", flush=True)
        print(f"\n## {case}: {', '.join(f'{k} {v:g}' for k, v in light.items())}\n")
        print("\n".join(table(light, [json.loads(f.read_text()) for f in sorted(folder.glob("*.json"))])), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
