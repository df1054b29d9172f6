"""``homodyne-window-scan SWEEP``: the windows of a scan in one table and one figure.

SWEEP is the folder of ``python -m homodyne.train -m +experiment=window_scan ...``, which does the same when it ends.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from homodyne.cli.sweeps import runs_over
from homodyne.config.schema import folder_name
from homodyne.errors import InputError
from homodyne.files import write_whole
from homodyne.plots.windows import Window, free_parameters, windows_figure

FRAMES = "dataset.frames"
#: Below this probability of the scatter between windows a parameter is said to change.
SIGNIFICANCE = 1e-3


def main(argv: Sequence[str] | None = None) -> int:
    """Write table and figure into the sweep's folder; exit code 1 and a message on stderr where there are none."""
    parser = argparse.ArgumentParser(prog="homodyne-window-scan", description=__doc__)
    parser.add_argument("sweep", type=Path, help="outputs/sweeps/...")
    args = parser.parse_args(argv)
    try:
        folders = [path.parent for path in sorted(args.sweep.glob("*/result.nc"))]
        files, lines = summarize(folders)
        if not files:
            raise InputError(
                "SWEEP", str(args.sweep), "holds no two finished windows of one scan",
                "give the folder of a sweep over dataset.frames",
            )  # fmt: skip
    except InputError as error:
        print(f"homodyne-window-scan: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


def summarize(folders: Iterable[Path], figures: bool = True) -> tuple[list[Path], list[str]]:
    """Tables and figures of the scans among these runs, and what to say about them; nothing where there is no scan.

    Runs that differ in other settings than the window make scans of their own.

    Args:
        folders: of runs of one sweep; those without a result are left out.
    """
    files: list[Path] = []
    lines: list[str] = []
    for name, (sweep, windows) in scans(folders).items():
        if len({(w.first, w.last) for w in windows}) < 2:
            continue
        stem = f"windows_{folder_name(name)}" if name else "windows"
        write_whole(sweep / f"{stem}.csv", as_csv(windows))
        files.append(sweep / f"{stem}.csv")
        if figures:
            from homodyne.plots.canvas import write_png

            files.append(write_png(windows_figure(windows), sweep / f"{stem}.png"))
        lines += [*([name] if name else []), *as_text(windows), *changes(windows)]
    return files, [*lines, *(f"Window scan: {path}" for path in files)]


def scans(folders: Iterable[Path]) -> Mapping[str, tuple[Path, list[Window]]]:
    """Windows in order, by what else was swept ("" for nothing), with the folder of the sweep."""
    found: dict[str, tuple[Path, list[Window]]] = {}
    for others, runs in runs_over(folders, FRAMES).items():
        windows = []
        for run in runs:
            selected = run.result.provenance["dataset"]
            first, last = selected["frames"]
            windows.append(Window(int(first), int(last), float(selected["dt"]), run.result))
        found[others] = (runs[0].path.parent, sorted(windows, key=lambda w: (w.first, w.last)))
    return found


def as_csv(windows: Sequence[Window]) -> str:
    """One row a window: frames, times of the laboratory [s], status, chi2, free parameters with their errors."""
    names = free_parameters(windows)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "first",
            "last",
            "start_s",
            "center_s",
            "status",
            "chi2_reduced",
            "chi2_expected",
            *(c for n in names for c in (n, f"{n}_stderr")),
        ]
    )
    for w in windows:
        values = [c for n in names for c in (w.result.theta[n], w.result.stderr[n])]
        numbers = [f"{x:.9g}" for x in (w.start_s, w.center_s)]
        fit = [f"{x:.9g}" for x in (w.result.chi2_reduced, _expected(w), *values)]
        writer.writerow([w.first, w.last, *numbers, w.result.status.value, *fit])
    return stream.getvalue()


def as_text(windows: Sequence[Window]) -> list[str]:
    """The same for a terminal; ``expected`` is the chi2/N that the noise of speckle makes by itself."""
    names = free_parameters(windows)
    lines = [
        f"{'frames':>13} {'center [s]':>11} {'chi2/N':>7} {'expected':>8}" + "".join(f" {name:>26}" for name in names)
    ]
    for w in windows:
        cells = "".join(f" {_with_error(w, name):>26}" for name in names)
        state = "" if w.result.converged else f"  {w.result.status.value}"
        lines.append(
            f"{f'{w.first}-{w.last}':>13} {w.center_s:>11.5g} {w.result.chi2_reduced:>7.3f} {_expected(w):>8.3f}{cells}{state}"
        )
    return lines


def _expected(window: Window) -> float:
    """NaN where the errors of the fit are not those of speckle."""
    diagnostics = window.result.diagnostics
    return float(diagnostics["chi2_expected"].mean()) if "chi2_expected" in diagnostics else float("nan")


def _with_error(window: Window, name: str) -> str:
    value, error = window.result.theta[name], window.result.stderr[name]
    if np.isfinite(error):
        return f"{value:.5g} ± {error:.2g}"
    return f"{value:.5g} at bound" if np.isnan(error) else f"{value:.5g} undetermined"


def changes(windows: Sequence[Window]) -> list[str]:
    """Whether the scatter of each parameter between windows exceeds its errors.

    chi2 = sum((theta_w - mean)**2 / error_w**2) about the weighted mean, for windows that share no frames.
    """
    from scipy.stats import chi2 as distribution

    if any(a.last >= b.first for a, b in pairwise(windows)):
        return ["Windows overlap: neighbors share data, so their scatter is no test"]
    lines = []
    for name in free_parameters(windows):
        pairs = [(w.result.theta[name], w.result.stderr[name]) for w in windows]
        known = np.array([(value, error) for value, error in pairs if np.isfinite(error) and error > 0])
        if len(known) < 2:
            lines.append(f"{name}: determined in fewer than two windows")
            continue
        value, weight = known[:, 0], known[:, 1] ** -2.0
        chi2 = float(np.sum(weight * (value - np.average(value, weights=weight)) ** 2))
        p = float(distribution.sf(chi2, len(value) - 1))
        said = "changes between windows" if p < SIGNIFICANCE else "no change between windows beyond its errors"
        lines.append(f"{name}: {said} (chi2 {chi2:.3g} for {len(value) - 1} degrees of freedom, p = {p:.2g})")
    return lines


if __name__ == "__main__":
    sys.exit(main())
