#!/usr/bin/env python3
"""How long a fit takes on how many workers: a few measured constants, predicted from 10^7 to 10^12 points, and checked.

    python experiments/scaling/model.py experiments/distributed/results.json

Prints the tables of docs/scaling.md and writes scaling.png and scaling.json beside this script.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
ANGLES, PASSES = 100, 4
TASK_POINTS, LEAST_TASKS, MOST_TASKS = 12_000_000, 32, 4000  # of homodyne.optimization.nlsq.distributed
CASES = {"23x933": (23, 933), "100x1415": (100, 1415), "100x4473": (100, 4473)}


@dataclasses.dataclass(frozen=True)
class Constants:
    """Of one machine.

    Attributes:
        point_s: processor seconds a point. task_s: processor seconds of a worker a task beside its points.
        scheduler_s: processor seconds of the scheduler a task, one after the other. sums_bytes: of an angle.
        fixed_s: search, compilation and errors, which do not grow with the points.
    """

    point_s: float
    task_s: float
    scheduler_s: float
    sums_bytes: float
    fixed_s: float = 15.0


def frames_of(points: float, angles: int = ANGLES) -> int:
    return round(0.5 * (1 + math.sqrt(1 + 8 * points / angles)))


def tasks_of(points: float) -> int:
    """Tasks of a pass, as ``make_tasks`` cuts it."""
    target = max(min(TASK_POINTS, points / LEAST_TASKS), points / MOST_TASKS)
    return max(1, math.ceil(points / target))


def read_bytes(points: float, angles: int = ANGLES) -> float:
    """Single precision, rows in strips of 512 from their diagonal on: a little more than the triangle."""
    n = frames_of(points, angles)
    return 4.0 * angles * (n * n / 2 + 256.0 * n)


def pass_terms(
    points: float, workers: int, c: Constants, read_gb_s: float, tasks: int | None = None
) -> dict[str, float]:
    """Seconds of a pass by what may bound it: workers, the storage that all share, the scheduler."""
    tasks = tasks_of(points) if tasks is None else tasks
    rounds = math.ceil(tasks / workers) / (tasks / workers)  # the last round is not full
    return {
        "workers": rounds * (points * c.point_s + tasks * c.task_s) / workers,
        "reading": read_bytes(points) / (read_gb_s * 1e9),
        "scheduler": tasks * c.scheduler_s,
    }


def bound(terms: dict[str, float]) -> str:
    return max(terms, key=lambda name: terms[name])


def calibrated(record: dict[str, Any], cases: tuple[str, ...], name: str = "1 worker") -> tuple[float, float]:
    """Seconds a point and a task from the least processor seconds of some sizes."""
    speed = record["speed"]
    work = np.array([min(speed[case]["processor_seconds"][name]) for case in cases])
    columns = np.array([[speed[case]["points"], record["constants"]["tasks"][case]] for case in cases], dtype=float)
    # relative residuals: small sizes count as much as large ones
    found = np.linalg.lstsq(columns / work[:, None], np.ones(len(cases)), rcond=None)[0]
    return float(found[0]), float(max(found[1], 0.0))


def check(record: dict[str, Any]) -> dict[str, Any]:
    """Work of a pass at every size against what the two smaller sizes say, with one worker, for one and two."""
    point, task = calibrated(record, ("23x933", "100x1415"))
    out: dict[str, Any] = {"point_ns": 1e9 * point, "task_ms": 1e3 * task, "work": {}}
    for case in CASES:
        points, tasks = record["speed"][case]["points"], record["constants"]["tasks"][case]
        predicted = points * point + tasks * task
        measured = {n: min(record["speed"][case]["processor_seconds"][n]) for n in ("1 worker", "2 workers")}
        out["work"][case] = {"predicted_s": predicted, "measured_s": measured} | {
            f"off_{n}": predicted / m - 1 for n, m in measured.items()
        }
        seconds = record["speed"][case]["seconds"]
        turns = np.array(seconds["1 worker"]) / np.array(seconds["2 workers"])
        out["work"][case]["wall_1_over_2_workers"] = float(np.median(turns))
    return out


def table(c: Constants, storage: float) -> list[dict[str, Any]]:
    rows = []
    for points in (1e9, 1e10, 1e11, 1e12):
        for workers in (2, 16, 128, 1024):
            terms = pass_terms(points, workers, c, storage)
            whole = c.fixed_s + PASSES * max(terms.values())
            rows.append(
                {
                    "points": points, "frames": frames_of(points), "tb": read_bytes(points) / 1e12, "n_workers": workers,
                    "pass_s": max(terms.values()), "terms_s": terms, "bound": bound(terms), "fit_s": whole, "core_hours": workers * whole / 3600,
                }
            )  # fmt: skip
    return rows


def figure(record: dict[str, Any], c: Constants, checked: dict[str, Any]) -> Figure:
    made = Figure(figsize=(9.6, 3.9), layout="constrained")
    FigureCanvasAgg(made)
    left, right = made.subplots(1, 2)
    n = np.geomspace(3e6, 3e9, 60)
    point, task = checked["point_ns"] * 1e-9, checked["task_ms"] * 1e-3
    left.loglog(
        n, [x * point + tasks_of(x) * task for x in n], color="0.3", lw=1.2, label="predicted from 10$^7$ and 10$^8$"
    )
    for name, color, marker in (("threads", "0.6", "s"), ("1 worker", "#c4512d", "o"), ("2 workers", "#2b5c8a", "^")):
        x = [record["speed"][case]["points"] for case in CASES]
        y = [min(record["speed"][case]["processor_seconds"][name]) for case in CASES]
        left.loglog(x, y, marker, color=color, ms=5.5, mfc="none", label=f"measured, {name}")
    left.set_xlabel("points of a pass")
    left.set_ylabel("processor seconds of a pass")
    left.legend(frameon=False, fontsize=8)
    n = np.geomspace(1e8, 1e12, 80)
    for workers, color in ((2, "#2b5c8a"), (16, "#3b7a57"), (128, "#b8860b"), (1024, "#c4512d")):
        at_best = [max(pass_terms(x, workers, c, 100.0).values()) for x in n]
        shared = [max(pass_terms(x, workers, c, 2.0).values()) for x in n]
        right.loglog(n, at_best, color=color, lw=1.4, label=f"{workers} workers")
        right.loglog(n, shared, color=color, lw=1.0, ls="--")
    right.loglog(n, [tasks_of(x) * c.scheduler_s for x in n], color="0.5", lw=0.9, ls=":", label="scheduler")
    right.set_xlabel("points (100 angles)")
    right.set_ylabel("seconds of a pass, predicted")
    right.set_title("solid: storage of 100 GB/s; dashed: 2 GB/s", fontsize=8)
    right.legend(frameon=False, fontsize=8)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    args = parser.parse_args()
    record = json.loads(args.results.read_text())
    checked = check(record)
    point, task = calibrated(record, tuple(CASES))
    constants = record["constants"]
    c = Constants(
        point, task, constants["scheduler_processor_seconds_per_task"]["1000"], constants["sums_bytes_per_angle"]
    )
    out = {"constants": dataclasses.asdict(c), "check": checked}
    print(json.dumps(out, indent=1))
    for storage in (2.0, 100.0):
        rows = out[f"storage {storage:g} GB/s"] = table(c, storage)
        print(f"\nstorage {storage:g} GB/s")
        print(
            "| points | frames | TB a pass | workers | s a pass | bound by | fit | core hours |\n|---|--:|--:|--:|--:|---|--:|--:|"
        )
        for r in rows:
            print(
                f"| {r['points']:.0e} | {r['frames']} | {r['tb']:.3g} | {r['n_workers']} | {r['pass_s']:.3g} | {r['bound']} | "
                f"{r['fit_s']:.3g} s | {r['core_hours']:.3g} |"
            )
    (HERE / "scaling.json").write_text(json.dumps(out, indent=1) + "\n")
    figure(record, c, checked).savefig(HERE / "scaling.png", dpi=150)


if __name__ == "__main__":
    main()
