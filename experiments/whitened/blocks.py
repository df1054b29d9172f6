#!/usr/bin/env python3
"""What is lost where noise is whitened within blocks of frames only: predicted errors against those of one block.

    python experiments/whitened/blocks.py --frames 1000 --blocks 128 256 512 1000 --out experiments/whitened/blocks_1000.json

5 sectors, contrast 0.33, the sheared sample of ``run.py``; no data are drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from linear import PIXELS, Source
from run import FIXED, PHI, SETS, THETA

from homodyne.files import write_whole
from homodyne.models import get_model
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.whitened.passes import Light, _forms, _traces
from homodyne.optimization.whitened.refine import RIDGE
from homodyne.optimization.whitened.sector import Columns, Pairs

CONTRAST = 0.33


def predicted(frames: int, counts: float, blocks: list[int], traces: int) -> dict:
    """Predicted errors of the parameters for uniform weights (0) and every length of blocks."""
    model, source = get_model("laminar_flow"), Source(frames)
    names = [p.name for p in model.parameters]
    theta, free = np.array([THETA[n] for n in names]), np.array([n not in FIXED for n in names])
    one = np.ones(len(PHI))
    noise = SpeckleNoise(CONTRAST * one, one / counts, PIXELS * one, one, "", "")
    pairs = Pairs(np.arange(frames), np.zeros((frames, frames)), None, frames * (frames - 1) // 2)
    light = Light(source, model, 1, noise, RIDGE, frames, free)  # type: ignore[arg-type]
    sums: dict[int, list] = {b: [] for b in (0, *blocks)}
    for k in SETS[5]:
        columns = Columns(model, theta, source, k, pairs, free)  # type: ignore[arg-type]
        delta = _traces(light, theta, k, pairs, traces, k)
        spread = columns.to_parameters[:-1, :-1][:, [0, 1, *np.flatnonzero(free) + 2]]
        for b, found in sums.items():
            weights = dataclasses.replace(light, longest=b).weights(columns.s, k) if b else None
            gram, forms = [], []
            for x in itertools.chain(columns.plain(), columns.channels()):
                y = x if weights is None else weights.apply(x)
                gram.append(columns.sums(y))
                forms.append(_forms(y, delta, columns.s, CONTRAST))
            g, f = spread.T @ np.array(gram) @ spread, np.array(forms).T @ spread
            row = np.hstack([-np.linalg.solve(g[:2, :2], g[:2, 2:]).T, np.eye(len(g) - 2)])
            found.append((row @ (g + g.T) @ row.T / 2, (f - f.mean(0)) @ row.T / np.sqrt(len(f) - 1)))
    out = {}
    for b, found in sums.items():
        inverse = np.linalg.inv(sum(left for left, _ in found))
        out[str(b)] = np.sqrt(sum(((f @ inverse) ** 2).sum(0) for _, f in found)).tolist()
    return {"names": [n for n, f in zip(names, free, strict=True) if f], "stderr": out}


def main() -> int:
    """Print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--blocks", type=int, nargs="+", default=[128, 256, 512, 1000])
    parser.add_argument("--traces", type=int, default=384)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = {}
    for counts in (2.0, 20.0):
        began = time.perf_counter()
        rows[str(counts)] = found = predicted(arguments.frames, counts, arguments.blocks, arguments.traces)
        whole = np.array(found["stderr"][str(max(arguments.blocks))])
        for b, sd in found["stderr"].items():
            print(arguments.frames, counts, b, np.round(np.array(sd) / whole, 3), flush=True)
        print(f"{time.perf_counter() - began:.0f} s", flush=True)
    write_whole(arguments.out, json.dumps({"frames": arguments.frames, "contrast": CONTRAST, "counts": rows}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
