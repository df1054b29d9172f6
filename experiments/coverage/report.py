#!/usr/bin/env python3
"""Coverage of the intervals that ``run.py`` left: a table in Markdown, all numbers as CSV, a figure.

    python experiments/coverage/report.py outputs/coverage --csv experiments/coverage/coverage.csv \
        --figure experiments/coverage/coverage.png

A quantity counts in a fit when the program does not tell the user to leave it alone (see ``is_loose``), and in a cell when
that holds for 80 % of the fits. Coverage is that of the fits where it counts.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from run import DT_S, THETA
from scipy.stats import norm, t

METHODS = ("speckle", "jackknife", "cr1", "iid")
LEVELS = {"68": 0.6827, "95": 0.95}
GOALS = {"68": (62.0, 74.0), "95": (92.0, 98.0)}
DETERMINED, CURVE = 0.8, 0.25
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
    return dict(sorted(cells.items(), key=lambda item: (item[0][0] != "static", *item[0][1:])))


def is_loose(fit: dict[str, Any], name: str) -> bool:
    """The program told the user not to use this number: not converged, not determined by itself, a curve known to no 25 %."""
    if fit["status"] not in ("converged", "not_identifiable") or "speckle" not in fit["stderr"]:
        return True
    if "(" in name:
        return not fit["stderr"]["speckle"][name] <= CURVE * abs(fit["values"][name])
    if name in fit["undetermined"]:
        return True
    said = [text for text in fit["findings"] if " not determined" in text]
    return any(name in text.split(" are not ")[0].split(" is not ")[0].split(", ") for text in said)


def is_called_bent(fit: dict[str, Any], name: str) -> bool:
    """The program told the user that a symmetric interval is no good answer here."""
    said = [text for text in fit["findings"] if "far from linear" in text]
    return any(name in text.split(":")[0].split(", ") for text in said)


def coverage(fits: list[dict[str, Any]], name: str, method: str, level: float, angles: int) -> tuple[float, int]:
    """Part of the fits whose interval holds the truth, in percent, and of how many."""
    quantile = t.ppf(0.5 + level / 2, angles - 1) if method in ("jackknife", "cr1") else norm.ppf(0.5 + level / 2)
    pulls = [
        abs(f["values"][name] - truth(name)) / f["stderr"][method][name]
        for f in fits
        if method in f["stderr"] and f["stderr"][method][name] > 0
    ]
    return (100 * float(np.mean(np.array(pulls) <= quantile)) if pulls else np.nan), len(pulls)


def rows(cells: dict) -> Iterator[dict[str, Any]]:
    """One a cell and quantity: how often it is determined, how large its error, coverages."""
    for (model, contrast, counts, angles), fits in cells.items():
        for name in fits[0]["values"]:
            usable = [f for f in fits if not is_loose(f, name) and f["stderr"]["speckle"][name] > 0]
            row: dict[str, Any] = {
                "model": model, "contrast": contrast, "counts": counts, "angles": angles, "quantity": name,
                "replicates": len(fits), "determined": round(len(usable) / len(fits), 3),
            }  # fmt: skip
            if usable:
                errors = np.array([f["stderr"]["speckle"][name] for f in usable])
                pulls = (np.array([f["values"][name] for f in usable]) - truth(name)) / errors
                row["relative error"] = float(f"{np.median(errors) / abs(truth(name)):.3g}")
                row["called bent"] = round(float(np.mean([is_called_bent(f, name) for f in usable])), 3)
                row |= {"pull mean": round(float(pulls.mean()), 3), "pull sd": round(float(pulls.std()), 3)}
                for method in METHODS:
                    for tag, level in LEVELS.items():
                        row[f"{method} {tag}"], row[f"{method} n"] = coverage(usable, name, method, level, angles)
            yield row


def counted(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of quantities that the program calls determined."""
    return [r for r in table if r["determined"] >= DETERMINED]


def outside(row: dict[str, Any]) -> bool:
    """Coverage outside the goal by more than its own binomial scatter of two standard deviations, at either level."""
    for tag, (low, high) in GOALS.items():
        spread = 200 * np.sqrt(LEVELS[tag] * (1 - LEVELS[tag]) / row["speckle n"])
        if not low - spread <= row[f"speckle {tag}"] <= high + spread:
            return True
    return False


def within(row: dict[str, Any]) -> bool:
    """Coverage inside the goal as it is counted, at both levels."""
    return all(low <= row[f"speckle {tag}"] <= high for tag, (low, high) in GOALS.items())


def markdown(table: list[dict[str, Any]]) -> Iterator[str]:
    """One line a cell: ranges over its determined quantities."""
    yield "| model | contrast | counts | angles | n | determined | speckle 68 | speckle 95 | jackknife 68 / 95 | CR1 68 / 95 | iid 68 / 95 |"
    yield "|---|--:|--:|--:|--:|--:|---|---|---|---|---|"
    for key in dict.fromkeys((r["model"], r["contrast"], r["counts"], r["angles"]) for r in table):
        cell = [r for r in table if (r["model"], r["contrast"], r["counts"], r["angles"]) == key]
        good = counted(cell)
        means = {f"{m} {tag}": _mean(good, f"{m} {tag}") for m in METHODS for tag in LEVELS}
        ranges = [_range(good, f"speckle {tag}") for tag in LEVELS]
        others = [f"{means[f'{m} 68']} / {means[f'{m} 95']}" for m in METHODS[1:]]
        yield (
            f"| {key[0]} | {key[1]:g} | {key[2]:g} | {key[3]} | {cell[0]['replicates']} | {len(good)} of {len(cell)} | "
            f"{' | '.join(ranges)} | {' | '.join(others)} |"
        )


def _mean(good: list[dict[str, Any]], column: str) -> str:
    values = np.array([r[column] for r in good])
    return "–" if not values.size or np.isnan(values).all() else f"{np.nanmean(values):.0f}"


def _range(good: list[dict[str, Any]], column: str) -> str:
    values = np.array([r[column] for r in good])
    return f"{values.mean():.0f} ({values.min():.0f}–{values.max():.0f})" if values.size else "–"


def summary(table: list[dict[str, Any]]) -> Iterator[str]:
    """How many are inside, and every one that is not."""
    good = counted(table)
    for tag, (low, high) in GOALS.items():
        values = np.array([r[f"speckle {tag}"] for r in good])
        inside = np.mean((values >= low) & (values <= high))
        yield f"nominal {tag} %: mean {values.mean():.1f} %, {100 * inside:.0f} % of {len(good)} within {low:.0f}–{high:.0f} %"
    yield f"both levels as counted: {sum(within(r) for r in good)} of {len(good)}"
    yield "beyond two binomial standard deviations of the goal:"
    for r in good:
        if outside(r):
            yield (
                f"  {r['model']} contrast {r['contrast']:g} counts {r['counts']:g} angles {r['angles']} {r['quantity']}: "
                f"{r['speckle 68']:.0f} / {r['speckle 95']:.0f} %, relative error {r['relative error']:.2g}, "
                f"called bent in {100 * r['called bent']:.0f} %, mean pull {r['pull mean']:+.2f}, sd {r['pull sd']:.2f}"
            )


def figure(table: list[dict[str, Any]], target: Path) -> None:
    """Coverage of every determined quantity against its relative error, by method."""
    from homodyne.plots.canvas import new_figure, write_png

    drawn = new_figure(9.0, 6.0)
    axes = drawn.subplots(2, len(METHODS), sharex=True, sharey="row")
    for column, method in enumerate(METHODS):
        for line, (tag, level) in enumerate(LEVELS.items()):
            axis = axes[line][column]
            axis.axhspan(*GOALS[tag], color="0.85", lw=0)
            axis.axhline(100 * level, color="0.5", lw=0.8)
            for model, color in (("static", "#2b5c8a"), ("laminar_flow", "#c4512d")):
                good = [r for r in counted(table) if r["model"] == model and np.isfinite(r[f"{method} {tag}"])]
                axis.plot(
                    [r["relative error"] for r in good], [r[f"{method} {tag}"] for r in good], ".", ms=4, color=color,
                    label=model,
                )  # fmt: skip
            axis.set_xscale("log")
            axis.set_ylim(0, 102)
            if line == 0:
                axis.set_title(method)
            else:
                axis.set_xlabel("relative error (speckle)")
            if column == 0:
                axis.set_ylabel(f"covered by nominal {tag} % [%]")
    axes[0][0].legend(loc="lower left")
    write_png(drawn, target)


def main() -> int:
    """Print the table; write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    table = list(rows(read(arguments.folder)))
    print("\n".join([*markdown(table), "", *summary(table)]))
    if arguments.csv:
        names = list(dict.fromkeys(name for row in table for name in row))
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(
                {k: round(v, 1) if isinstance(v, float) and k[-2:] in LEVELS else v for k, v in r.items()}
                for r in table
            )
    if arguments.figure:
        figure(table, arguments.figure)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
