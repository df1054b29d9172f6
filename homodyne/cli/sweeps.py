"""Runs of one sweep, sorted by what was swept; and what sweeps of certain kinds end with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from homodyne.config.build import build_tracker
from homodyne.config.outcome import Job
from homodyne.tracking.base import Unrecorded
from homodyne.tracking.run_folder import RunFolder


def runs_over(folders: Iterable[Path], key: str) -> dict[str, list[RunFolder]]:
    """Runs of a sweep over ``key``, by what else was swept ("" for nothing); runs of no sweep are left out.

    Args:
        folders: of runs; those without a result are left out.
    """
    found: dict[str, list[RunFolder]] = {}
    runs = [RunFolder.read(path) for path in folders if (path / "result.nc").is_file()]
    given = [set(run.overrides()) for run in runs]
    common = set.intersection(*given) if given else set()
    for run in runs:
        mine = run.overrides()
        if run.sweep is not None and any(override.startswith(f"{key}=") for override in mine):
            others = (o for o in mine if o not in common and not o.startswith(f"{key}="))
            found.setdefault(" ".join(others), []).append(run)
    return found


def finish(jobs: Sequence[Job], outputs: Path) -> None:
    """What a sweep ends with: the table and figure of a window scan or of a batch, printed, and kept with its record.

    Args:
        outputs: folder of the local record.
    """
    from homodyne.cli import batch, window_scan

    folders = [job.run_dir for job in jobs]
    if batch.is_batch(folders):
        files, lines = batch.summarize(folders)
    else:
        known = [folder for folder in folders if (folder / "config.yaml").is_file()]
        if len(known) < 2:
            return
        files, lines = window_scan.summarize(known, _settings(known[0])["plots"])
    for line in lines:
        print(f"[INFO] {line}", flush=True)
    known = [folder for folder in folders if (folder / "config.yaml").is_file()]
    if files and known:
        try:
            build_tracker(_settings(known[0]), outputs).attach(files[0].parent, files)
        except Unrecorded as error:
            print(f"[WARNING] {error}", flush=True)


def _settings(folder: Path) -> dict:
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
