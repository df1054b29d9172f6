"""``homodyne-convert FILE [FILE ...] OUT.nc``: any known format, or the mean of repetitions, to NetCDF; any size, streamed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from homodyne.data import Dataset
from homodyne.data.repetitions import files_of
from homodyne.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; exit code 1 and a message on stderr for input that cannot be used, nothing half-written."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        dataset = _open(args)
        _refuse_overwrite(args.out, args.overwrite, args.file)
        dataset.to_netcdf(args.out, compression=args.compress)
    except InputError as error:
        print(f"homodyne-convert: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"homodyne-convert: {args.out} could not be written: {error}", file=sys.stderr)
        return 1
    print(dataset.describe())
    print(f"written: {args.out} ({os.path.getsize(args.out) / 2**20:.1f} MiB)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="homodyne-convert", description=__doc__)
    parser.add_argument("file", nargs="+", help="a file, or repetitions of one measurement, whose mean is written")
    parser.add_argument("out")
    parser.add_argument("--format", dest="engine", help="format of FILE, when recognition is not wanted")
    parser.add_argument(
        "--q",
        type=float,
        action="append",
        help="q [1/angstrom]; needed when the file holds several, and may be repeated",
    )
    parser.add_argument("--gap", type=float, help="rotor-stator distance [angstrom]")
    parser.add_argument("--dt", type=float, help="frame spacing [s], where the file lacks it")
    parser.add_argument("--dt-override", action="store_true", help="let --dt replace a different dt of the file")
    parser.add_argument("--phi", type=float, nargs="+", help="angles [deg]; the nearest ones are taken")
    parser.add_argument(
        "--phi-range",
        type=float,
        nargs=2,
        action="append",
        metavar=("LO", "HI"),
        help="inclusive range [deg]; repeatable",
    )
    parser.add_argument("--frames", type=int, nargs=2, metavar=("FIRST", "LAST"), help="inclusive, counted from 1")
    parser.add_argument("--sigma", type=float, help="standard deviation of one point; else estimated when fitted")
    parser.add_argument("--merge", choices=("average", "drop"), help="merge near-identical angles")
    parser.add_argument("--compress", action="store_true", help="zlib; smaller and slower to read")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    return parser


def _open(args: argparse.Namespace) -> Dataset:
    phi: list[float | Sequence[float]] = [*(args.phi or []), *(args.phi_range or [])]
    return Dataset.open(
        args.file, q=args.q, gap=args.gap, dt=args.dt, dt_override=args.dt_override, phi=phi or None,
        frames=args.frames, engine=args.engine, sigma=args.sigma, angle_merge=args.merge,
    )  # fmt: skip


def _refuse_overwrite(out: str, overwrite: bool, sources: Sequence[str]) -> None:
    target = Path(out)
    if target.exists() and any(target.samefile(source) for source in files_of(sources)):
        raise InputError("OUT", out, "is the input file", "give another name")
    if target.exists() and not overwrite:
        raise InputError("OUT", out, "exists", "give another name or --overwrite")


if __name__ == "__main__":
    sys.exit(main())
