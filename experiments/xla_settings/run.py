#!/usr/bin/env python3
"""What settings of JAX, XLA, BLAS and the C library are worth: pairs of a streamed pass with one of them and without.

    python experiments/xla_settings/run.py                        every setting, half an hour
    python experiments/xla_settings/run.py threads --pairs 100    one group

Prints a line per setting and keeps all in --out as JSON, which a later start completes; the table comes at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from homodyne.cli.paired_passes import COMMAND, Ratio, alternate, answer, end, say, serve, start, take
from homodyne.files import write_whole

#: Group, name, variables, command that starts the second process where it is not the same.
FLAGS = {
    "multi_thread_eigen": "--xla_cpu_multi_thread_eigen=false",
    "prefer_vector_width 512": "--xla_cpu_prefer_vector_width=512",
    "prefer_vector_width 256": "--xla_cpu_prefer_vector_width=256",
    "enable_fast_math": "--xla_cpu_enable_fast_math=true",
    "enable_fast_min_max": "--xla_cpu_enable_fast_min_max=true",
    "concurrency_optimized_scheduler": "--xla_cpu_enable_concurrency_optimized_scheduler=true",
    "host_platform_device_count": "--xla_force_host_platform_device_count=2",
    "backend_optimization_level": "--xla_backend_optimization_level=1",
}
VARIABLES: dict[str, dict[str, dict[str, str]]] = {
    "threads": {
        "nothing (how well pairs agree)": {},
        "NPROC=2, as granted": {"NPROC": "2"},
        "NPROC=1": {"NPROC": "1"},
        "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
        "OPENBLAS_NUM_THREADS=1": {"OPENBLAS_NUM_THREADS": "1"},
        "JAX_CPU_ENABLE_ASYNC_DISPATCH=false": {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"},
    },
    "flags": {name: {"XLA_FLAGS": flag} for name, flag in FLAGS.items()},
    "memory": {
        "MALLOC_ARENA_MAX=1": {"MALLOC_ARENA_MAX": "1"},
        "huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
        "freed memory kept": {"MALLOC_MMAP_THRESHOLD_": str(10**9), "MALLOC_TRIM_THRESHOLD_": str(10**10)},
    },
    "start": {
        "JAX_PLATFORMS=cpu": {"JAX_PLATFORMS": "cpu"},
        "JAX_ENABLE_COMPILATION_CACHE=false": {"JAX_ENABLE_COMPILATION_CACHE": "false"},
    },
}
FIT = (sys.executable, __file__, "--serve-fit")
# twice and four times as many threads as were granted, where the package does not notice: a quota is not seen by XLA
CROWD = "import os; os.sched_getaffinity = lambda pid: set(range({n})); import runpy; runpy.run_module('homodyne.cli.paired_passes', run_name='__main__')"


def cases() -> dict[str, dict[str, Callable[[int], dict[str, Any]]]]:
    """Measurements by group and name."""
    found: dict[str, dict[str, Callable[[int], dict[str, Any]]]] = {
        group: {name: with_variables(given) for name, given in settings.items()}
        for group, settings in VARIABLES.items()
    }
    for n in (4, 8):
        command = (sys.executable, "-c", CROWD.format(n=n))
        found["threads"][f"{n} threads sum on 2 processors"] = with_variables({"NPROC": str(n)}, command)
    found["threads"]["one processor (taskset -c 0)"] = with_variables({}, ("taskset", "-c", "0", *COMMAND))
    found["fits"] = {
        "OPENBLAS_NUM_THREADS=1": with_variables({"OPENBLAS_NUM_THREADS": "1"}, FIT, FIT),
        "two passes at a time, NPROC=1 each": beside,
    }
    return found


def with_variables(
    given: dict[str, str], second: Sequence[str] = COMMAND, first: Sequence[str] = COMMAND
) -> Callable[[int], dict[str, Any]]:
    """Pairs without and with variables."""

    def measure(pairs: int) -> dict[str, Any]:
        a, b = alternate(os.environ, {**os.environ, **given}, pairs, (first, second))
        return record(a.seconds, b.seconds, a.processor_seconds, b.processor_seconds) | {
            "start_s": [a.start_seconds, b.start_seconds], "threads": [a.threads, b.threads],
        }  # fmt: skip

    return measure


def beside(pairs: int) -> dict[str, Any]:
    """Two processes with a pass each at the same time: as many threads each as there are processors, and half as many."""
    groups = [[start(COMMAND, {**os.environ, **given}) for _ in range(2)] for given in ({}, {"NPROC": "1"})]
    taken: list[list[tuple[float, float]]] = [[], []]
    try:
        for process in (p for group in groups for p in group):
            answer(process)
            take(process)
        with ThreadPoolExecutor(2) as pool:
            for n in range(pairs):
                for which in (0, 1) if n % 2 else (1, 0):
                    both = list(pool.map(take, groups[which]))
                    taken[which].append((max(t["wall"] for t in both), sum(t["processor"] for t in both)))
    finally:
        for process in (p for group in groups for p in group):
            end(process)
    (wall_a, cpu_a), (wall_b, cpu_b) = (np.array(times).T for times in taken)
    return record(wall_a, wall_b, cpu_a, cpu_b)


def record(wall_a: np.ndarray, wall_b: np.ndarray, cpu_a: np.ndarray, cpu_b: np.ndarray) -> dict[str, Any]:
    """What is kept of one measurement."""
    wall, cpu = Ratio.of(wall_a, wall_b), Ratio.of(cpu_a, cpu_b)
    return {
        "pairs": len(wall_a), "without_ms": 1e3 * float(np.median(wall_a)),
        "wall": [wall.median, wall.stderr, wall.low, wall.high],
        "processor": [cpu.median, cpu.stderr, cpu.low, cpu.high],
    }  # fmt: skip


def prepared_fit() -> Callable[[], Any]:
    """A whole fit of 10 x 200 simulated points in memory, with its errors: where NumPy's matrix algebra is used."""
    import homodyne
    from homodyne.simulate.synthetic import synthetic_dataset

    data = synthetic_dataset(n_phi=10, n_t=200)
    return lambda: homodyne.fit(data, weighting="uniform")


def table(found: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Markdown."""
    lines = [
        "| group | setting | wall time, with / without | processor time, with / without | pairs |",
        "|---|---|--:|--:|--:|",
    ]
    for group, settings in found.items():
        for name, r in settings.items():
            (w, we, *_), (c, ce, *_) = r["wall"], r["processor"]
            lines.append(f"| {group} | {name} | {w:.3f} ± {we:.3f} | {c:.3f} ± {ce:.3f} | {r['pairs']} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help="threads, flags, memory, start, fits; all by default")
    parser.add_argument("--only", help="settings whose name holds this")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--again", action="store_true", help="measure again what --out holds")
    parser.add_argument("--out", type=Path, default=Path("outputs/xla_settings/results.json"))
    parser.add_argument("--serve-fit", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_fit:
        serve(prepared_fit, sys.stdin, say)
        return 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(args.out.read_text()) if args.out.is_file() else {}
    for group, settings in cases().items():
        for name, measure in settings.items():
            held = name in found.setdefault(group, {}) and not args.again
            if held or (args.groups and group not in args.groups) or (args.only or "") not in name:
                continue
            r = found[group][name] = measure(args.pairs // 4 if group == "fits" else args.pairs)
            print(f"{group}: {name}: wall {r['wall'][0]:.3f} ± {r['wall'][1]:.3f}, processor {r['processor'][0]:.3f} ± "
                  f"{r['processor'][1]:.3f}, {r['without_ms']:.0f} ms without, {r.get('threads')}, {r.get('start_s')}", flush=True)  # fmt: skip
            write_whole(args.out, json.dumps(found, indent=1))
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
