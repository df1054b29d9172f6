"""A table of recorded fits: ``python experiments/compare.py --experiment laminar_flow --tag model=laminar_flow``.

Prints theta +- error and the method of the errors, reduced chi-squared and what the noise of speckle lets expect, status,
time and peak memory of every run, and saves the table as CSV and
Markdown.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from homodyne.errors import InputError
from homodyne.files import write_whole
from homodyne.tracking.base import Unrecorded
from homodyne.tracking.store import Store

TAGS = ("model", "scaling", "strategy", "dataset", "status")
NUMBERS = {
    "chi2": "chi2_reduced",
    "expected": "chi2_expected",
    "points": "n_points",
    "passes": "passes",
    "time [s]": "seconds",
    "peak [GB]": "memory.measured_peak_gb",
}
Row = dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Print and save the table; exit code 1 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", help="MLflow store; default: outputs/mlflow.db of the working directory")
    parser.add_argument("--experiment", help="experiment of MLflow; default: all")
    parser.add_argument("--parent", help="only the jobs of this sweep (id of the parent run)")
    parser.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="only runs with this tag")
    parser.add_argument("--out", type=Path, default=Path("outputs/comparison"), help="path of the table without suffix")
    args = parser.parse_args(argv)
    try:
        rows = table(find_runs(args.uri, args.experiment, args.parent, args.tag))
    except (InputError, Unrecorded) as error:
        print(f"[ERROR] {error}", file=sys.stderr)
        return 1
    if not rows:
        print("[ERROR] no recorded fit matches; look at the names with: make ui", file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out.with_suffix(".csv"), as_csv(rows))
    write_whole(args.out.with_suffix(".md"), as_markdown(rows))
    print(as_text(rows))
    print(f"\nsaved: {args.out.with_suffix('.csv')}, {args.out.with_suffix('.md')}")
    return 0


def find_runs(uri: str | None, experiment: str | None, parent: str | None, tags: Sequence[str]) -> list[Any]:
    """Finished runs that match, oldest first; the parents of sweeps are no fits and are left out.

    Raises:
        InputError: no such database or experiment, or a tag that is not NAME=VALUE.
    """
    store = Store.locate(uri, None, Path("outputs"))
    database = Path(store.uri.removeprefix("sqlite:///"))
    if not store.is_server and not database.is_file():
        raise InputError("--uri", store.uri, "does not exist", "run a fit first, or start where outputs/mlflow.db is")
    client = store.client()
    experiments = {e.name: e.experiment_id for e in client.search_experiments()}
    if experiment is not None and experiment not in experiments:
        raise InputError("--experiment", experiment, "is not recorded", f"known: {', '.join(sorted(experiments))}")
    conditions = [f"tags.`mlflow.parentRunId` = '{parent}'"] if parent else []
    for tag in tags:
        name, equals, value = tag.partition("=")
        if not equals:
            raise InputError("--tag", tag, "is not NAME=VALUE", "write e.g. --tag scaling=auto")
        conditions.append(f"tags.`{name}` = '{value}'")
    ids = list(experiments.values()) if experiment is None else [experiments[experiment]]
    found: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            ids, " and ".join(conditions), order_by=["attributes.start_time ASC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            return [run for run in found if "chi2_reduced" in run.data.metrics]


def table(runs: Sequence[Any]) -> list[Row]:
    """One row of text per run; parameters that no run has are no columns."""
    names = list(
        dict.fromkeys(k.removeprefix("theta.") for r in runs for k in r.data.metrics if k.startswith("theta."))
    )
    rows = []
    for run in runs:
        metrics, tags = run.data.metrics, run.data.tags
        row = {"run": run.info.run_name or run.info.run_id, **{t: tags.get(t, "") for t in TAGS}}
        open_ones = run.data.params.get("undetermined", "").split(", ")
        row |= {name: _with_error(metrics, name, open_ones) for name in names}
        row["errors"] = run.data.params.get("covariance_method", "")
        row |= {title: _number(metrics.get(key, math.nan)) for title, key in NUMBERS.items()}
        rows.append(row)
    return rows


def _with_error(metrics: dict[str, float], name: str, undetermined: Sequence[str]) -> str:
    """Value +- error; a record holds finite numbers only, so the reason for an error that is missing is asked for."""
    if f"theta.{name}" not in metrics:
        return ""
    value, error = f"{metrics[f'theta.{name}']:.6g}", metrics.get(f"stderr.{name}")
    if metrics.get(f"at_bound.{name}"):
        return f"{value} (at bound)"
    if error is None:
        return f"{value} +- undetermined" if name in undetermined else f"{value} (no error)"
    return f"{value} fixed" if error == 0 else f"{value} +- {error:.2g}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}" if abs(value) < 1e5 else f"{value:.0f}"


def as_csv(rows: Sequence[Row]) -> str:
    """Comma-separated, header first."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def as_markdown(rows: Sequence[Row]) -> str:
    """A Markdown table, runs as rows."""
    cells = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in cells) + "\n"


def as_text(rows: Sequence[Row]) -> str:
    """Runs side by side as columns: a terminal is too narrow for the parameters as columns."""
    lines = [[title, *(row[title] for row in rows)] for title in rows[0]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(rows) + 1)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
