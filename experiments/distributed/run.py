#!/usr/bin/env python3
"""Passes on workers against passes in one process: same answer, speed, memory, a worker killed, and what a task costs.

    python experiments/distributed/run.py agree lost speed memory constants --json experiments/distributed/results.json

Parts that are named run, others keep their numbers in the JSON. Data are those of experiments/benchmark, written where missing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
AGREE = "4x4473"  # maps of several panels, so that partitions change the order of sums
SMALL, MIDDLE, LARGE = "23x933", "100x1415", "100x4473"  # 10^7, 10^8, 10^9 points
START_FACTOR = 1.3
GB = 2**30


def data(folder: Path, case: str) -> Path:
    """The file of a size, read once so that it lies in the page cache where it fits."""
    path = folder / f"{case}.nc"
    if not path.exists():
        make = HERE.parent / "benchmark" / "make_data.py"
        subprocess.run([sys.executable, str(make), case, str(path)], check=True)
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    return path


def start() -> dict[str, float]:
    from homodyne.simulate.synthetic import THETA

    return {name: START_FACTOR * value for name, value in THETA.items()}


def fit(path: Path, strategy: str, client: Any = None) -> Any:
    import homodyne

    dataset = homodyne.Dataset.open(path)
    options = homodyne.NLSQOptions(xtol=1e-6)
    return homodyne.fit(dataset, strategy=strategy, client=client, start=start(), covariance="iid", options=options)


def apart(a: Any, b: Any) -> float:
    """Largest relative difference of parameters."""
    return max(abs(a.theta[n] - x) / abs(x) for n, x in b.theta.items())


def agree(folder: Path) -> dict[str, Any]:
    """theta of 1, 2 and 4 workers and of random partitions against hybrid_streaming; whether all have the same bits."""
    import numpy as np

    from homodyne import cluster
    from homodyne.optimization.nlsq import distributed

    path, found, bits = data(folder, AGREE), {}, set()
    streamed = fit(path, "hybrid_streaming")
    for n in (1, 2, 4):
        with cluster.local(n, dashboard="127.0.0.1:0") as client:
            result = fit(path, "distributed", client)
        bits.add(tuple(result.theta.values()))
        found[f"{n} workers"] = {
            "theta_relative": apart(result, streamed), "chi2_relative": abs(result.chi2_reduced / streamed.chi2_reduced - 1),
            "passes": int((result.history["stage"].values == "full").sum()), "record": result.provenance["cluster"],
        }  # fmt: skip
    real = distributed.make_tasks
    with cluster.local(2, dashboard="127.0.0.1:0") as client:
        for seed in range(3):
            rng = np.random.default_rng(seed)

            def random_tasks(jobs, view, min_lag, rng=rng):
                task_of = rng.integers(0, 12, len(jobs))
                tasks = [[job for job, t in zip(jobs, task_of, strict=True) if t == n] for n in rng.permutation(12)]
                return [task for task in tasks if task]

            distributed.make_tasks = random_tasks
            try:
                result = fit(path, "distributed", client)
            finally:
                distributed.make_tasks = real
            found[f"random partition {seed}"] = {"theta_relative": apart(result, streamed)}
    return {"case": AGREE, "fits": found, "same_bits_for_1_2_4_workers": len(bits) == 1}


class AtPass(logging.Handler):
    """Calls ``act`` once, so many seconds after the line of a pass."""

    def __init__(self, text: str, seconds: float, act: Callable[[], None]) -> None:
        super().__init__()
        self.text, self.seconds, self.act, self.done = text, seconds, act, False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.done and record.getMessage().startswith(self.text):
            self.done = True
            threading.Timer(self.seconds, self.act).start()


def lost(folder: Path) -> dict[str, Any]:
    """A worker killed in the middle of pass 2, by SIGKILL: the answer and the record."""
    from homodyne import cluster

    path = data(folder, MIDDLE)
    with cluster.local(2, dashboard="127.0.0.1:0") as client:
        calm = fit(path, "distributed", client)
        pids = list(client.run(os.getpid).values())
        handler = AtPass("Pass 1:", 0.4, lambda: os.kill(pids[0], signal.SIGKILL))
        logging.getLogger("homodyne").addHandler(handler)
        try:
            struck = fit(path, "distributed", client)
        finally:
            logging.getLogger("homodyne").removeHandler(handler)
    return {
        "case": MIDDLE, "killed": handler.done, "same_bits": struck.theta == calm.theta and struck.chi2_reduced == calm.chi2_reduced,
        "record": struck.provenance["cluster"],
        "pass_s": {"calm": calm.history["seconds"].values[-4:].tolist(), "struck": struck.history["seconds"].values[-4:].tolist()},
    }  # fmt: skip


def speed(folder: Path, repeat: int) -> dict[str, Any]:
    """Seconds of a pass: threads of one process, two workers, one worker, one thread; in turns, for three sizes."""
    import numpy as np
    import psutil

    import homodyne
    from homodyne import cluster
    from homodyne.machine import peak_resident_gb
    from homodyne.models import get_model
    from homodyne.optimization.nlsq.cluster import Cluster
    from homodyne.optimization.nlsq.distributed import distributed_pass
    from homodyne.optimization.nlsq.hybrid_streaming import streamed_pass
    from homodyne.optimization.source import all_frames

    model, found = get_model("laminar_flow"), {}
    theta = np.array([start()[p.name] for p in model.parameters])
    with cluster.local(2, dashboard="127.0.0.1:0") as two, cluster.local(1, dashboard="127.0.0.1:0") as one:
        for case in (SMALL, MIDDLE, LARGE):
            view = all_frames(homodyne.Dataset.open(data(folder, case)))
            reference = np.tile([0.25, 1.0], (view.n_phi, 1))
            ways = {
                "threads": streamed_pass(model, view, 1, 2_000_000),
                "2 workers": distributed_pass(model, view, 1, 2_000_000, Cluster(two)),
                "1 worker": distributed_pass(model, view, 1, 2_000_000, Cluster(one)),
            }
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            processor: dict[str, list[float]] = {name: [] for name in ways}
            mine = [psutil.Process()] + [psutil.Process(pid) for c in (two, one) for pid in c.run(os.getpid).values()]
            for turn in range(repeat + 1):
                for name in (list(ways) * 2)[turn % 3 : turn % 3 + 3]:
                    began, used = time.perf_counter(), _used(mine)
                    ways[name](theta, reference)
                    if turn:  # the first one compiles
                        seconds[name].append(time.perf_counter() - began)
                        processor[name].append(_used(mine) - used)
            ratios = {n: statistics.median(np.array(seconds["threads"]) / np.array(s)) for n, s in seconds.items()}
            work = {n: statistics.median(np.array(processor["threads"]) / np.array(s)) for n, s in processor.items()}
            found[case] = {
                "points": view.n_points(1), "seconds": seconds, "processor_seconds": processor, "work_of_threads_against": work, "speed_against_threads": ratios, "load": os.getloadavg(),
            }  # fmt: skip
            print(case, ratios, work, flush=True)
        found["worker_rss_gb"] = list(two.run(peak_resident_gb).values())
    return found


def _used(processes: list[Any]) -> float:
    """Processor seconds of all of them so far: unlike the wall clock hardly disturbed by other work on the machine."""
    return sum(t.user + t.system for t in (p.cpu_times() for p in processes))


def memory(folder: Path) -> dict[str, Any]:
    """Peak RSS of the process that drives a fit on two workers, for three sizes, a process each."""
    found = {}
    for case in (SMALL, MIDDLE, LARGE):
        data(folder, case)
        command = [sys.executable, __file__, "one-fit", "--data-dir", str(folder), "--case", case]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        found[case] = json.loads(ended.stdout.splitlines()[-1])
    return found


def one_fit(path: Path) -> dict[str, Any]:
    from homodyne import cluster
    from homodyne.machine import peak_resident_gb

    with cluster.local(2, dashboard="127.0.0.1:0") as client:
        began = time.perf_counter()
        result = fit(path, "distributed", client)
        return {
            "driver_peak_rss_gb": peak_resident_gb(), "worker_peak_rss_gb": list(client.run(peak_resident_gb).values()),
            "seconds": time.perf_counter() - began, "status": result.status.value, "record": result.provenance["cluster"],
        }  # fmt: skip


def _nothing(argument: Any) -> int:
    return 0


def _first(parts: list[int]) -> int:
    return parts[0]


def constants(folder: Path) -> dict[str, Any]:
    """What a task costs, what goes over the wire, how fast a file is read: the numbers behind docs/scaling.md."""
    import cloudpickle
    import numpy as np

    import homodyne
    from homodyne import cluster
    from homodyne.models import get_model
    from homodyne.optimization.nlsq.cluster import Cluster
    from homodyne.optimization.nlsq.distributed import Setup, make_tasks, packed, sum_panels
    from homodyne.optimization.nlsq.hybrid_streaming import all_jobs, plan_for
    from homodyne.optimization.source import all_frames

    dataset = homodyne.Dataset.open(data(folder, SMALL))
    view, model = all_frames(dataset), get_model("laminar_flow")
    setup = packed(Setup(model, dataset.opener(), 1, 2_000_000, "float64", None, None, 4, "0.1.0"))
    jobs = all_jobs(plan_for(view, 2_000_000), view.n_phi)
    theta = np.array([start()[p.name] for p in model.parameters])
    part = sum_panels((setup, theta, np.tile([0.25, 1.0], (view.n_phi, 1)), jobs[: max(1, len(jobs) // 23)]))
    per_task, processor = {}, {}
    with cluster.local(2, dashboard="127.0.0.1:0") as client:
        for n in (200, 1000, 4000):
            began, used = time.perf_counter(), time.process_time()
            arguments = [(setup, theta, n) for n in range(n)]
            Cluster(client).reduced(_nothing, arguments, _first, 8, "nothing", [1] * n, lambda size: None)
            per_task[n] = (time.perf_counter() - began) / n
            processor[n] = (time.process_time() - used) / n
    reading = {}
    for case in (SMALL, MIDDLE):
        big = homodyne.Dataset.open(data(folder, case))
        rows, n, read = 512, big.n_t, 0
        began = time.perf_counter()
        for k in range(big.n_phi):
            for first in range(0, n, rows):
                read += big.read_block(k, slice(first, min(first + rows, n)), slice(first, n)).nbytes
        reading[case] = read / (time.perf_counter() - began) / 1e9
    return {
        "setup_bytes": len(setup), "sums_bytes_per_angle": len(cloudpickle.dumps(part)) / len(part.angles),
        "seconds_per_task": per_task, "scheduler_processor_seconds_per_task": processor, "read_gb_per_s_page_cache": reading,
        "tasks": {c: len(make_tasks(all_jobs(plan_for(v, 2_000_000), v.n_phi), v, 1)) for c, v in _views(folder).items()},
        "file_bytes_per_point": {c: (folder / f"{c}.nc").stat().st_size / v.n_points(1) for c, v in _views(folder).items()},
    }  # fmt: skip


def _views(folder: Path) -> dict[str, Any]:
    import homodyne
    from homodyne.optimization.source import all_frames

    return {case: all_frames(homodyne.Dataset.open(folder / f"{case}.nc")) for case in (SMALL, MIDDLE, LARGE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["agree", "lost", "speed", "memory", "constants", "one-fit"])
    parser.add_argument("--data-dir", type=Path, default=Path("outputs/benchmark"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--case")
    args = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("homodyne").setLevel(logging.INFO)
    if "one-fit" in args.parts:
        print(json.dumps(one_fit(data(args.data_dir, args.case))))
        return
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "agree": lambda: agree(args.data_dir), "lost": lambda: lost(args.data_dir), "memory": lambda: memory(args.data_dir),
        "speed": lambda: speed(args.data_dir, args.repeat), "constants": lambda: constants(args.data_dir),
    }  # fmt: skip
    record = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    for part in args.parts:
        record[part] = made[part]() | {"load_before": os.getloadavg()}
        print(json.dumps({part: record[part]}, indent=1), flush=True)
        if args.json:
            args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
