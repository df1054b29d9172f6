#!/usr/bin/env python3
"""Window scans of an aging sample: simulated speckle with a known rate, and the measured map of experiments/measured.

    python experiments/window_scan/run.py                    the simulated sample
    python experiments/window_scan/run.py FOLDER             and ageing_350.npz in FOLDER

Writes files and sweeps below outputs/window_scan, runs the command that a user would, compares with the truth (for the
measured map with the rates of its authors) and leaves the figures beside this script.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from homodyne.data import Dataset
from homodyne.simulate import speckle_maps

HERE, OUT = Path(__file__).parent, Path("outputs/window_scan")
THETA = {"D0": 3.0e4, "alpha": -0.7, "D_offset": 0.0}
Q, DT, FRAMES = 0.0054, 0.1, 600
Q_MEASURED = 0.01
#: Of the authors, at these ages [frames]: Gamma of exp(-2 (Gamma tau)**a), for a = 1 half of q**2 J.
AGES, RATES = (0, 40, 80, 120, 160, 200, 240, 280), (0.103, 0.035, 0.031, 0.024, 0.024, 0.022, 0.015, 0.019)


def simulated() -> Path:
    """Six sectors of 2000 pixels, 5 counts, 60 s."""
    phi, t = np.linspace(-80, 80, 6), DT * np.arange(FRAMES)
    c2 = speckle_maps("static", THETA, phi, t, Q, contrast=0.25, counts=5.0, pixels=2000, seed=1)
    return written(Dataset.from_arrays(c2, phi, t, Q), "simulated")


def measured(folder: Path) -> Path:
    """One map whose times are frames (1 s stands for one) and whose q is not known (0.01 stands for it)."""
    with np.load(folder / "ageing_350.npz") as file:
        c2 = file["c2"]
    return written(Dataset.from_arrays(c2[None], [0.0], np.arange(float(len(c2))), Q_MEASURED), "measured")


def written(dataset: Dataset, name: str) -> Path:
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.nc"
    path.unlink(missing_ok=True)
    dataset.to_netcdf(path)
    return path


def scan(path: Path, name: str, *overrides: str) -> list[dict[str, str]]:
    """The command; its table, row by row."""
    sweep = OUT / name
    shutil.rmtree(sweep, ignore_errors=True)
    command = [
        sys.executable, "-m", "homodyne.train", "-m", "+experiment=window_scan", f"dataset.path={path.absolute()}",
        "model=static", "strategy.weighting=uniform", "tracking=none", f"hydra.sweep.dir={sweep.absolute()}", *overrides,
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    if ended.returncode not in (0, 2):
        raise SystemExit(ended.stderr)
    lines = ended.stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.split()[1:2] == ["frames"])
    print(f"\n{name}: {' '.join(command[1:])}\nexit code {ended.returncode}")
    print("\n".join(line.removeprefix("[INFO] ") for line in lines[at:]))
    shutil.copy(sweep / "windows.png", HERE / f"{name}.png")
    with (sweep / "windows.csv").open() as file:
        return list(csv.DictReader(file))


def mean_rate(first: int, last: int) -> float:
    """Mean of the true J over the frames of a window."""
    a, b = DT * (first - 1), DT * (last - 1)
    power = 1 + THETA["alpha"]
    return THETA["D0"] * (b**power - a**power) / power / (b - a)


def main() -> None:
    path = simulated()
    constant = "model.fixed={alpha: 0, D_offset: 0}"
    print("| frames | true mean of J | constant rate in 6 windows | pull |\n|---|--:|--:|--:|")
    rows = scan(path, "constant_rate", constant)
    for row in rows:
        truth, value, error = mean_rate(int(row["first"]), int(row["last"])), float(row["D0"]), float(row["D0_stderr"])
        print(
            f"| {row['first']}–{row['last']} | {truth:.0f} | {value:.0f} ± {error:.0f} | {(value - truth) / error:+.1f} |"
        )
    scan(path, "overlapping", constant, "windows.count=11", "windows.overlap=0.5")
    scan(path, "power_law", "model.fixed={D_offset: 0}", "windows.count=4")
    if len(sys.argv) > 1:
        rows = scan(measured(Path(sys.argv[1])), "measured", constant, "windows.count=3")
        print("| frames | Γ = q² J / 2 [1/frame] | authors, at ages within |\n|---|--:|--:|")
        for row in rows:
            factor = 0.5 * Q_MEASURED**2
            inside = [
                f"{r:.3f}" for a, r in zip(AGES, RATES, strict=True) if int(row["first"]) <= a + 1 <= int(row["last"])
            ]
            value, error = factor * float(row["D0"]), factor * float(row["D0_stderr"])
            print(f"| {row['first']}–{row['last']} | {value:.4f} ± {error:.4f} | {', '.join(inside)} |")


if __name__ == "__main__":
    main()
