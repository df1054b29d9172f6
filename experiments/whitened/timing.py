#!/usr/bin/env python3
"""Time and memory of a fit with uniform weights and of a whitened one, for one size.

    python experiments/whitened/timing.py 23x1000 --out experiments/whitened/timing.jsonl

Speckle of the sheared sample of ``run.py``, few pixels (they cost nothing in a fit), c2 in memory in single precision. The first,
smaller fit compiles what does not depend on the size. Peak is that of the process, the data included. Seconds of processor
time stand beside those on the clock, where other work shares the machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import numpy as np
from run import DT_S, FIXED, GAP, THETA, Q

from homodyne import Dataset, fit, get_model
from homodyne.fields import field_root, mode_weights, modes
from homodyne.machine import peak_resident_gb

CONTRAST, COUNTS, PIXELS = 0.33, 2.0, 300
MODEL = "laminar_flow"


def maps(n_phi: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """c2 (n_phi, n, n) in single precision, and the azimuths."""
    phi = np.linspace(-88.0, 92.0, n_phi + 1)[1:]
    c2, t = np.empty((n_phi, frames, frames), dtype=np.float32), DT_S * np.arange(frames)
    for k in range(n_phi):
        rng = np.random.default_rng([k, frames])
        root = field_root(get_model(MODEL).g1(THETA, t, float(phi[k]), Q, GAP))
        intensity = sum(w * modes(root, PIXELS, rng, np.float32) for w in mode_weights(CONTRAST))
        photons = rng.poisson(COUNTS * intensity).astype(np.float32)
        photons /= photons.mean(1)[:, None]
        c2[k] = photons @ photons.T / PIXELS
    return c2, phi


def timed(dataset: Dataset, weighting: str) -> dict:
    """A fit from the truth."""
    wall, cpu = time.perf_counter(), time.process_time()
    free = {n: v for n, v in THETA.items() if n not in FIXED}
    result = fit(
        dataset,
        MODEL,
        start=free,
        fixed=dict.fromkeys(FIXED, 0.0),
        weighting=weighting,
        strategy="stratified_ls" if dataset.n_points() < 1e7 else "hybrid_streaming",
    )
    peak = peak_resident_gb()
    out = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak_gb": peak}
    record = result.weighting
    if record.name == "whitened":
        out |= {
            "whitening": record.seconds,
            "passes": record.passes,
            "block": record.block_frames,
            "ratio": record.ratio,
        }
    return out | {"status": result.status.value, "name": record.name}


def main() -> int:
    """Append one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", help="angles x frames, 23x1000")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    n_phi, frames = (int(x) for x in arguments.size.split("x"))
    small, phi = maps(5, 100)
    timed(Dataset.from_arrays(small, phi, DT_S * np.arange(100), Q, GAP), "whitened")
    c2, phi = maps(n_phi, frames)
    dataset = Dataset.from_arrays(c2, phi, DT_S * np.arange(frames), Q, GAP)
    row = {"size": arguments.size, "data_gb": c2.nbytes / 2**30, "load": os.getloadavg()[0]}
    row |= {w: timed(dataset, w) for w in ("uniform", "whitened")}
    print(json.dumps(row), flush=True)
    with arguments.out.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
