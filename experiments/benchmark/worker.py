#!/usr/bin/env python3
"""One measurement in a process of its own; the last line of output is JSON. Started by run.py.

python worker.py fit FILE --start-factor 1.3
python worker.py passes|precisions|scalings FILE --repeat 5
python worker.py agreement FILE
python worker.py small
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import time
from typing import Any

GB = 2**30


def imported() -> float:
    """Import what a fit needs; seconds."""
    began = time.perf_counter()
    import homodyne

    assert homodyne.fit
    assert homodyne.Dataset
    return time.perf_counter() - began


def options_of(args: argparse.Namespace) -> Any:
    """NLSQOptions; ``precision`` is named only where it differs from the default."""
    from homodyne import NLSQOptions

    chosen: dict[str, Any] = {} if args.precision == "float64" else {"precision": args.precision}
    return NLSQOptions(memory_threshold_gb=args.memory_threshold_gb, **chosen)


def fit(args: argparse.Namespace) -> dict[str, Any]:
    """A fit from file to result."""
    import_s = imported()
    import homodyne
    from homodyne.machine import peak_resident_gb
    from homodyne.simulate.synthetic import THETA

    start = {} if args.start_factor is None else {name: x * args.start_factor for name, x in THETA.items()}
    began = time.perf_counter()
    dataset = homodyne.Dataset.open(args.file)
    result = homodyne.fit(
        dataset,
        scaling=args.scaling,
        strategy=args.strategy,
        start=start,
        options=options_of(args),
        weighting="uniform",
    )
    seconds = time.perf_counter() - began
    full = result.history["stage"].values == "full"
    return {
        "points": int(result.n_points), "angles": dataset.n_phi, "frames": dataset.n_t,
        "strategy": result.strategy, "scaling": result.scaling, "precision": args.precision,
        "start_factor": args.start_factor, "status": result.status.value, "import_s": import_s, "seconds": seconds,
        "passes": int(full.sum()), "pass_s": [float(x) for x in result.history["seconds"].values[full]],
        "points_per_second": int(full.sum()) * int(result.n_points) / seconds,
        "peak_rss_gb": peak_resident_gb(), "monitor_peak_gb": float(result.memory.measured_peak_gb),
        "predicted_peak_gb": float(result.memory.predicted_peak_gb), "chi2_reduced": float(result.chi2_reduced),
        "theta": result.theta, "stderr": result.stderr,
        "pulls": {name: (result.theta[name] - x) / result.stderr[name] for name, x in THETA.items()},
    }  # fmt: skip


def small(args: argparse.Namespace) -> dict[str, Any]:
    """Two fits of 10 x 200 simulated points, of different noise: the first compiles."""
    import_s = imported()
    import homodyne
    from homodyne.simulate.synthetic import synthetic_dataset

    seconds = []
    for seed in (0, 1):
        dataset = synthetic_dataset(n_phi=10, n_t=200, seed=seed)
        began = time.perf_counter()
        status = homodyne.fit(dataset, weighting="uniform").status.value
        seconds.append(time.perf_counter() - began)
    return {"import_s": import_s, "first_s": seconds[0], "second_s": seconds[1], "status": status}


def paired_timings(args: argparse.Namespace) -> dict[str, Any]:
    """Interleaved timings of one file, see paired.py."""
    import paired

    import homodyne

    return getattr(paired, args.what)(homodyne.Dataset.open(args.file), args.repeat)


def agreement(args: argparse.Namespace) -> dict[str, Any]:
    """Steps of both strategies, see floors.py."""
    import floors

    import homodyne

    return floors.agreement(homodyne.Dataset.open(args.file))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "small", "agreement", "passes", "precisions", "scalings"])
    parser.add_argument("file", nargs="?")
    parser.add_argument("--start-factor", type=float, help="start at the truth times this; found from data without it")
    parser.add_argument("--scaling", default="individual")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--precision", default="float64")
    parser.add_argument("--memory-threshold-gb", type=float)
    parser.add_argument("--address-space-gb", type=float, help="RLIMIT_AS, set before anything is imported")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    if args.what != "small" and args.file is None:
        parser.error(f"{args.what} needs a file")
    return args


def main() -> None:
    args = parse()
    if args.address_space_gb is not None:
        limit = int(args.address_space_gb * GB)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    logging.basicConfig(level=logging.WARNING, format="  %(message)s")
    logging.getLogger("homodyne").setLevel(logging.INFO)
    actions = {"fit": fit, "small": small, "agreement": agreement}
    print(json.dumps(actions.get(args.what, paired_timings)(args)))


if __name__ == "__main__":
    main()
