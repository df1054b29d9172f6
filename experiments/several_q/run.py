#!/usr/bin/env python3
"""What several q in one fit give: coverage of the errors, gain over independent fits, and beamline files at two q.

    python experiments/several_q/run.py coverage --out outputs/several_q
    python experiments/several_q/run.py gain --out outputs/several_q
    python experiments/several_q/run.py files FOLDER --out outputs/several_q

``coverage`` simulates and fits small measurements of a sample at rest at three q, 80 for each q_exponent. ``gain`` does the
same with shear, all parameters free, and fits every q on its own beside it. ``files`` fits the files of FOLDER
(``*_results.hdf`` and ``truth.json``) at both q together and one by one. All print Markdown and write JSON and figures.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import homodyne
from homodyne.errors import InputError
from homodyne.files import write_whole
from homodyne.result import FitResult
from homodyne.simulate import speckle_dataset

Q = (0.0042, 0.0054, 0.0070)
T = 0.1 * np.arange(80)
REST = {"D0": 2e4, "alpha": -0.5, "D_offset": 0.0}
FLOW = {
    "D0": 8e3, "alpha": -0.4, "D_offset": 300.0, "gamma_dot_0": 2e-3, "beta": -0.2, "gamma_dot_offset": 1e-4, "phi0": 2.0,
}  # fmt: skip
EXPONENTS = (-0.5, 0.0)
TIMES_S = (0.1, 1.0, 10.0)
GAP = 2e6


def sectors(n_phi: int) -> dict[str, np.ndarray]:
    """phi [degree] and q [1/angstrom] of ``n_phi`` sectors on each ring."""
    phi = np.linspace(-75.0, 90.0, n_phi)
    return {"phi": np.tile(phi, len(Q)), "q": np.repeat(Q, n_phi)}


def rate(result: FitResult, name: str, seconds: float, q: float | None = None) -> tuple[float, float]:
    """J or gamma_dot at a time with its error by the noise of speckle; J of a joint fit at ``q`` by the delta method."""
    theta = result.theta
    t = max(seconds, 1e-9)
    a, b, c = ("D0", "alpha", "D_offset") if name == "J" else ("gamma_dot_0", "beta", "gamma_dot_offset")
    base = theta[a] * t ** theta[b] + theta[c]
    slope = {a: t ** theta[b], b: theta[a] * np.log(t) * t ** theta[b], c: 1.0}
    power = 1.0
    if name == "J" and "q_exponent" in theta and q is not None:
        power = (q / result.q_ref) ** theta["q_exponent"]
        slope = {n: v * power for n, v in slope.items()} | {"q_exponent": base * power * np.log(q / result.q_ref)}
    gradient = np.array([slope.get(p.name, 0.0) for p in result.parameters])
    return base * power, float(result.uncertainty.stderr_of(gradient))


# ---------------------------------------------------------------------------------------------------------- coverage


def coverage(out: Path, replicates: int) -> Iterator[str]:
    """Estimates, errors and coverage at rest, three q, four sectors each."""
    record: dict[str, Any] = {}
    for exponent in EXPONENTS:
        truth = {**REST, "q_exponent": exponent}
        rows = [one_at_rest(truth, seed) for seed in range(1, replicates + 1)]
        record[str(exponent)] = rows
        write_whole(out / "coverage.json", json.dumps(record, indent=1))
        yield from coverage_table(exponent, rows)
    figure_coverage(record, out / "coverage.png")


def one_at_rest(truth: dict[str, float], seed: int) -> dict[str, Any]:
    """One measurement: the joint fit, and every q on its own."""
    data = speckle_dataset("static_joint_q", truth, t=T, gap=None, pixels=2000, seed=seed, **sectors(4))
    joint = homodyne.fit(
        data, "static_joint_q", fixed={"D_offset": 0.0}, start={**truth, "D0": 2.5e4}, weighting="uniform"
    )
    free = [p.name for p in joint.parameters if p.name not in joint.fixed]
    single = {}
    for q, ring in data.split().items():
        alone = homodyne.fit(
            ring, "static", fixed={"D_offset": 0.0}, start={"D0": 2.5e4, "alpha": truth["alpha"]}, weighting="uniform"
        )
        single[f"{q:g}"] = {"alone": rate(alone, "J", 1.0), "joint": rate(joint, "J", 1.0, q)}
    return {
        "status": joint.status.value,
        "q_ref": joint.q_ref,
        "fitted": {n: joint.theta[n] for n in free},
        "stderr": {m: {n: joint.stderr_by(m)[n] for n in free} for m in joint.uncertainties},
        "J(1 s)": single,
    }


def true_at_rest(name: str, exponent: float, q_ref: float) -> float:
    """The simulation and the fit have the same q_ref, that of the three q."""
    return {**REST, "q_exponent": exponent}[name]


def coverage_table(exponent: float, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Bias, scatter and coverage of every parameter, and of D at every q alone and joint."""
    n = len(rows)
    yield f"\n**q_exponent = {exponent:g}** ({n} replicates, q_ref = {rows[0]['q_ref']:g})\n"
    yield "| | truth | mean | scatter | mean error (speckle) | 68 % covers | 95 % covers | 95 % iid | 95 % jackknife |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name in rows[0]["fitted"]:
        true = true_at_rest(name, exponent, rows[0]["q_ref"])
        x = np.array([r["fitted"][name] for r in rows])
        errors = {m: np.array([r["stderr"][m][name] for r in rows]) for m in ("speckle", "iid", "jackknife")}
        pull = np.abs(x - true)
        cover = {m: (np.mean(pull < e), np.mean(pull < 1.96 * e)) for m, e in errors.items()}
        jackknife = np.mean(pull < 2.2010 * errors["jackknife"])  # t quantile of 11 degrees of freedom
        yield (
            f"| {name} | {true:g} | {x.mean():.4g} ± {x.std(ddof=1) / n**0.5:.2g} | {x.std(ddof=1):.3g} | "
            f"{errors['speckle'].mean():.3g} | {cover['speckle'][0]:.0%} | {cover['speckle'][1]:.0%} | "
            f"{cover['iid'][1]:.0%} | {jackknife:.0%} |"
        )
    yield "\n| D(1 s) at q | truth | alone: scatter (error) | joint: scatter (error) | ratio of scatters |"
    yield "|--:|--:|--:|--:|--:|"
    for q in rows[0]["J(1 s)"]:
        true = REST["D0"] * (float(q) / rows[0]["q_ref"]) ** exponent
        alone, joint = (np.array([r["J(1 s)"][q][kind] for r in rows]) for kind in ("alone", "joint"))
        sd = [x[:, 0].std(ddof=1) for x in (alone, joint)]
        yield (
            f"| {q} | {true:.0f} | {sd[0]:.0f} ({alone[:, 1].mean():.0f}) | {sd[1]:.0f} ({joint[:, 1].mean():.0f}) | "
            f"{sd[1] / sd[0]:.2f} |"
        )


def figure_coverage(record: dict[str, Any], path: Path) -> None:
    """Pulls of q_exponent and D0 against the normal distribution, and D at every q, alone and joint."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 3.6), layout="constrained")
    left, *rings = figure.subplots(1, 1 + len(record), width_ratios=(1.0, *[1.0] * len(record)))
    grid = np.linspace(-3.5, 3.5, 200)
    left.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color="0.3", lw=1.0, label="normal")
    for exponent, color in zip(record, ("#2b5c8a", "#c4512d"), strict=True):
        rows = record[exponent]
        pulls = [(r["fitted"]["q_exponent"] - float(exponent)) / r["stderr"]["speckle"]["q_exponent"] for r in rows]
        left.hist(
            pulls, np.linspace(-3.5, 3.5, 15), density=True, histtype="step", color=color, lw=1.4,
            label=f"q_exponent = {exponent}",
        )  # fmt: skip
    left.set_xlabel("(fitted − true) / speckle error, q_exponent")
    left.set_ylabel("density")
    left.set_ylim(0.0, 0.68)  # room for the legend
    left.legend(fontsize=8, frameon=False)
    for axis, exponent in zip(rings, record, strict=True):
        rows = record[exponent]
        fine = np.linspace(0.95 * Q[0], 1.05 * Q[-1], 50)
        axis.plot(
            1e3 * fine, REST["D0"] * (fine / rows[0]["q_ref"]) ** float(exponent), color="0.3", lw=1.0, label="truth"
        )
        for kind, color, shift in (("alone", "#c4512d", -0.04), ("joint", "#2b5c8a", 0.04)):
            for q in rows[0]["J(1 s)"]:
                x = np.array([r["J(1 s)"][q][kind][0] for r in rows])
                axis.errorbar(
                    1e3 * float(q) + shift, x.mean(), x.std(ddof=1), fmt="o", ms=4, color=color, capsize=3,
                    label={"alone": "every q on its own", "joint": "joint fit"}[kind] if q == f"{Q[0]:g}" else None,
                )  # fmt: skip
        axis.set_title(f"q_exponent = {exponent}", fontsize=9)
        axis.set_xlabel("q [10$^{-3}$ Å$^{-1}$]")
        axis.set_ylabel("D(1 s) [Å$^2$ s$^{-1}$], mean and scatter of one fit")
        axis.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


# -------------------------------------------------------------------------------------------------------------- gain


def gain(out: Path, replicates: int) -> Iterator[str]:
    """Laminar flow, all parameters free: errors of the joint fits beside those of every q on its own."""
    t = 0.1 * np.arange(150)
    rows = []
    for seed in range(1, replicates + 1):
        truth = {**FLOW, "q_exponent": EXPONENTS[0]}
        data = speckle_dataset("laminar_flow_joint_q", truth, t=t, gap=GAP, pixels=1500, seed=seed, **sectors(8))
        start = {**FLOW, "D0": 1e4}
        joint = homodyne.fit(data, "laminar_flow_joint_q", start={**start, "q_exponent": 0.0}, weighting="uniform")
        row = {"joint": numbers(joint, Q[1])}
        for q, ring in data.split().items():
            row[f"alone at {q:g}"] = numbers(homodyne.fit(ring, "laminar_flow", start=start, weighting="uniform"))
        rows.append(row)
        write_whole(out / "gain.json", json.dumps(rows, indent=1))
    yield f"\nMedian error by the noise of speckle over {len(rows)} measurements (largest |pull|)\n"
    fits = list(rows[0])
    yield f"| | truth | {' | '.join(fits)} |"
    yield "|---|--:|" + "--:|" * len(fits)
    for name in rows[0]["joint"]:
        cells = []
        for f in fits:
            if name not in rows[0][f]:
                cells.append("–")
                continue
            pairs = np.array([r[f][name][:2] for r in rows])
            true = true_value(name, f, joint.q_ref)
            cells.append(f"{np.median(pairs[:, 1]):.2g} ({np.nanmax(np.abs(pairs[:, 0] - true) / pairs[:, 1]):.1f})")
        yield f"| {name} | {true_value(name, 'joint', joint.q_ref):.4g} | {' | '.join(cells)} |"


def true_value(name: str, fit: str, q_ref: float) -> float:
    """Of a parameter or rate in one of the fits of ``gain``: D is that of the ring, or of the middle one in the joint fit."""
    power = (Q[1] / q_ref) ** EXPONENTS[0] if fit == "joint" else (float(fit.split()[-1]) / q_ref) ** EXPONENTS[0]
    if name.startswith("J("):
        t = float(name[2:-3])
        return power * (FLOW["D0"] * t ** FLOW["alpha"] + FLOW["D_offset"])
    if name.startswith("gamma_dot("):
        t = float(name[10:-3])
        return FLOW["gamma_dot_0"] * t ** FLOW["beta"] + FLOW["gamma_dot_offset"]
    if name == "q_exponent":
        return EXPONENTS[0]
    return FLOW[name] * (power if name in ("D0", "D_offset") and fit != "joint" else 1.0)


def numbers(result: FitResult, q: float | None = None) -> dict[str, tuple[float, float]]:
    """Value and speckle error of every free parameter, and of the rates at some times (J at ``q``)."""
    found = {
        p.name: (result.theta[p.name], result.stderr[p.name]) for p in result.parameters if p.name not in result.fixed
    }
    for name in ("J", "gamma_dot"):
        found |= {f"{name}({t:g} s)": rate(result, name, t, q) for t in TIMES_S}
    return found


# ------------------------------------------------------------------------------------------------------------- files


def files(folder: Path, out: Path) -> Iterator[str]:
    """The correlator's files: both q with q_exponent free, both q with one D, and every q on its own."""
    told = json.loads((folder / "truth.json").read_text())
    truth = {("phi0" if n == "phi0_deg" else n): v for n, v in told["parameters"].items()} | {"q_exponent": 0.0}
    record: dict[str, Any] = {}
    for key, case in told["cases"].items():
        data = homodyne.Dataset.open(folder / case["file"], q=told["grid"]["q"], gap=told["parameters"]["h_A"])
        fits = {
            "joint, q_exponent free": homodyne.fit(data, "laminar_flow_joint_q", weighting="uniform"),
            "joint, one D": homodyne.fit(data, "laminar_flow", weighting="uniform"),
            **{
                f"q = {q:g}": homodyne.fit(ring, "laminar_flow", weighting="uniform")
                for q, ring in data.split().items()
            },
        }
        for name, result in fits.items():
            result.save(out / f"{key}_{name.replace(' ', '_').replace(',', '')}.nc")
        record[key] = {n: {"status": r.status.value, "numbers": numbers(r)} for n, r in fits.items()}
        write_whole(out / "files.json", json.dumps(record, indent=1))
        yield f"\n**File {key}** ({data.n_phi} sectors)\n"
        yield from files_table(fits, truth)
        yield ""
        try:
            comparison = homodyne.compare([fits["joint, one D"], fits["joint, q_exponent free"]])
            yield from (f"* {text}" for text in comparison.sentences())
        except InputError as error:  # q_exponent at its bound has no error to test with
            yield f"* not compared: {error}"
        for name, result in fits.items():
            yield f"* {name}: " + " / ".join((*result.findings, *result.warnings))


def files_table(fits: dict[str, FitResult], truth: dict[str, float]) -> Iterator[str]:
    """Value, error and pull."""
    yield f"| | truth | {' | '.join(fits)} |"
    yield "|---|--:|" + "--:|" * len(fits)
    yield "| status | | " + " | ".join(r.status.value for r in fits.values()) + " |"
    yield (
        "| χ²/N (noise of speckle) | | "
        + " | ".join(
            f"{r.chi2_reduced:.3f} ({float(r.diagnostics['chi2_expected'].mean()):.3f})" for r in fits.values()
        )
        + " |"
    )
    found = {name: numbers(r) for name, r in fits.items()}
    for name in next(iter(found.values())):
        true = true_of_files(name, truth)
        cells = [cell(*f[name], true) if name in f else "–" for f in found.values()]
        yield f"| {name} | {true:.4g} | {' | '.join(cells)} |"


def true_of_files(name: str, truth: dict[str, float]) -> float:
    if name in truth:
        return truth[name]
    which, _, seconds = name.removesuffix(" s)").partition("(")
    a, b, c = ("D0", "alpha", "D_offset") if which == "J" else ("gamma_dot_0", "beta", "gamma_dot_offset")
    return truth[a] * float(seconds) ** truth[b] + truth[c]


def cell(value: float, error: float, true: float) -> str:
    """Value ± error (pull)."""
    if not np.isfinite(error) or error == 0:
        return f"{value:.4g} ({'open' if np.isinf(error) else 'no error'})"
    return f"{value:.4g} ± {error:.2g} ({(value - true) / error:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("coverage", "gain", "files"))
    parser.add_argument("folder", type=Path, nargs="?", help="of the files, for files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--replicates", type=int, help="of a study: 80 for coverage, 8 for gain by default")
    args = parser.parse_args()
    if args.study == "files" and args.folder is None:
        parser.error("files needs FOLDER")
    args.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    lines = {
        "coverage": lambda: coverage(args.out, args.replicates or 80),
        "gain": lambda: gain(args.out, args.replicates or 8),
        "files": lambda: files(args.folder, args.out),
    }[args.study]()
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
