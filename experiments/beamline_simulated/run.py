#!/usr/bin/env python3
"""Fit files that the APS-U correlator wrote from simulated speckle, with the user's command, and compare with the truth.

    python experiments/beamline_simulated/run.py FOLDER --out outputs/beamline_simulated

FOLDER holds ``*_results.hdf`` and ``truth.json``. Every q of every file is fitted by its own ``python -m homodyne.train``;
``--fixed D_offset=0`` holds a parameter. Prints Markdown: parameters, and the rates J(t) and gamma_dot(t), with the errors
from the noise of speckle and pulls by every method; what the fits say about themselves; the light they find.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from homodyne.files import write_whole
from homodyne.models import get_model
from homodyne.result import FitResult

TIMES_S = (0.1, 1.0, 10.0)
#: Amplitude, exponent and offset of a rate a * t**b + c.
RATES = {"J": ("D0", "alpha", "D_offset"), "gamma_dot": ("gamma_dot_0", "beta", "gamma_dot_offset")}
METHODS = ("iid", "speckle", "jackknife")


@dataclasses.dataclass(frozen=True)
class Case:
    """One q of one file: its fit, and the bins it was made of, in the order of the angles of the fit."""

    title: str
    result: FitResult
    bins: list[dict[str, Any]]


def fit(file: Path, q: float, gap: float, fixed: list[str], run_dir: Path) -> FitResult:
    """The user's command; the result is read back from its run folder."""
    settings = [f"dataset.path={file}", f"dataset.q={q}", f"dataset.gap_angstrom={gap}", f"hydra.run.dir={run_dir}"]
    settings += [f"model.fixed.{assignment}" for assignment in fixed]
    command = [sys.executable, "-m", "homodyne.train", "+experiment=laminar_flow", "dataset=apsu", "tracking=none"]
    settings.append("strategy.weighting=uniform")
    code = subprocess.run([*command, *settings], stdout=subprocess.DEVNULL, check=False).returncode
    if code not in (0, 2):  # 2: not converged, and the result says so
        raise SystemExit(f"the fit of {file} at q={q} ended with exit code {code}; see {run_dir / 'fit.log'}")
    return FitResult.load(run_dir / "result.nc")


def numbers(result: FitResult) -> dict[str, tuple[float, dict[str, float]]]:
    """Value and error by method of every free parameter and of the rates at some times."""
    methods = [m for m in METHODS if m in result.uncertainties]
    found = {
        p.name: (result.theta[p.name], {m: result.stderr_by(m)[p.name] for m in methods})
        for p in result.parameters
        if p.name not in result.fixed
    }
    curves = result.curves()
    for rate in RATES:
        for seconds in TIMES_S:
            at = curves.sel(t=seconds, method="nearest")
            errors = {m: float(at[f"{rate}_stderr_{m}"]) for m in methods}
            found[f"{rate}({seconds:g} s)"] = float(at[rate]), errors
    return found


def true_value(name: str, truth: dict[str, float]) -> float:
    """Of a parameter, or of a rate such as ``J(1 s)``."""
    if name in truth:
        return truth[name]
    rate, seconds = name.removesuffix(" s)").split("(")
    a, b, c = (truth[n] for n in RATES[rate])
    return a * float(seconds) ** b + c


def cell(value: float, errors: dict[str, float], truth: float) -> str:
    """Value, error by speckle, and the pulls by all methods; "open" where the fit says that it is, only the value without an error."""
    error = errors.get("speckle", errors["iid"])
    if not error > 0:
        return f"{value:.4g}"
    if np.isinf(error):
        return f"{value:.4g} (open)"
    pulls = " / ".join(f"{(value - truth) / errors[m]:+.1f}" if errors.get(m, 0) > 0 else "–" for m in METHODS)
    return f"{value:.4g} ± {error:.2g} ({pulls})"


def numbers_table(cases: list[Case], truth: dict[str, float]) -> Iterator[str]:
    """Rows quantities, columns fits."""
    found = [numbers(c.result) for c in cases]
    yield f"| | truth | {' | '.join(c.title for c in cases)} |"
    yield "|---|--:|" + "--:|" * len(cases)
    for name in found[0]:
        target = true_value(name, truth)
        yield f"| {name} | {target:.4g} | {' | '.join(cell(*f[name], target) for f in found)} |"


def light_table(cases: list[Case], truth: dict[str, Any]) -> Iterator[str]:
    """Status, chi2, and the contrast, counts and pixels that the fits find, against those of the simulation."""
    yield "| | status | χ²/N | of speckle noise | contrast | counts, relative to the truth | pixels, relative to the truth |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for case in cases:
        result, table = case.result, case.result.diagnostics
        text = [case.title, f"{result.status.value}", f"{result.chi2_reduced:.3f}"]
        if "pixels" not in table:
            yield f"| {' | '.join([*text, *['–'] * 4])} |"
            continue
        sd = float(np.sqrt((table["chi2_sd"] ** 2).sum())) / len(result.phi)
        text.append(f"{float(table['chi2_expected'].mean()):.3f} ± {sd:.3f}")
        text.append(f"{result.contrast.mean():.3f} ± {result.contrast.std():.3f}")
        for values, true in (
            (table["counts"].values, truth["mean_counts"]),
            (table["pixels"].values, np.array([b["npix"] for b in case.bins])),
        ):
            text.append(f"{(values / true).mean():.3f} ± {(values / true).std():.3f}")
        yield f"| {' | '.join(text)} |"


def said(cases: list[Case]) -> Iterator[str]:
    """What the fits say."""
    for case in cases:
        yield f"**{case.title}** ({len(case.result.phi)} angles): {case.result.message}"
        yield from (f"* {text}" for text in (*case.result.findings, *case.result.warnings))
        yield ""


def run(args: argparse.Namespace, told: dict[str, Any]) -> list[Case]:
    """All fits, one after another."""
    cases = []
    for key, case in told["cases"].items():
        for ring, q in enumerate(told["grid"]["q"]):
            bins = {b["phi_deg"]: b for b in case["bins"] if b["iq"] == ring}
            title, name = f"{key}, q = {q:.4f}", f"{Path(case['file']).stem}_q{q:g}"
            result = fit(
                (args.folder / case["file"]).resolve(),
                q,
                told["parameters"]["h_A"],
                args.fixed,
                args.out.resolve() / name,
            )
            if sorted(result.phi.tolist()) != sorted(bins):
                raise SystemExit(f"{title}: the reader gave phi = {result.phi.tolist()}, the truth says {sorted(bins)}")
            print(f"{title}: {result.status.value}", file=sys.stderr, flush=True)
            cases.append(Case(title, result, [bins[phi] for phi in result.phi.tolist()]))
    return cases


def main() -> int:
    """Fit everything, print and save the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/beamline_simulated"))
    parser.add_argument("--fixed", action="append", default=[], metavar="NAME=VALUE", help="hold a parameter")
    args = parser.parse_args()
    if not (args.folder / "truth.json").is_file():
        print(f"[ERROR] FOLDER={args.folder} holds no truth.json: give the folder with the files", file=sys.stderr)
        return 1
    told: dict[str, Any] = json.loads((args.folder / "truth.json").read_text())
    names = [p.name for p in get_model("laminar_flow").parameters]
    truth = {name: told["parameters"]["phi0_deg" if name == "phi0" else name] for name in names}
    cases = run(args, told)
    text = [*light_table(cases, told["parameters"]), "", *numbers_table(cases, truth), "", *said(cases)]
    print("\n".join(text))
    write_whole(args.out / "table.md", "\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
