#!/usr/bin/env python3
"""Processor time and memory of whitening one sector, from which that of many follows: sectors are independent of one another.

    python experiments/whitened/sector_cost.py 4473

The passes of ``refine``: five, and one for the errors (256 traces, as for many sectors).
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from linear import Source
from run import FIXED, PHI, THETA

from homodyne.machine import peak_resident_gb
from homodyne.models import get_model
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.whitened import passes
from homodyne.optimization.whitened.limits import BLOCK, LONGEST
from homodyne.optimization.whitened.refine import RIDGE


class OneSector(Source):
    """Independent noise about the model: what a pass costs does not depend on the numbers."""

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.phi, self.sigma = PHI[10:11], np.ones(1)
        self._c2 = (1.1 + 0.1 * np.random.default_rng(0).standard_normal((frames, frames))).astype(np.float32)

    def read_block(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        return self._c2[rows, cols]


def main() -> int:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=int)
    frames = parser.parse_args().frames
    model, one = get_model("laminar_flow"), np.ones(1)
    theta, free = np.array(list(THETA.values())), np.array([n not in FIXED for n in THETA])
    passes._FORMS = 0.0  # the fewest traces
    noise = SpeckleNoise(0.33 * one, 0.5 * one, 1000 * one, one, "", "")
    longest = frames if frames <= LONGEST else BLOCK
    light = passes.Light(OneSector(frames), model, 1, noise, RIDGE, longest, free)  # type: ignore[arg-type]
    pairs, moved = np.array([[0.33, 1.0]]), theta * 1.001
    passes.whitened_pass(light, theta, moved, pairs)  # compiles
    seconds = []
    for run in (
        lambda: passes.whitened_pass(light, theta, moved, pairs),
        lambda: passes.noise_pass(light, theta, moved, pairs),
    ):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    peak = peak_resident_gb()
    total = 5 * seconds[0] + seconds[1]
    print(
        json.dumps(
            {
                "frames": frames,
                "pass": seconds[0],
                "noise": seconds[1],
                "sector": total,
                "peak_gb": peak,
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
