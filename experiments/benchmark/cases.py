"""What is measured: every function returns raw numbers and judges nothing."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from children import HERE, Failed, read_once, run, say, worker
from make_data import case_of, points_of

START_FACTOR = 1.3
PEER_CASE = "23x300"
QUICK_PAIRED = "100x448"  # 10^7 points at 100 angles
Case = Callable[[], dict[str, Any]]


def data(args: argparse.Namespace, case: str) -> Path:
    """The file of a size, in the page cache; written by a process of its own when it is not there."""
    path = args.data_dir / f"{case}.nc"
    if not path.exists():
        say(f"writing {case}, {points_of(case):.1e} points, {points_of(case) * 4 / 2**30:.1f} GB of pairs")
        run([sys.executable, str(HERE / "make_data.py"), case, str(path)], args.timeout)
    read_once(path)
    return path


def fit(args: argparse.Namespace, case: str, *options: object, repeat: int = 1) -> dict[str, Any]:
    """A fit in a fresh process that compiles everything; of several, the one of median time. Then once more, compiled."""
    path = data(args, case)
    with tempfile.TemporaryDirectory() as folder:
        caches = [Path(folder) / str(n) for n in range(repeat)]
        runs = [worker("fit", path, *options, timeout_s=args.timeout, cache=cache) for cache in caches]
        again = worker("fit", path, *options, timeout_s=args.timeout, cache=caches[0])
    seconds = [r["seconds"] for r in runs]
    chosen = min(runs, key=lambda r: abs(r["seconds"] - statistics.median(seconds)))
    return chosen | {
        "seconds_of_all": seconds, "again_s": again["seconds"], "again_peak_rss_gb": again["peak_rss_gb"],
    }  # fmt: skip


def paired(args: argparse.Namespace, what: str, case: str) -> dict[str, Any]:
    """Interleaved timings of one file: passes, precisions or scalings."""
    # the scalings differ by little: more turns
    repeat = args.repeat * (2 if what == "scalings" else 1)
    return worker(what, data(args, case), "--repeat", repeat, timeout_s=args.timeout) | {"case": case}


def precision(args: argparse.Namespace, case: str) -> dict[str, Any]:
    """Interleaved passes in both precisions, and the fits of both."""
    found = paired(args, "precisions", case)
    start = ("--start-factor", START_FACTOR)
    fits = {name: fit(args, case, *start, "--precision", name) for name in ("float64", "float32")}
    return found | {"fits": fits}


def memory(args: argparse.Namespace, case: str, fits: dict[str, Any]) -> dict[str, Any]:
    """The streamed fit of a size: the one there is, or another where ``auto`` chose to hold the points."""
    known = fits.get(f"fit {case}", {})
    if known.get("strategy") == "hybrid_streaming":
        return known
    return fit(args, case, "--start-factor", START_FACTOR, "--strategy", "hybrid_streaming")


COMMAND = "+experiment=laminar_flow dataset=synthetic dataset.n_phi=10 dataset.n_t=200"
SMALL = {  # settings, and whether compiled code of an earlier run is used
    "first": ("tracking=none plots=false", False), "next": ("tracking=none plots=false", True),
    "figures": ("tracking=none", True), "recorded": ("tracking=mlflow", True),
}  # fmt: skip


def small(args: argparse.Namespace) -> dict[str, Any]:
    """The user's command in fresh folders, three times each way; two fits in one process."""
    walls: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for name, (settings, compiled) in SMALL.items():
            walls[name] = []
            for n in range(3 + compiled):
                with tempfile.TemporaryDirectory() as folder:
                    command = [sys.executable, "-m", "homodyne.train", *COMMAND.split(), *settings.split()]
                    command.append(f"hydra.run.dir={folder}/run")
                    kept = Path(cache if compiled else folder)
                    seconds = run(command, args.timeout, cwd=Path(folder), cache=kept)[1]
                if not compiled or n:  # the first one fills the cache
                    walls[name].append(seconds)
    return {"command_s": walls} | worker("small", timeout_s=args.timeout)


def peer(args: argparse.Namespace) -> dict[str, Any]:
    """Both programs on the same data, by the scripts of the comparison."""
    if not (args.peer_python and args.peer_script):
        return {"not run": "needs --peer-python and --peer-script"}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peer.json"
        command = [sys.executable, str(HERE.parent / "peer_comparison" / "run.py"), "--cases", PEER_CASE]
        command += ["--peer-python", str(args.peer_python), "--peer-script", str(args.peer_script)]
        run([*command, "--json", str(target)], args.timeout, cache=Path(folder))
        record = json.loads(target.read_text())["cases"][PEER_CASE]
    for who, found in record["fits"].items():
        if "error" in found:
            raise Failed(f"{who}: {found['error'].strip().splitlines()[-1]}")
    return record


def limited(args: argparse.Namespace, case: str) -> dict[str, Any]:
    """A fit whose process may not have more address space than so many GB."""
    options = ("--start-factor", START_FACTOR, "--memory-threshold-gb", args.memory_threshold_gb)
    found = fit(args, case, *options, "--address-space-gb", args.memory_limit_gb)
    return found | {"limit_gb": args.memory_limit_gb}


def fits_of(args: argparse.Namespace, sizes: list[str]) -> dict[str, Case]:
    """Fits from a start 30 % off and, up to 10^8 points, without a start."""
    start = ("--start-factor", START_FACTOR)
    found: dict[str, Case] = {}
    for size in sizes:
        n = points_of(size)
        repeat = 3 if n < 3e7 else 1
        found[f"fit {size}"] = lambda size=size, repeat=repeat: fit(args, size, *start, repeat=repeat)
        if n < 3e8:
            found[f"search {size}"] = lambda size=size, repeat=repeat: fit(args, size, repeat=repeat)
    return found


def plan(args: argparse.Namespace, record: dict[str, Any]) -> dict[str, Case]:
    """The measurements of a run by name, in order; ``record`` holds those that are done."""
    if args.points:
        return fits_of(args, [case_of(args.points)])
    sizes = [case_of(10**7)] if args.quick else [case_of(10**n) for n in (7, 8, 9)]
    big = QUICK_PAIRED if args.quick else case_of(10**8)
    cases: dict[str, Case] = {"passes": lambda: paired(args, "passes", big)}
    cases |= fits_of(args, sizes)
    # 100 angles at every size: what is held for an angle must not pass for what is held for a point
    series = [QUICK_PAIRED, *sizes[1:]]
    cases |= {f"memory {size}": lambda size=size: memory(args, size, record) for size in series}
    cases |= {
        "agreement": lambda: worker("agreement", data(args, PEER_CASE), timeout_s=args.timeout),
        "scalings": lambda: paired(args, "scalings", big),
        "precision": lambda: precision(args, big),
        "small": lambda: small(args),
        "peer": lambda: peer(args),
    }
    if args.memory_limit_gb is not None:
        cases["limited"] = lambda: limited(args, sizes[0] if args.quick else case_of(10**8))
    return cases
