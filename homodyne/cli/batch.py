"""``homodyne-batch BATCH``: the fits of many files in one table and one figure, and the files that failed.

BATCH is the folder of ``python -m homodyne.train +experiment=batch ...``, which does the same when it ends.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import datetime
import io
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from homodyne.cli.sweeps import runs_over
from homodyne.config.schema import folder_name
from homodyne.errors import InputError
from homodyne.files import write_whole
from homodyne.plots.batch import Fitted, batch_figure
from homodyne.tracking.run_folder import RunFolder

ORDER, TIME = "order", "start_time"
_LONGEST = 200  # of the reason why a file failed


def main(argv: Sequence[str] | None = None) -> int:
    """Write table and figure into the batch's folder; exit code 1 and a message on stderr where there are none."""
    parser = argparse.ArgumentParser(prog="homodyne-batch", description=__doc__)
    parser.add_argument("batch", type=Path, help="outputs/batch/...")
    args = parser.parse_args(argv)
    folders = sorted(path.parent.parent for path in args.batch.glob("*/.hydra/config.yaml"))
    try:
        files, lines = summarize(folders)
        if not files:
            raise InputError(
                "BATCH",
                str(args.batch),
                "holds no finished fit of a batch",
                "give the folder of a batch, outputs/batch/...",
            )
    except InputError as error:
        print(f"homodyne-batch: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


def is_batch(folders: Iterable[Path]) -> bool:
    """Whether these are folders of a batch."""
    return any(_composed(folder).get("dataset", {}).get("glob") is not None for folder in folders)


def summarize(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Tables and figures of the fits in these folders, and what to say: a line a file, then those that failed.

    Raises:
        InputError: ``batch.against`` names a condition that no file has.
    """
    files: list[Path] = []
    lines: list[str] = []
    failed = {f: _reason(f) for f in folders if not (f / "result.nc").is_file()}
    for name, runs in runs_over(folders, "dataset.path").items():
        against, fits = placed(runs)
        stem = runs[0].path.parent / (f"batch_{folder_name(name)}" if name else "batch")
        write_whole(stem.with_suffix(".csv"), as_csv(fits, failed, against))
        files.append(stem.with_suffix(".csv"))
        if runs[0].settings["plots"]:
            from homodyne.plots.canvas import write_png

            files.append(write_png(batch_figure(fits, against), stem.with_suffix(".png")))
        lines += [*([name] if name else []), *as_text(fits, against)]
    lines += [f"Batch: {path}" for path in files]
    if failed:
        lines.append(f"Batch: {len(failed)} of {len(folders)} files failed; the same command tries them again")
        lines += [f"  {_data(folder)}: {reason}" for folder, reason in failed.items()]
    return files, lines


def placed(runs: Sequence[RunFolder]) -> tuple[str, list[Fitted]]:
    """What the fits are drawn against, and the fits in that order; of the time hours since the first file.

    By default a temperature that differs between the files, else the time when they were measured, else their order.

    Raises:
        InputError: ``batch.against`` names a condition that no file has.
    """
    ordered = sorted(runs, key=lambda run: str(run.settings["dataset"]["path"]))
    known = [_conditions(run) for run in ordered]
    names = list(dict.fromkeys(name for conditions in known for name in conditions))
    chosen = (ordered[0].settings.get("batch") or {}).get("against")
    if chosen is None:
        several = [n for n in names if len({c.get(n) for c in known}) > 1 and all(n in c for c in known)]
        chosen = next((n for n in [*(n for n in several if n != TIME), TIME] if n in several), ORDER)
    if chosen not in (ORDER, *names):
        raise InputError("batch.against", chosen, "is in no file", f"choose one of {', '.join((ORDER, *names))}")
    fits = [
        Fitted(Path(str(run.settings["dataset"]["path"])).name, n + 1.0 if chosen == ORDER else c.get(chosen, np.nan), run.result)
        for n, (run, c) in enumerate(zip(ordered, known, strict=True))
    ]  # fmt: skip
    if chosen == TIME:
        first = np.nanmin([fit.x for fit in fits])
        chosen, fits = "start [h]", [dataclasses.replace(fit, x=(fit.x - first) / 3600.0) for fit in fits]
    return chosen, sorted(fits, key=lambda fit: (np.isnan(fit.x), fit.x))


def _conditions(run: RunFolder) -> dict[str, float]:
    """Numbers by which measurements of a series differ; of the time seconds since 1970."""
    stored: dict[str, Any] = run.result.provenance.get("dataset", {}).get("conditions", {})
    found = {}
    for name, value in stored.items():
        if name != TIME:
            found[name] = float(value)
            continue
        try:
            found[name] = datetime.datetime.fromisoformat(str(value)).timestamp()
        except ValueError:
            continue
    return found


def as_csv(fits: Sequence[Fitted], failed: dict[Path, str], against: str) -> str:
    """One row a file: where it stands, status, chi2, free parameters with their errors; failed ones with their reason."""
    names = fits[0].free(fits)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [c for name in names for c in (name, f"{name}_stderr")]
    writer.writerow(["file", against, "status", "chi2_reduced", *columns, "problem"])
    for fit in fits:
        values = [c for n in names for c in (fit.result.theta[n], fit.result.stderr[n])]
        numbers = [f"{x:.9g}" for x in (fit.result.chi2_reduced, *values)]
        writer.writerow([fit.file, f"{fit.x:.10g}", fit.result.status.value, *numbers, ""])
    for folder, reason in failed.items():
        writer.writerow([_data(folder).name, "", "failed", "", *("" for _ in columns), reason])
    return stream.getvalue()


def as_text(fits: Sequence[Fitted], against: str) -> list[str]:
    """The same for a terminal."""
    names = fits[0].free(fits)
    wide = max(len(fit.file) for fit in fits)
    lines = [f"{'file':>{wide}} {against:>12} {'chi2/N':>7}" + "".join(f" {name:>26}" for name in names)]
    for fit in fits:
        cells = "".join(f" {fit.with_error(name):>26}" for name in names)
        state = "" if fit.result.converged else f"  {fit.result.status.value}"
        lines.append(f"{fit.file:>{wide}} {fit.x:>12.6g} {fit.result.chi2_reduced:>7.3f}{cells}{state}")
    return lines


def _composed(folder: Path) -> dict:
    path = folder / ".hydra" / "config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _data(folder: Path) -> Path:
    return Path(str(_composed(folder).get("dataset", {}).get("path")))


def _reason(folder: Path) -> str:
    """The last error in the log of a run."""
    log = folder / "fit.log"
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    found = re.findall(r"\[ERROR\] (.*(?:\n(?!\d{4}-).*)*)", text)
    if not found:
        return "ended without a message"
    lines = found[-1].strip().splitlines()  # of a traceback the last line says what it was
    return (lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1]}")[:_LONGEST]


if __name__ == "__main__":
    sys.exit(main())
