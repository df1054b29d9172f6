#!/usr/bin/env python3
"""Coverage of the intervals that ``run.py`` left: tables in Markdown and a figure.

python experiments/coverage/report.py outputs/coverage --figure experiments/coverage/coverage.png
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from run import DT_S, THETA
from scipy.stats import norm, t

METHODS = ("speckle", "jackknife", "iid")
LEVELS = {"68": 0.6827, "95": 0.95}
#: A quantity counts as determined in a cell when the program says so in at least this part of the replicates.
DETERMINED = 0.8
_RATES = {"J": ("D0", "alpha", "D_offset"), "gamma_dot": ("gamma_dot_0", "beta", "gamma_dot_offset")}


def truth(name: str) -> float:
    """Of a parameter, or of a curve such as ``J(2 s)`` on the frame grid."""
    if name in THETA:
        return THETA[name]
    rate, seconds = name.split("(")
    a, b, c = (THETA[n] for n in _RATES[rate])
    return a * (DT_S * round(float(seconds.split()[0]) / DT_S)) ** b + c


def read(folder: Path) -> dict[tuple, list[dict[str, Any]]]:
    """Fits by cell (model, contrast, counts, angles)."""
    cells = defaultdict(list)
    for file in sorted(folder.glob("*.json")):
        light = json.loads(file.read_text())
        for fit in light["fits"]:
            cells[light["model"], light["contrast"], fit["counts"], fit["angles"]].append(fit)
    return dict(sorted(cells.items(), reverse=True))


def is_loose(fit: dict[str, Any], name: str) -> bool:
    """The program told the user not to use this number: an open parameter, a weak one, a curve known to no 25 %."""
    if fit["status"] in ("infeasible_border", "stalled", "max_passes"):
        return True
    if "(" in name:
        return not fit["stderr"]["speckle"][name] <= 0.25 * abs(fit["values"][name])
    said = [text for text in fit["findings"] if "not determined" in text]
    return name in fit["undetermined"] or any(
        name in text.split(":")[0].split(" ")[0:12] or f"{name}," in text for text in said
    )


def coverage(fits: list[dict[str, Any]], name: str, method: str, level: float, angles: int) -> float:
    """Part of the fits whose interval holds the truth, in percent."""
    quantile = t.ppf(0.5 + level / 2, angles - 1) if method == "jackknife" else norm.ppf(0.5 + level / 2)
    hits = [
        abs(f["values"][name] - truth(name)) <= quantile * f["stderr"][method][name]
        for f in fits
        if method in f["stderr"]
    ]
    return 100 * float(np.mean(hits)) if hits else np.nan


def rows(cells: dict) -> Iterator[dict[str, Any]]:
    """One a cell and quantity: coverages, scatter against error, how often it is called determined."""
    for (model, contrast, counts, angles), fits in cells.items():
        for name in fits[0]["values"]:
            loose = np.array([is_loose(f, name) for f in fits])
            usable = [f for f, open_one in zip(fits, loose, strict=True) if not open_one]
            row = {"model": model, "contrast": contrast, "counts": counts, "angles": angles, "name": name}
            row |= {"n": len(fits), "determined": 1 - loose.mean()}
            if usable:
                values = np.array([f["values"][name] for f in usable])
                errors = np.array([f["stderr"]["speckle"][name] for f in usable])
                row |= {
                    "scatter": values.std() / np.sqrt(np.mean(errors**2)),
                    "relative": float(np.median(errors)) / abs(truth(name)),
                }
                for method in METHODS:
                    for tag, level in LEVELS.items():
                        row[f"{method} {tag}"] = coverage(usable, name, method, level, angles)
            yield row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    for row in rows(read(arguments.folder)):
        print({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()})
