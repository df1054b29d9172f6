"""Judge fits against the known truth and print them as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from flow import NAMES, profiled_chi2

# The peer fits both triangles of a symmetric matrix: every pair counts twice and its error bars come out sqrt(2) small.
DOUBLE_COUNT = {"peer": np.sqrt(2.0), "ours": 1.0}


def judge(file: Path, fits: dict[str, Any]) -> dict[str, Any]:
    """Truth, start, pulls and chi2/N of every answer, evaluated by flow.py with the best scaling of each angle.

    chi2/N is over unordered pairs t1 < t2, so the answers of both programs are on one scale.
    """
    with np.load(file) as npz:
        data = dict(npz)
    n_points = len(data["phi"]) * len(data["t"]) * (len(data["t"]) - 1) // 2
    truth = dict(zip(NAMES, map(float, data["theta_true"]), strict=True))
    start = dict(zip(NAMES, map(float, data["theta0"]), strict=True))
    answers = {"truth": truth, "start": start} | {who: f["theta"] for who, f in fits.items() if "theta" in f}
    pulls = {
        who: {n: (f["theta"][n] - truth[n]) / f["stderr"][n] if f["stderr"][n] > 0 else None for n in NAMES}
        for who, f in fits.items()
        if "theta" in f
    }
    chi2 = {who: profiled_chi2(theta, data) for who, theta in answers.items()}
    return {"n_points": n_points, "truth": truth, "start": start, "pulls": pulls, "chi2": chi2}


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def _summary(case: str, result: dict[str, Any]) -> list[str]:
    lines, judged, fits = [], result["judged"], result["fits"]
    n, best = judged["n_points"], judged["chi2"]["truth"]
    for who, fit in fits.items():
        if "error" in fit:
            lines.append(_row(case, f"{n:,}", who, "failed", *[""] * 7, fit["error"].replace("\n", " ")[-120:]))
            continue
        chi2 = judged["chi2"][who]
        # the minimum can only lie below the truth, so an answer above it is no minimum, whatever the program says
        note = "**no minimum**" if chi2 > best + 1.0 else ""
        note += " earlier run" if fit.get("reused") else ""
        lines.append(
            _row(
                case,
                f"{n:,}",
                who,
                f"{fit['fit_s']:.1f}",
                f"{fit['wall_s']:.1f}",
                f"{fit['peak_rss_gb']:.2f}",
                f"{fit['peak_tree_gb']:.2f}",
                fit["success"],
                fit["iterations"],
                f"{fit['chi2_reduced']:.4f}",
                f"{chi2 / n:.4f} ({chi2 - best:+.1f})",
                note,
            )
        )
    return lines


def _ratios(case: str, fits: dict[str, Any], chi2: dict[str, float]) -> str | None:
    if not all("theta" in fits.get(who, {}) for who in ("peer", "ours")):
        return None
    peer, ours = fits["peer"], fits["ours"]
    time_ratio, memory_ratio = peer["fit_s"] / ours["fit_s"], peer["peak_rss_gb"] / ours["peak_rss_gb"]
    caution = (
        " It did not reach the minimum, so this compares unequal work." if chi2["peer"] > chi2["truth"] + 1.0 else ""
    )
    again = ours.get("again", {}).get("fit_s")
    kept = f" ({peer['fit_s'] / again:.0f} times when our compiled code is on disk: {again:.2f} s)" if again else ""
    return (
        f"{case}: the peer takes {time_ratio:.1f} times our time{kept} and {memory_ratio:.1f} times our peak memory."
        f"{caution}"
    )


def _parameters(case: str, result: dict[str, Any]) -> list[str]:
    judged, fits = result["judged"], {who: f for who, f in result["fits"].items() if "theta" in f}
    head = [cell for who in fits for cell in (f"{who}", f"{who} stderr", f"{who} pull")]
    lines = ["", f"## {case}", "", _row("parameter", "truth", "start", *head), _row(*["---"] * (3 + len(head)))]
    for name in NAMES:
        cells: list[str] = []
        for who, fit in fits.items():
            pull = judged["pulls"][who][name]
            cells += [
                f"{fit['theta'][name]:.6g}",
                f"{fit['stderr'][name]:.2g}",
                "-" if pull is None else f"{pull:+.3g}",
            ]
        lines.append(_row(f"`{name}`", f"{judged['truth'][name]:g}", f"{judged['start'][name]:g}", *cells))
    for who in fits:
        factor = DOUBLE_COUNT[who]
        squares = [(p / factor) ** 2 for p in judged["pulls"][who].values() if p is not None]
        note = " (stderr multiplied by sqrt(2): it counts each pair twice)" if factor > 1 else ""
        lines += ["", f"{who}: root mean square pull {np.sqrt(np.mean(squares)):.3g}{note}"]
    return lines


def tables(record: dict[str, Any]) -> str:
    """Markdown: one summary table, the ratios, and per case a table of parameters with pulls (theta - truth) / stderr."""
    head = ("case", "pairs", "program", "fit [s]", "process [s]", "peak [GB]", "peak, all processes [GB]")
    head = (*head, "success", "iterations", "chi2/N reported", "chi2/N at its theta (above truth)", "note")
    lines = [
        f"{record['cpus']} CPUs, {record['machine']}; parameters `{record['numbers']}`, seed {record['seed']}.",
        "",
    ]
    lines += [_row(*head), _row(*["---"] * len(head))]
    for case, result in record["cases"].items():
        lines += _summary(case, result)
    lines.append("")
    for case, result in record["cases"].items():
        ratio = _ratios(case, result["fits"], result["judged"]["chi2"])
        lines += [ratio, ""] if ratio else []
        chi2, n = result["judged"]["chi2"], result["judged"]["n_points"]
        lines += [
            f"{case}: chi2/N is {chi2['truth'] / n:.4f} at the truth and {chi2['start'] / n:.4f} at the start.",
            "",
        ]
    for case, result in record["cases"].items():
        lines += _parameters(case, result)
    return "\n".join(lines)
