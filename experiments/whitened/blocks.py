#!/usr/bin/env python3
"""Predicted errors for other weights: blocks of frames, ridges, and a diagonal that counts as zero.

    python experiments/whitened/blocks.py blocks --frames 1000 --out experiments/whitened/blocks_1000.json
    python experiments/whitened/blocks.py ridges --frames 150 --out experiments/whitened/ridges_150.json

5 sectors, contrast 0.33, the sheared sample of ``run.py``; no data are drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from linear import PIXELS, Source, every_column, weighed
from run import FIXED, PHI, SETS, THETA

from homodyne.files import write_whole
from homodyne.models import get_model
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.whitened.passes import Light, _traces, noise_forms, products
from homodyne.optimization.whitened.refine import RIDGE
from homodyne.optimization.whitened.sector import Columns, Pairs

CONTRAST = 0.33


@dataclasses.dataclass(frozen=True)
class Variant:
    """One choice of weights; ``filled``: c2 on the diagonal is unknown (as the package has it), not equal to the model."""

    longest: int
    ridge: float = RIDGE
    filled: bool = True

    def weigh(self, light: Light, columns: Columns, x: np.ndarray) -> np.ndarray:
        """W X of all columns, (n, m, n)."""
        light = dataclasses.replace(light, longest=self.longest, ridge=self.ridge)
        if self.filled:
            return weighed(light.weights(columns, len(x), 0), x)
        sigma = CONTRAST * columns.signal(slice(0, len(x)))
        a = np.linalg.inv(sigma + np.eye(len(x)) * (light.noise.nu[0] + self.ridge * CONTRAST))
        y = (a @ x.swapaxes(0, 1) @ a).swapaxes(0, 1)
        y[np.arange(len(x)), :, np.arange(len(x))] = 0.0
        return np.asarray(y)


def variants(kind: str, frames: int) -> dict[str, Variant]:
    """By name; the last one is what others are compared with."""
    if kind == "blocks":
        return {f"blocks of {b}": Variant(b) for b in (128, 256, 512, frames)}
    ridges = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
    zero = {f"diagonal zero, ridge {r:g}": Variant(frames, r, False) for r in ridges}
    return zero | {f"ridge {r:g}": Variant(frames, r) for r in reversed(ridges)}


def predicted(frames: int, counts: float, chosen: dict[str, Variant], traces: int) -> dict:
    """Predicted errors of the parameters for uniform weights and every variant."""
    model, source = get_model("laminar_flow"), Source(frames)
    names = [p.name for p in model.parameters]
    theta, free = np.array([THETA[n] for n in names]), np.array([n not in FIXED for n in names])
    one = np.ones(len(PHI))
    noise = SpeckleNoise(CONTRAST * one, one / counts, PIXELS * one, one, "", "")
    pairs = Pairs(np.arange(frames), np.zeros((frames, frames)), 1, frames * (frames - 1) // 2)
    light = Light(source, model, 1, noise, RIDGE, frames, free)  # type: ignore[arg-type]
    sums: dict[str, list] = {name: [] for name in ("uniform", *chosen)}
    for k in SETS[5]:
        columns = Columns(model, theta, source, k, pairs, free)  # type: ignore[arg-type]
        delta = _traces(light, theta, k, pairs, traces, k)
        spread = columns.to_parameters[:-1, :-1][:, [0, 1, *np.flatnonzero(free) + 2]]
        x = every_column(columns, frames)
        for name, found in sums.items():
            y = chosen[name].weigh(light, columns, x) if name in chosen else x
            g = spread.T @ products(x, y, True) @ spread
            f = noise_forms(y, x[:, 0], delta, delta, CONTRAST, True) @ spread
            row = np.hstack([-np.linalg.solve(g[:2, :2], g[:2, 2:]).T, np.eye(len(g) - 2)])
            found.append((row @ (g + g.T) @ row.T / 2, (f - f.mean(0)) @ row.T / np.sqrt(len(f) - 1)))
    out = {}
    for name, found in sums.items():
        inverse = np.linalg.inv(sum(left for left, _ in found))
        out[name] = np.sqrt(sum(((f @ inverse) ** 2).sum(0) for _, f in found)).tolist()
    return {"names": [n for n, f in zip(names, free, strict=True) if f], "stderr": out}


def main() -> int:
    """Print Markdown and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["blocks", "ridges"])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--traces", type=int, default=384)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    chosen, rows = variants(arguments.kind, arguments.frames), {}
    for counts in (2.0, 20.0):
        rows[str(counts)] = found = predicted(arguments.frames, counts, chosen, arguments.traces)
        least = np.array(found["stderr"][list(chosen)[-1]])
        for name, sd in found["stderr"].items():
            cells = " | ".join(f"{x:.2f}" for x in np.array(sd) / least)
            print(f"| {arguments.frames} | {counts:g} | {name} | {cells} |", flush=True)
    write_whole(arguments.out, json.dumps({"frames": arguments.frames, "contrast": CONTRAST, "counts": rows}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
