#!/usr/bin/env python3
"""How fast, how large: generates data by streaming, fits them, and prints goal, measured and ratio.

    python experiments/benchmark/run.py --quick                  # up to 10^7 points, a few minutes
    python experiments/benchmark/run.py --json results.json      # all, up to 10^9 points; 8 GB of disk
    python experiments/benchmark/run.py --points 3e8             # one fit of about so many points

Every fit is a fresh process, and one runs at a time; timings that are compared take turns in one process. A ratio of
1 or more means that the goal is met. The exit code is 1 when a measurement failed; a missed goal alone leaves it 0.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from cases import plan
from checks import rows, table
from children import HERE, Failed, machine, run, say


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=lambda text: int(float(text)), help="only a fit of about so many points")
    parser.add_argument("--quick", action="store_true", help="cases up to 10^7 points")
    parser.add_argument(
        "--only", help="only these measurements, by name, separated by commas (passes,small); those in --json stay"
    )
    parser.add_argument("--json", type=Path, help="write all raw numbers to this file")
    parser.add_argument("--data-dir", type=Path, default=Path("outputs/benchmark"), help="files that are used again")
    parser.add_argument("--repeat", type=int, default=5, help="turns of timings that are compared")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for one process")
    parser.add_argument("--peer-python", type=Path, help="Python of the environment that holds the peer")
    parser.add_argument("--peer-script", type=Path, help="script that fits one file with the peer")
    parser.add_argument("--memory-limit-gb", type=float, help="also fit 10^8 points in so much address space")
    parser.add_argument("--memory-threshold-gb", type=float, default=2.0, help="memory_threshold_gb of that fit")
    args = parser.parse_args()
    # absolute, but not resolved: the Python of an environment is a link, and following it leaves the environment
    for name in ("data_dir", "peer_python", "peer_script"):
        if getattr(args, name):
            setattr(args, name, getattr(args, name).absolute())
    return args


def save(record: dict[str, Any], target: Path | None) -> None:
    """Write the record whole, after every measurement, so that a long run keeps what it has."""
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        part.write_text(json.dumps(record, indent=1) + "\n")
        part.replace(target)


def measured(name: str, action: Any) -> dict[str, Any]:
    """The numbers of one measurement, or why there are none."""
    began = time.perf_counter()
    try:
        found = action()
    except (Failed, OSError, ValueError) as error:
        # names of files without their folders: results are published
        found = {"error": re.sub(r"/\S+/", "", str(error))}
        say(f"{name}: failed, {found['error']}")
    say(f"{name}: done in {time.perf_counter() - began:.1f} s")
    return found


def describe(facts: dict[str, Any]) -> str:
    """One line about the machine."""
    load = ", ".join(f"{x:g}" for x in facts["load_average"])
    versions = ", ".join(f"{name} {facts[name]}" for name in ("python", "jax", "numpy", "homodyne"))
    return (
        f"{facts['date']}: {facts['cores']} cores of {facts['processor']} ({facts['vector']}), "
        f"{facts['memory_gb']:g} GB; {versions}; load average before the run {load}"
    )


def main() -> int:
    args = parse()
    record: dict[str, Any] = {"machine": machine(), "repeat": args.repeat, "cases": {}}
    if args.only and args.json and args.json.exists():
        record["cases"] |= json.loads(args.json.read_text())["cases"]
    cases = plan(args, record["cases"])
    if args.only:
        wanted = args.only.split(",")
        unknown = set(wanted) - set(cases)
        if unknown:
            say(f"[ERROR] --only: {', '.join(sorted(unknown))} unknown; there are {', '.join(cases)}")
            return 1
        cases = {name: cases[name] for name in wanted}
    for n, (name, action) in enumerate(cases.items(), start=1):
        say(f"[{n}/{len(cases)}] {name}")
        record["cases"][name] = measured(name, action)
        save(record, args.json)
    lines = rows(record["cases"])
    print(f"{describe(record['machine'])}\n\n{table(lines)}")
    if args.json and not (args.quick or args.points or args.only):
        run([sys.executable, str(HERE / "figures.py"), str(args.json)], args.timeout)
    return int(any(line.failed for line in lines))


if __name__ == "__main__":
    sys.exit(main())
