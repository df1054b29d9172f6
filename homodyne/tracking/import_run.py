"""``homodyne-import-run RUN_DIR``: record a run that was made while the server was away, or without tracking."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from homodyne.errors import InputError
from homodyne.tracking.base import Unrecorded
from homodyne.tracking.mlflow import MlflowTracker
from homodyne.tracking.run_folder import RunFolder


def main(argv: Sequence[str] | None = None) -> int:
    """Import each folder; exit code 1 and a message on stderr when one could not be."""
    parser = argparse.ArgumentParser(prog="homodyne-import-run", description=__doc__)
    parser.add_argument(
        "run_dir", nargs="+", type=Path, help="folder of a finished fit, e.g. outputs/runs/<date>/<time>"
    )
    parser.add_argument("--uri", help="MLflow server or database; default: the one in the run's settings")
    parser.add_argument("--again", action="store_true", help="record a second time what was recorded before")
    args = parser.parse_args(argv)
    failed = False
    for run_dir in args.run_dir:
        try:
            print(f"{run_dir}: {import_run(run_dir, args.uri, again=args.again)}", flush=True)
        except (InputError, Unrecorded) as error:
            print(f"[ERROR] {run_dir}: {error}", file=sys.stderr)
            failed = True
    return int(failed)


def import_run(run_dir: Path, uri: str | None = None, *, again: bool = False) -> str:
    """Record one finished run and say where.

    Raises:
        InputError: not the folder of a finished run, or one that was recorded before.
        Unrecorded: the store could not be reached.
    """
    folder = RunFolder.read(run_dir)
    before = folder.recorded()
    if before is not None and not again:
        raise InputError(
            "run folder", str(run_dir), f"was recorded before, at {before['uri']}", "use --again for a second record"
        )
    chosen = {k: v for k, v in folder.settings["tracking"].items() if k != "_target_"}
    # a run made elsewhere belongs to the database beside it
    outputs = next((p for p in run_dir.absolute().parents if p.name == "outputs"), Path.cwd() / "outputs")
    tracker = MlflowTracker(outputs, **{**chosen, **({"uri": uri} if uri else {})})
    return tracker.record(run_dir)


if __name__ == "__main__":
    sys.exit(main())
