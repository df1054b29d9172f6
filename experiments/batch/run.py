#!/usr/bin/env python3
"""Fifty files of a series over temperature, three of them broken, by one command, twice; and eight jobs at once on a fresh store.

    python experiments/batch/run.py --json experiments/batch/results.json

Files and records are written below outputs/batch_study; the commands are those of a user. The figure is left beside this script.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from homodyne.data.formats.netcdf import write_netcdf_stream
from homodyne.simulate import speckle_maps
from homodyne.tracking.store import Store

HERE, OUT = Path(__file__).resolve().parent, Path("outputs/batch_study").absolute()
FILES, BROKEN = 50, {7: "cut off", 21: "not a file of ours", 40: "a sector without data"}
Q, DT, FRAMES, PHI = 0.0054, 0.1, 100, np.array([0.0, 60.0, 120.0])


def temperature(n: int) -> float:
    """Kelvin."""
    return 280.0 + n


def rate(n: int) -> float:
    """D0 [angstrom^2/s] doubles every 20 K."""
    return 1e4 * 2.0 ** (n / 20.0)


def write_files() -> None:
    folder = OUT / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(FILES):
        path = folder / f"series_{n:03d}.nc"
        if n == 21:
            path.write_text("moved to another place")
            continue
        theta = {"D0": rate(n), "alpha": 0.0, "D_offset": 0.0}
        c2 = speckle_maps(
            "static", theta, PHI, DT * np.arange(FRAMES), Q, contrast=0.25, counts=5.0, pixels=2000, seed=n
        )
        if n == 40:
            c2[1] = np.nan
        attrs = {"temperature": temperature(n), "start_time": f"2026-11-24T{n // 4:02d}:{15 * (n % 4):02d}:00"}
        write_netcdf_stream(
            path, lambda k, rows, cols, c2=c2: c2[k, rows, cols], phi=PHI, n_t=FRAMES, dt=DT, q=Q, attrs=attrs
        )
        if n == 7:
            with path.open("r+b") as file:
                file.truncate(20_000)


def train(*arguments: str) -> dict[str, Any]:
    """The command; how it ended and its last lines."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    began = time.perf_counter()
    command = [sys.executable, "-m", "homodyne.train", *arguments]
    ended = subprocess.run(command, cwd=OUT, env=environment, capture_output=True, text=True)
    out = ended.stdout.replace(str(OUT), "OUT").splitlines()
    return {
        "command": "python -m homodyne.train " + " ".join(arguments), "exit_code": ended.returncode,
        "seconds": round(time.perf_counter() - began, 1), "fits_started": sum("] Model: " in line for line in out),
        "skipped": sum("Batch: done before" in line for line in out), "recorded": sum("] Recorded: " in line for line in out),
        "tracebacks": ended.stderr.count("Traceback"), "last_lines": [line[:220] for line in out[-6:]],
    }  # fmt: skip


def runs(experiment: str) -> dict[str, int]:
    """Runs of an experiment, their parents, and how many are complete."""
    client = Store.locate(None, None, OUT / "outputs").client()
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)
    jobs = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return {
        "runs": len(jobs), "parents": len({run.data.tags["mlflow.parentRunId"] for run in jobs}), "in_all": len(found),
        "finished": sum(run.info.status == "FINISHED" for run in jobs),
    }  # fmt: skip


def rows() -> list[dict[str, str]]:
    with (OUT / "outputs" / "batch" / "series" / "batch.csv").open() as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=["sweep", "batch"], help="the other numbers stay as they are in the JSON")
    args = parser.parse_args()
    record: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    shutil.rmtree(OUT, ignore_errors=True)
    write_files()
    if args.only != "batch":
        record["sweep of 8"] = sweep()
    if args.only != "sweep":
        record |= batches()
    print(json.dumps(record, indent=1))
    if args.json:
        known = json.loads(args.json.read_text()) if args.json.exists() else {}
        args.json.write_text(json.dumps(known | record, indent=1).replace(str(OUT), "OUT") + "\n")


def sweep() -> dict[str, Any]:
    """Eight jobs at once that meet no store."""
    return train(
        "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=8", "dataset.path=data/series_000.nc", "model=static", "plots=false",
        "tracking.experiment_name=race", "model.fixed={alpha: 0, D_offset: 0}", "model.scaling=individual,auto", "optimization.nlsq.xtol=1e-3,1e-4,1e-5,1e-6",
    ) | {"store": runs("race")}  # fmt: skip


def batches() -> dict[str, Any]:
    """The batch with three broken files, and once more with two of them mended."""
    batch = (
        "+experiment=batch", "dataset.glob='data/series_*.nc'", "batch.name=series", "model=static",
        "model.fixed={alpha: 0, D_offset: 0}", "plots=true",
    )  # fmt: skip
    record: dict[str, Any] = {}
    record["first start"] = train(*batch) | {"store": runs("batch")}
    # two of the three are mended
    for n in (7, 21):
        shutil.copy(OUT / "data" / f"series_{n + 1:03d}.nc", OUT / "data" / f"series_{n:03d}.nc")
    record["second start, two mended"] = train(*batch) | {"store": runs("batch")}
    found = rows()
    pulls = [
        (float(r["D0"]) - rate(int(r["file"][7:10]))) / float(r["D0_stderr"])
        for r in found
        if r["status"] == "converged" and int(r["file"][7:10]) not in BROKEN
    ]
    record["table"] = {
        "rows": len(found), "failed": [(r["file"], r["problem"][:160]) for r in found if r["status"] == "failed"],
        "pulls_rms": float(np.sqrt(np.mean(np.square(pulls)))), "pulls_max": float(np.max(np.abs(pulls))), "against": list(found[0])[1],
    }  # fmt: skip
    shutil.copy(OUT / "outputs" / "batch" / "series" / "batch.png", HERE / "batch.png")
    return record


if __name__ == "__main__":
    main()
