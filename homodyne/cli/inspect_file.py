"""``homodyne-inspect FILE [FILE ...]``: what a file, or the mean of repetitions, holds, what is wrong with it, what is missing, and what to run next."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence

from homodyne.data import Dataset
from homodyne.data.formats.bins import NO_PHI
from homodyne.data.opening import open_table
from homodyne.data.quality import AngleQuality, survey
from homodyne.data.repetitions import files_of
from homodyne.data.table import MatrixTable
from homodyne.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; exit code 1 and a message on stderr for files that cannot be used."""
    parser = argparse.ArgumentParser(prog="homodyne-inspect", description=__doc__)
    parser.add_argument("file", nargs="+", help="a file, or repetitions of one measurement")
    parser.add_argument("--format", dest="engine", help="format, when recognition is not wanted")
    parser.add_argument("--q", type=float, action="append", help="survey this q [1/angstrom] only; may be repeated")
    parser.add_argument("--gap", type=float, help="gap [angstrom] for the command to run next")
    parser.add_argument("--dt", type=float, help="frame spacing [s] where the file lacks it")
    parser.add_argument("--quick", action="store_true", help="metadata only, without reading the matrices")
    args = parser.parse_args(argv)
    try:
        for line in report(args):
            print(line, flush=True)
    except InputError as error:
        print(f"homodyne-inspect: {error}", file=sys.stderr)
        return 1
    return 0


def report(args: argparse.Namespace) -> list[str]:
    """The lines of the report."""
    files = files_of(args.file)
    engine, table = open_table(files[0], args.engine)
    rings = table.rings()
    # counting needs no times, so a missing dt does not stop the survey
    dt = args.dt if args.dt is not None or table.dt is not None else 1.0
    wanted = args.q if args.q is not None else [ring.q for ring in rings]
    datasets = [Dataset.open(args.file, q=q, dt=dt, gap=args.gap, engine=engine) for q in wanted]
    lines = _overview(args, engine, table, datasets)
    for dataset in datasets:
        lines += ["", f"q = {dataset.q_values[0]:.6g} 1/angstrom: {dataset.n_phi} angles, {dataset.n_points()} points"]
        if args.quick:
            lines.append("  phi [deg]: " + ", ".join(f"{p:.6g}" for p in dataset.phi))
        else:
            lines += _survey_lines(survey(dataset))
    return [*lines, "", *_next_steps(args, engine, table, datasets)]


def _overview(args: argparse.Namespace, engine: str, table: MatrixTable, datasets: list[Dataset]) -> list[str]:
    size = int(datasets[0].attrs["bytes"])
    stored = datasets[0].n_repetitions * len(table.index) * table.n_t**2 * table.c2.dtype.itemsize
    dt = f"{table.dt:.6g} s from {table.dt_source}" if table.dt is not None else f"unknown, {table.dt_source}"
    gap = "not in the file" if table.gap is None else f"{table.gap:g} angstrom"
    lines = [
        f"file:    {', '.join(map(str, files_of(args.file)))} ({size / 2**20:.1f} MiB on disk, {stored / 2**30:.3f} GB as full matrices)",
        f"format:  {engine}",
        f"c2:      {len(table.index)} matrices, {table.n_t} x {table.n_t} frames, {table.c2.dtype}",
        f"dt:      {dt}",
        f"gap:     {gap}",
        "q:       " + ", ".join(f"{ring.q:.6g} ({ring.bins.size} angles)" for ring in table.rings()) + " [1/angstrom]",
    ]
    if datasets[0].n_repetitions > 1:
        lines.append(f"mean:    of {datasets[0].n_repetitions} repetitions, surveyed below")
    if table.attrs.get("phi_source") == NO_PHI:
        lines.append("phi:     none, maps are averaged over all directions: models with flow do not apply")
    if engine == "pychx":
        lines.append("read:    q is the last dimension, slow to read by q: homodyne-convert it once if it is large")
    kept = ("start_time", "sample", "begin_frame", "end_frame", "data_begin_todo", "data_end_todo")
    facts = [name for name in table.attrs if name in kept or "temperature" in name]
    return (
        [*lines, "also:    " + "; ".join(f"{name} {_plain(table.attrs[name])}" for name in facts)] if facts else lines
    )


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _survey_lines(angles: list[AngleQuality]) -> list[str]:
    lines = ["  phi [deg]   contrast    offset       NaN      zero  negative  empty frames"]
    for a in angles:
        dead = f"{len(a.dead)}" + (f" (numbers {_first(a.dead)})" if a.dead else "")
        lines.append(
            f"  {a.phi:9.4g} {a.contrast:10.4f} {a.offset:9.4f} {a.nan:9d} {a.zero:9d} {a.negative:9d}  {dead}"
        )
        if a.nan + a.zero >= a.points or a.contrast != a.contrast:
            lines.append(f"            no usable points: leave phi={a.phi:.6g} out (dataset.phi)")
    return lines


def _first(frames: Sequence[int], limit: int = 5) -> str:
    """Frame numbers counted from 1, as dataset.frames counts them."""
    return ", ".join(str(f + 1) for f in frames[:limit]) + (", ..." if len(frames) > limit else "")


def _next_steps(args: argparse.Namespace, engine: str, table: MatrixTable, datasets: list[Dataset]) -> list[str]:
    """What is missing for a fit, and the command with what is known filled in."""
    gap = args.gap if args.gap is not None else table.gap
    dt = args.dt if args.dt is not None else table.dt
    directions = table.attrs.get("phi_source") != NO_PHI
    missing = []
    if gap is None and directions:
        missing.append("gap: never in beamline files; needed by laminar_flow (GAP below, in angstrom), not by static")
    if dt is None:
        missing.append(f"dt: {table.dt_source} (DT below, in s)")
    known_q = [f"{d.q_values[0]:.6g}" for d in datasets]
    if len(datasets) > 1:
        every = ",".join(known_q)
        missing.append(f"q: one of {', '.join(known_q)} 1/angstrom, or")
        missing.append(f"   several in one fit: dataset.q=[{every}] with model=laminar_flow_joint_q, static_joint_q")
        missing.append(f"   or every one on its own, a sweep: -m dataset.q={every}")
    overrides = [f"dataset={engine}", f"dataset.path={_values(args.file)}", f"dataset.q={known_q[0]}"]
    if args.dt is not None or dt is None:
        overrides.append("dataset.dt=DT" if dt is None else f"dataset.dt={dt:.9g}")
    flow = [*overrides, "dataset.gap_angstrom=" + ("GAP" if gap is None else f"{gap:g}")]
    lines = [f"missing: {sentence}" for sentence in missing] or ["missing: nothing"]
    commands = [_command("laminar_flow", flow)] if directions else []
    commands += [_command("static", overrides)] if gap is None or not directions else []
    return [*lines, "next:", *(f"  {command}" for command in commands)]


def _command(experiment: str, overrides: list[str]) -> str:
    return shlex.join(["python", "-m", "homodyne.train", f"+experiment={experiment}", *overrides])


def _values(paths: Sequence[str]) -> str:
    """One path, or a list of them."""
    files = [_value(str(path)) for path in files_of(paths)]
    return files[0] if len(files) == 1 else f"[{','.join(files)}]"


def _value(path: str) -> str:
    """A path as Hydra reads it: quoted where it holds characters of the override grammar."""
    if re.fullmatch(r"[\w./:+~%@-]+", path):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


if __name__ == "__main__":
    sys.exit(main())
