#!/usr/bin/env python3
"""Tables and figure of the study of whitened fits, as Markdown, from what the other scripts have written.

    python experiments/whitened/report.py --linear outputs/whitened_linear --fits outputs/whitened --wrong outputs/whitened_wrong \\
        --figure experiments/whitened/efficiency.png --json experiments/whitened
"""

from __future__ import annotations

import argparse
import collections
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from run import THETA

from homodyne.files import write_whole
from homodyne.plots.canvas import DATA_COLOR, MODEL_COLOR, MUTED, new_figure, styled, write_png

LEVELS = {68.27: 1.0, 95.0: 1.959964}


def read(folder: Path | None) -> list[dict[str, Any]]:
    """Every JSON file of a folder."""
    return [] if folder is None else [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]


def linear_rows(files: list[dict]) -> list[dict]:
    """One row a cell, with the cell's names."""
    out = []
    for d in files:
        for r in d["rows"]:
            out.append({"model": d["model"], "contrast": d["contrast"], "frames": d["frames"], **r})
    return sorted(out, key=lambda r: (r["frames"], r["model"], r["contrast"], r["counts"], r["angles"]))


def linear_table(rows: list[dict]) -> Iterator[str]:
    """Scatter of whitened over uniform estimates by parameter, with what is predicted, and the bound."""
    yield "| frames | model | contrast | counts | angles | n | scatter, whitened / uniform: D0, alpha, gamma_dot_0, beta, phi0 | predicted | scatter / predicted: uniform, whitened | bound / predicted |"
    yield "|--:|---|--:|--:|--:|--:|---|---|---|---|"
    for r in rows:
        u, w = r["uniform"], r["whitened"]
        found, told = (np.array(w[x]) / np.array(u[x]) for x in ("sd", "predicted"))
        held = " / ".join(f"{np.mean(np.array(x['sd']) / np.array(x['predicted'])):.2f}" for x in (u, w))
        bound = np.mean(np.array(r["bound"]) / np.array(w["predicted"]))
        yield (
            f"| {r['frames']} | {r['model']} | {r['contrast']:g} | {r['counts']:g} | {r['angles']} | {r['n']} | {listed(found)} | "
            f"{listed(told)} | {held} | {bound:.2f} |"
        )


def listed(values: np.ndarray) -> str:
    return " ".join(f"{v:.2f}" for v in values)


def linear_summary(rows: list[dict]) -> Iterator[str]:
    """The goals: better half of the parameters, and never worse."""
    worst, halves = [], []
    for r in rows:
        ratio = np.array(r["whitened"]["sd"]) / np.array(r["uniform"]["sd"])
        worst.append((float(ratio.max()), r))
        if r["counts"] >= 2:
            relative = np.array(r["whitened"]["predicted"]) / np.array([abs(THETA[n]) for n in r["names"]])
            best = np.argsort(relative)[: -(-len(relative) // 2)]
            halves += [(float(x), r) for x in ratio[best]]
    if not rows:
        return
    x = np.array([h for h, _ in halves])
    yield f"* best-determined half of the parameters at 2 and 20 counts: {len(x)} ratios, median {np.median(x):.2f}, {x.min():.2f} to {x.max():.2f}; {np.mean(x <= 0.6):.0%} are at most 0.6"
    high, r = max(worst, key=lambda one: one[0])
    y = np.array([w for w, _ in worst])
    yield f"* largest ratio of a cell: {high:.2f} ({r['model']}, contrast {r['contrast']:g}, {r['counts']:g} counts, {r['angles']} angles, {r['frames']} frames); cells with one above 1.05: {int((y > 1.05).sum())} of {len(y)}"
    for w in ("uniform", "whitened"):
        held = np.concatenate([np.array(r[w]["sd"]) / np.array(r[w]["predicted"]) for r in rows])
        bias = np.concatenate([np.array(r[w]["mean"]) / np.array(r[w]["sd"]) for r in rows])
        yield f"* {w}: scatter / predicted error {held.mean():.2f} on average, {held.min():.2f} to {held.max():.2f}; mean / scatter {bias.mean():+.2f} on average, {bias.min():+.2f} to {bias.max():+.2f}"


def fit_table(files: list[dict]) -> Iterator[str]:
    """Whole fits: scatter, pulls and coverage of both weightings."""
    cells = collections.defaultdict(list)
    for d in files:
        for r in d["fits"]:
            cells[d["frames"], d["model"], d["contrast"], r["counts"], r["angles"]].append(r)
    yield "| frames | model | contrast | counts | angles | n | scatter, whitened / uniform | mean pull: uniform, whitened | coverage 68 / 95 %: uniform | whitened |"
    yield "|--:|---|--:|--:|--:|--:|---|---|--:|--:|"
    total: dict = {w: [] for w in ("uniform", "whitened")}
    for key in sorted(cells):
        fits = [r for r in cells[key] if r["name"] == "whitened" and r["status"] == "converged"]
        if len(fits) < 3:
            continue
        names = list(fits[0]["uniform"])
        x = {w: np.array([[r[w][n] for n in names] for r in fits]) for w in total}
        pulls = {w: (v[:, :, 0] - np.array([THETA[n] for n in names])) / v[:, :, 1] for w, v in x.items()}
        known = np.isfinite(pulls["uniform"]) & np.isfinite(pulls["whitened"])
        with np.errstate(invalid="ignore"):
            ratio = x["whitened"][:, :, 0].std(0) / x["uniform"][:, :, 0].std(0)
        covered = {}
        for w in total:
            covered[w] = " / ".join(f"{100 * np.mean(np.abs(pulls[w][known]) <= q):.0f}" for q in LEVELS.values())
            total[w].append(pulls[w][known])
        means = ", ".join(f"{np.mean(pulls[w][known]):+.2f}" for w in total)
        frames, model, contrast, counts, angles = key
        yield f"| {frames} | {model} | {contrast:g} | {counts:g} | {angles} | {len(fits)} | {listed(ratio)} | {means} | {covered['uniform']} | {covered['whitened']} |"
    for w, parts in total.items():
        if parts:
            p = np.concatenate(parts)
            yield (
                f"\n* {w}, all {len(p)} numbers: mean pull {p.mean():+.2f}, rms {np.sqrt(np.mean(p**2)):.2f}; "
                + ", ".join(
                    f"{100 * np.mean(np.abs(p) <= q):.1f} % within nominal {level:g} %" for level, q in LEVELS.items()
                )
            )


def wrong_table(files: list[dict]) -> Iterator[str]:
    """Noise of other kinds: errors of the estimate against uniform weights, pulls, and what is said."""
    cases = collections.defaultdict(list)
    for d in files:
        cases[d["case"]].append(d)
    names = ("D0", "alpha", "gamma_dot_0", "beta", "phi0")
    yield "| case | n | rms error, whitened / uniform | rms pull: uniform | whitened | whitened, jackknife | p < 1e-4 | χ² warns | errors by jackknife |"
    yield "|---|--:|---|---|---|---|--:|--:|--:|"
    for case, fits in cases.items():
        good = [r for r in fits if r["name"] == "whitened"]
        truth = np.array([THETA[n] for n in names])
        x = {w: np.array([[r[w][n] for n in names] for r in good]) for w in ("uniform", "whitened")}
        away = {w: v[:, :, 0] - truth for w, v in x.items()}
        pulls = {w: rms(away[w] / v[:, :, 1]) for w, v in x.items()}
        jackknife = rms(away["whitened"] / np.array([[r["jackknife"][n] for n in names] for r in good]))
        flags = [np.mean([r.get("p_value", np.nan) < 1e-4 for r in good])]
        flags.append(np.mean([any(t.startswith("chi2 is larger") for t in r["said"]) for r in good]))
        flags.append(np.mean([r["method"] == "jackknife" for r in good]))
        yield (
            f"| {case} | {len(good)} | {listed(rms(away['whitened']) / rms(away['uniform']))} | {listed(pulls['uniform'])} | "
            f"{listed(pulls['whitened'])} | {listed(jackknife)} | {' | '.join(f'{100 * f:.0f} %' for f in flags)} |"
        )


def rms(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(x**2, axis=0))


@styled
def figure(rows: list[dict]) -> Any:
    """Scatter ratios against counts, found and predicted."""
    picture = new_figure(9.0, 3.8)
    axes = picture.subplots(1, 2, sharey=True)
    for axis, model in zip(axes, ("static", "laminar_flow"), strict=True):
        for contrast, color in ((0.05, DATA_COLOR), (0.33, MODEL_COLOR)):
            for r in rows:
                if r["model"] != model or r["contrast"] != contrast:
                    continue
                found, told = (np.array(r["whitened"][x]) / np.array(r["uniform"][x]) for x in ("sd", "predicted"))
                place = r["counts"] * {5: 0.8, 10: 1.0, 23: 1.25}[r["angles"]] * (0.93 if contrast < 0.1 else 1.07)
                marker = {150: "o", 300: "s", 1000: "D"}[r["frames"]]
                axis.plot(np.full(len(found), place), found, marker, ms=4, color=color, alpha=0.8, mew=0)
                axis.plot(np.full(len(told), place), told, "_", ms=8, color="0.2")
            axis.plot([], [], "o", color=color, label=f"contrast {contrast:g}")
        axis.plot([], [], "_", color="0.2", label="predicted")
        axis.axhline(1.0, color=MUTED, lw=0.8)
        axis.set(xscale="log", yscale="log", xlabel="photons per pixel and frame", ylim=(0.05, 1.3))
        axis.set_xticks([0.2, 2, 20], ["0.2", "2", "20"])
        axis.set_yticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"])
        axis.set_title(model.replace("_", " "), loc="left")
    axes[0].set_ylabel("scatter, whitened / uniform")
    axes[0].legend(loc="lower left")
    return picture


def rounded(x: Any) -> Any:
    """The same with six digits."""
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return float(f"{x:.6g}") if isinstance(x, float) else x


def main() -> int:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("linear", "fits", "wrong"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path, help="folder for the numbers as three files")
    arguments = parser.parse_args()
    files = {name: read(getattr(arguments, name)) for name in ("linear", "fits", "wrong")}
    rows = linear_rows(files["linear"])
    if rows:
        print("## One step\n", *linear_summary(rows), "", *linear_table(rows), "", sep="\n")
    if files["fits"]:
        print("## Whole fits\n", *fit_table(files["fits"]), "", sep="\n")
    if files["wrong"]:
        print("## Noise of other kinds\n", *wrong_table(files["wrong"]), "", sep="\n")
    if arguments.figure and rows:
        write_png(figure(rows), arguments.figure, dpi=110)
    if arguments.json:
        for name, found in files.items():
            if found:
                write_whole(arguments.json / f"{name}.json", json.dumps(rounded(found), separators=(",", ":")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
