#!/usr/bin/env python3
"""Fit the same simulated files with homodyne 2.23.x (the peer) and with this package, and print Markdown tables.

    python run.py --peer-python PEER/bin/python --peer-script peer_fit.py --cases 10x200,23x300 --json results.json

The peer shares our package name, so it lives in an environment of its own (Python >= 3.12). Each fit is a fresh process,
one at a time, so compilation is part of its time; import and reading the file are not. Ours runs twice: with no compiled
code on disk, as on a new machine, and again.

A result file given with ``--reuse`` supplies runs that are already in it, so the slow side need not be repeated; then the
times are no longer of one session, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from make_data import TRUTH
from report import judge, tables

HERE = Path(__file__).resolve().parent


def watch_tree(pid: int, peak: list[int], stop: threading.Event) -> None:
    """Sample the resident memory of a process and its children; ``peak[0]`` [bytes] keeps the largest sum."""
    root = psutil.Process(pid)
    while not stop.wait(0.05):
        total = 0
        try:
            for process in (root, *root.children(recursive=True)):
                total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # a child ended between listing and reading: the next sample counts
        peak[0] = max(peak[0], total)


def run_fit(command: list[str], cwd: Path, timeout_s: float) -> dict[str, Any]:
    """Run one fit; its last line of output is JSON. Adds ``wall_s`` and ``peak_tree_gb``, or gives ``error``."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}  # or the peer imports our package
    environment["XDG_CACHE_HOME"] = str(cwd / "cache")  # compiled code of this comparison only
    begin = time.perf_counter()
    log = cwd / "last_fit.log"
    with log.open("w") as errors:
        child = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        peak, stop = [0], threading.Event()
        watcher = threading.Thread(target=watch_tree, args=(child.pid, peak, stop), daemon=True)
        watcher.start()
        try:
            output, _ = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return {"error": f"no answer in {timeout_s:g} s"}
        finally:
            stop.set()
            watcher.join()
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if child.returncode != 0 or not lines:
        return {"error": f"exit code {child.returncode}: {log.read_text()[-400:]}"}
    found = json.loads(lines[-1])
    found["theta"] = our_names(found["theta"])
    found["stderr"] = our_names(found["stderr"])
    return found | {"wall_s": time.perf_counter() - begin, "peak_tree_gb": peak[0] / 2**30}


def our_names(values: dict[str, float]) -> dict[str, float]:
    """The peer writes gamma_dot_t0 and gamma_dot_t_offset for gamma_dot_0 and gamma_dot_offset."""
    return {name.replace("dot_t0", "dot_0").replace("dot_t_", "dot_"): value for name, value in values.items()}


def one_case(case: str, args: argparse.Namespace, folder: Path, old: dict[str, Any]) -> dict[str, Any]:
    """Both fits of one dataset, with the independent judgement of each answer."""
    data = folder / f"{args.numbers}-{case}.npz"
    make = [
        sys.executable,
        str(HERE / "make_data.py"),
        case,
        str(data),
        "--numbers",
        args.numbers,
        "--seed",
        str(args.seed),
    ]
    subprocess.run(make, check=True)
    commands = {
        "peer": [str(args.peer_python), str(args.peer_script), str(data)],
        "ours": [sys.executable, str(HERE / "ours_fit.py"), str(data), "--strategy", args.strategy],
    }
    fits: dict[str, Any] = {}
    for who in args.sides:
        if who in old:
            fits[who] = old[who] | {"reused": True}
        else:
            print(f"{case}: fitting with {who} ...", file=sys.stderr, flush=True)
            fits[who] = run_fit(commands[who], folder, args.timeout)
            if who == "ours" and "error" not in fits[who]:
                # compiled code is kept from now on, as it is for a user after the first fit of a size
                fits[who]["again"] = run_fit(commands[who], folder, args.timeout)
    return {"fits": fits, "judged": judge(data, fits)}


def same_data(record: dict[str, Any], args: argparse.Namespace) -> bool:
    """Whether a saved result file was made from the same numbers and noise."""
    return (record["numbers"], record["seed"]) == (args.numbers, args.seed)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="Python of the environment that holds the peer")
    parser.add_argument("--peer-script", type=Path, help="script that fits one file with the peer")
    parser.add_argument("--cases", default="10x200,23x300", help="angles x frames, separated by commas")
    parser.add_argument("--numbers", choices=sorted(TRUTH), default="mild")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sides", default="peer,ours", help="peer,ours or one of them")
    parser.add_argument("--strategy", default="auto", help="strategy of our fit")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for one fit")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--reuse", type=Path, help="take fits that this earlier result file already holds")
    args = parser.parse_args()
    args.sides = args.sides.split(",")
    if "peer" in args.sides and not (args.peer_python and args.peer_script):
        parser.error("the peer needs --peer-python and --peer-script (or use --sides ours)")
    # absolute, but not resolved: the Python of an environment is a link, and following it leaves the environment
    for name in ("peer_python", "peer_script"):
        if getattr(args, name):
            setattr(args, name, getattr(args, name).absolute())
    return args


def main() -> None:
    args = parse()
    old = json.loads(args.reuse.read_text()) if args.reuse else {"cases": {}}
    if args.reuse and not same_data(old, args):
        raise SystemExit(f"--reuse {args.reuse}: made with other --numbers or --seed")
    record: dict[str, Any] = {
        "numbers": args.numbers,
        "seed": args.seed,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
    }
    record["cases"] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in args.cases.split(","):
            earlier = old["cases"].get(case, {}).get("fits", {})
            record["cases"][case] = one_case(case, args, Path(folder), earlier)
            if args.json:  # after every case, so that a long run keeps what it has
                part = args.json.with_name(args.json.name + ".part")
                part.write_text(json.dumps(record, indent=1))
                part.replace(args.json)
    print(tables(record))


if __name__ == "__main__":
    main()
