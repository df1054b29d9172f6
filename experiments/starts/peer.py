#!/usr/bin/env python3
"""The peer (homodyne 2.23) from random starts over its own bounds; see README.md.

python experiments/starts/peer.py --peer-python PEER_VENV/bin/python --peer-script peer_fit.py --starts 5
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import homodyne

sys.path.insert(0, str(Path(__file__).parents[1] / "peer_comparison"))
from make_data import simulate

HERE = Path(__file__).parent
NAMES = ("D0", "alpha", "D_offset", "gamma_dot_0", "beta", "gamma_dot_offset", "phi0")
#: The bounds that it is given, and whether they span decades.
BOUNDS = (
    (1e2, 1e5, True), (-2.0, 2.0, False), (-1e4, 1e4, False), (1e-6, 0.5, True), (-2.0, 2.0, False), (-0.1, 0.1, False),
    (-10.0, 10.0, False),
)  # fmt: skip
SAME = 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--peer-script", required=True)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--case", default="23x300")
    chosen = parser.parse_args()
    data = simulate(chosen.case, "mild", 1)
    dataset = homodyne.Dataset.from_arrays(
        data["c2"], phi=data["phi"], t=data["t"], q=float(data["q"]), gap=float(data["gap"]), sigma=float(data["sigma"])
    )
    truth = dict(zip(NAMES, map(float, data["theta_true"]), strict=True))
    best = chi2(dataset, None, truth)
    rng = np.random.default_rng(1)
    kept = HERE / "peer.json"
    rows = json.loads(kept.read_text()) if kept.exists() else []
    for n in range(chosen.starts):
        start = np.array([draw(rng, *bound) for bound in BOUNDS])
        if n < len(rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "data.npz"
            np.savez(file, **{**data, "theta0": start})
            began = time.perf_counter()
            run = subprocess.run(
                [chosen.peer_python, chosen.peer_script, str(file)], capture_output=True, text=True, check=False
            )
            seconds = time.perf_counter() - began
        line = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else ""
        row = {"start": start.tolist(), "seconds": seconds, "exit": run.returncode, "chi2_best": best}
        if line.startswith("{"):
            found = json.loads(line)
            theta = dict(zip(NAMES, found["theta"].values(), strict=True))
            row |= {"peer": found}
            try:
                row["chi2"] = chi2(dataset, theta, truth)
            except homodyne.InputError as error:  # D(t) or J(t) below zero at some frame
                row["chi2"], row["error"] = float("inf"), str(error)
            row["found"] = row["chi2"] <= best * (1 + SAME)
        else:
            row["error"] = run.stderr[-500:]
        rows.append(row)
        kept.write_text(json.dumps(rows, indent=1))
        print({k: row.get(k) for k in ("seconds", "chi2", "chi2_best", "found", "exit")}, flush=True)


def draw(rng: np.random.Generator, low: float, high: float, decades: bool) -> float:
    """A number between the bounds, uniform, or so in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high)))) if decades else float(rng.uniform(low, high))


def chi2(dataset: homodyne.Dataset, theta: dict[str, float] | None, truth: dict[str, float]) -> float:
    """chi2 per degree of freedom at theta, at the best contrast and offset; of our fit from the truth without one."""
    settings = {"start": truth} if theta is None else {"fixed": theta}
    fit = homodyne.fit(
        dataset, "laminar_flow", strategy="stratified_ls", convention="homodyne-2", covariance="iid", **settings
    )
    return fit.chi2_reduced * (fit.n_points - fit.n_parameters) / fit.n_points


if __name__ == "__main__":
    main()
