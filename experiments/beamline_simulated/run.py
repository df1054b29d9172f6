#!/usr/bin/env python3
"""Fit files that the APS-U correlator wrote from simulated speckle, with the user's command, and compare with the truth.

    python experiments/beamline_simulated/run.py FOLDER --out outputs/beamline_simulated

FOLDER holds ``*_results.hdf`` and ``truth.json``. Every q of every file is fitted by its own ``python -m homodyne.train``;
``--fixed D_offset=0`` holds a parameter. Prints Markdown: parameters with errors and pulls, and the rates J(t) and
gamma_dot(t) with errors from the full covariance.
"""

from __future__ import annotations

import argparse
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
#: Amplitude, exponent and offset of a rate a * t**b + c, and its unit.
RATES = {
    "J": ("D0", "alpha", "D_offset", "angstrom^2/s"),
    "gamma_dot": ("gamma_dot_0", "beta", "gamma_dot_offset", "1/s"),
}


def fit(file: Path, q: float, gap: float, fixed: list[str], run_dir: Path) -> FitResult:
    """The user's command; the result is read back from its run folder."""
    settings = [f"dataset.path={file}", f"dataset.q={q}", f"dataset.gap_angstrom={gap}", f"hydra.run.dir={run_dir}"]
    settings += [f"model.fixed.{assignment}" for assignment in fixed]
    command = [sys.executable, "-m", "homodyne.train", "+experiment=laminar_flow", "dataset=apsu", "tracking=none"]
    code = subprocess.run([*command, *settings], stdout=subprocess.DEVNULL, check=False).returncode
    if code not in (0, 2):  # 2: not converged, and the result says so
        raise SystemExit(f"the fit of {file} at q={q} ended with exit code {code}; see {run_dir / 'fit.log'}")
    return FitResult.load(run_dir / "result.nc")


def rate(result: FitResult, names: tuple[str, str, str], t: float) -> tuple[float, float]:
    """a * t**b + c and its error by the delta method: the parameters may be strongly correlated, the rate is not."""
    a, b, c = (result.theta[name] for name in names)
    slope = np.array([t**b, a * t**b * np.log(t), 1.0])
    covariance = result.covariance.sel(parameter=list(names), parameter_=list(names)).values
    defined = np.isfinite([result.stderr[name] for name in names]).all()  # not at a bound or an infeasible border
    return a * t**b + c, float(np.sqrt(slope @ covariance @ slope)) if defined else float("nan")


def line(name: str, unit: str, truth: float, value: float, error: float) -> str:
    """One row of the table; the pull is empty where the fit gives no error."""
    pull = f"{(value - truth) / error:+.1f}" if error > 0 else ""
    return (
        f"| {name} | {unit} | {truth:.5g} | {value:.5g} | {error:.2g} | {100 * (value / truth - 1):+.0f} % | {pull} |"
    )


def lines_of(title: str, result: FitResult, truth: dict[str, float], angles: list[float]) -> Iterator[str]:
    """The section of one fit."""
    if sorted(result.phi.tolist()) != sorted(angles):
        raise SystemExit(f"{title}: the reader gave phi = {result.phi.tolist()}, the truth says {angles}")
    yield f"### {title}: {len(angles)} angles, {result.n_points:,} pairs\n"
    passes = int((result.history["stage"] == "full").sum())
    yield f"{result.status.value} after {passes} full passes, chi2/N = {result.chi2_reduced:.3f}, contrast {result.contrast.mean():.3f}\n"
    yield "| quantity | unit | truth | fitted | error (iid) | deviation | pull |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for p in result.parameters:
        yield line(p.name, p.unit or "1", truth[p.name], result.theta[p.name], result.stderr[p.name])
    for rate_name, (*names, unit) in RATES.items():
        a, b, c = (truth[name] for name in names)
        for t in TIMES_S:
            yield line(f"{rate_name}({t:g} s)", unit, a * t**b + c, *rate(result, tuple(names), t))
    yield ""


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
    text: list[str] = []
    for case in told["cases"].values():
        for ring, q in enumerate(told["grid"]["q"]):
            angles = [b["phi_deg"] for b in case["bins"] if b["iq"] == ring]
            folder = args.out.resolve() / f"{Path(case['file']).stem}_q{q:g}"
            result = fit((args.folder / case["file"]).resolve(), q, told["parameters"]["h_A"], args.fixed, folder)
            section = list(lines_of(f"{case['file']}, q = {q:g}", result, truth, angles))
            print("\n".join(section), flush=True)
            text += section
    write_whole(args.out / "table.md", "\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
