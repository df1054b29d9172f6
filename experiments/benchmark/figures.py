#!/usr/bin/env python3
"""Time and memory against points, from the JSON of run.py.

python figures.py results.json [figures/time_memory.png]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from checks import MEMORY_GOAL_GB, TIME_GOALS_S
from make_data import points_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from homodyne.plots.canvas import DATA_COLOR, LIMIT_COLOR, MODEL_COLOR, MUTED, new_figure, styled, write_png

TARGET = Path(__file__).resolve().parent / "figures" / "time_memory.png"


def series(cases: dict[str, Any], kind: str, key: str) -> tuple[list[int], list[float]]:
    """Points and a number of all fits of a kind (fit, search, memory), in order of size."""
    found = [f for name, f in cases.items() if name.startswith(f"{kind} ") and "error" not in f]
    found.sort(key=lambda f: f["points"])
    return [f["points"] for f in found], [f[key] for f in found]


def _finish(axis: Axes, label: str) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("points (unordered pairs)")
    axis.set_ylabel(label)
    axis.grid(True, which="major", color="0.9", lw=0.6)
    axis.legend(loc="best")


@styled
def time_memory(cases: dict[str, Any]) -> Figure:
    """Seconds of a fit and its peak resident memory, both log-log, with the goals."""
    figure = new_figure(8.4, 3.6)
    left, right = figure.subplots(1, 2)
    left.plot(*series(cases, "fit", "seconds"), "o-", color=DATA_COLOR, label="fit, start 30 % off")
    left.plot(*series(cases, "search", "seconds"), "s--", color=MODEL_COLOR, mfc="white", label="fit, no start")
    goals = [(points_of(size), goal) for size, goal in TIME_GOALS_S.items()]
    left.plot(*zip(*goals, strict=True), "v", color=LIMIT_COLOR, label="goal: at most")
    _finish(left, "time after import [s]")
    points, peaks = series(cases, "memory", "peak_rss_gb")
    right.plot(points, peaks, "o-", color=DATA_COLOR, label="peak RSS, streamed")
    right.plot(*series(cases, "memory", "predicted_peak_gb"), "x", color=MODEL_COLOR, label="predicted")
    bytes_of_data = [4 * n / 2**30 for n in points]
    right.plot(points, bytes_of_data, ":", color=MUTED, label="the pairs themselves, float32")
    right.axhline(MEMORY_GOAL_GB, color=LIMIT_COLOR, lw=0.9, label="goal: at most")
    _finish(right, "memory [GB = $2^{30}$ bytes]")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("figure", type=Path, nargs="?", default=TARGET)
    args = parser.parse_args()
    args.figure.parent.mkdir(parents=True, exist_ok=True)
    write_png(time_memory(json.loads(args.json.read_text())["cases"]), args.figure)


if __name__ == "__main__":
    main()
