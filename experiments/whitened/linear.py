#!/usr/bin/env python3
"""How much estimates scatter by either weighting, in many replicates: one Gauss-Newton step from the truth.

    python experiments/whitened/linear.py --frames 150 --replicates 240 --out outputs/whitened_linear

A fit of data with small noise is this step (``run.py`` makes whole fits, fewer of them). What the step multiplies the data
with is computed once for every cell of model, contrast, counts and sectors, at the truth; a replicate is then new light, its c2, and
a few sums. Noise scales with pixels as 1 / P exactly in this picture, so 500 pixels stand for any number. Beside the scatter: errors as
the package predicts them, and the bound of Cramer and Rao were intensities normal, which is (X^T W X)^-1 without a ridge.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from run import CONTRASTS, COUNTS, DT_S, FIXED, GAP, MODELS, PHI, SETS, THETA, Q

from homodyne.fields import field_root, mode_weights, modes
from homodyne.files import write_whole
from homodyne.models import get_model
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.whitened.passes import Light, _traces, noise_forms, products
from homodyne.optimization.whitened.refine import RIDGE
from homodyne.optimization.whitened.sector import Columns, Pairs
from homodyne.optimization.whitened.weights import FrameWeights

PIXELS = 500
WEIGHTINGS = ("uniform", "whitened", "bound")


class Source:
    """The geometry of the cells; there are no data."""

    def __init__(self, frames: int) -> None:
        self.phi, self.q, self.gap, self.dt = PHI, Q, GAP, DT_S
        self.t = DT_S * np.arange(frames)


def every_column(columns: Columns, frames: int) -> np.ndarray:
    """s, 1 and the channels on all pairs, (n, m, n)."""
    whole = slice(0, frames)
    return columns.tile(whole, whole, np.zeros(2))[0][:, : columns.size]


def weighed(weights: FrameWeights, x: np.ndarray) -> np.ndarray:
    """W X of whole matrices, (n, m, n)."""
    y = np.empty_like(x)
    for b, c in weights.tiles():
        rows, cols = weights.blocks[b], weights.blocks[c]
        y[rows, :, cols] = weights.apply(b, c, np.ascontiguousarray(x[rows, :, cols]))
        y[cols, :, rows] = y[rows, :, cols].swapaxes(0, 2)
    return y


class Cell:
    """Sums of one model, contrast and number of counts at the truth.

    Attributes:
        instruments: weighting -> (sectors, columns, pairs), what the data are multiplied with. grams: (sectors, c, c).
        roots: weighting -> (sectors, T, columns), what noise does to the scores.
    """

    def __init__(self, model_name: str, contrast: float, counts: float, frames: int, sectors: list[int]) -> None:
        model, source = get_model(model_name), Source(frames)
        names = [p.name for p in model.parameters]
        theta, free = np.array([THETA[n] for n in names]), np.array([n not in FIXED for n in names])
        one = np.ones(len(PHI))
        noise = SpeckleNoise(contrast * one, one / counts, PIXELS * one, one, "", "")
        pairs = Pairs(np.arange(frames), np.zeros((frames, frames)), 1, frames * (frames - 1) // 2)
        upper = np.triu_indices(frames, 1)
        self.names = [n for n, f in zip(names, free, strict=True) if f]
        self.instruments: dict[str, list] = {w: [] for w in WEIGHTINGS[:2]}
        self.grams: dict[str, list] = {w: [] for w in WEIGHTINGS}
        self.roots: dict[str, list] = {w: [] for w in WEIGHTINGS[:2]}
        self.model = []
        for k in sectors:
            columns = Columns(model, theta, source, k, pairs, free)
            light = Light(source, model, 1, noise, RIDGE, frames, free)
            delta = _traces(light, theta, k, pairs, 512, k)
            spread = columns.to_parameters[:-1, :-1][:, [0, 1, *np.flatnonzero(free) + 2]]
            weights = {
                "whitened": light.weights(columns, frames, k),
                "bound": Light(source, model, 1, noise, 0.0, frames, free).weights(columns, frames, k),
            }
            x = every_column(columns, frames)
            for w in WEIGHTINGS:
                y = x if w == "uniform" else weighed(weights[w], x)
                g = spread.T @ products(x, y, True) @ spread
                g[:, 2:] *= contrast
                g[2:, :] *= contrast
                self.grams[w].append(0.5 * (g + g.T))
                if w != "bound":
                    scale = np.concatenate([[1, 1], np.full(len(self.names), contrast)])
                    f = noise_forms(y, x[:, 0], delta, delta, contrast, True) @ spread * scale
                    self.roots[w].append((f - f.mean(0)) / np.sqrt(PIXELS * (len(f) - 1)))
                    found = y[upper[0], :, upper[1]].T.astype(np.float32)
                    self.instruments[w].append(((spread * scale).T @ found).astype(np.float32))
            self.model.append((1 + contrast * x[:, 0])[upper])

    def step(self, w: str, chosen: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """D (sectors, f, c) of the step in theta, sum over sectors of D scores; and the inverse of what is left of the gram."""
        rows = []
        for k in chosen:
            g = self.grams[w][k]
            rows.append(np.hstack([-np.linalg.solve(g[:2, :2], g[:2, 2:]).T, np.eye(len(g) - 2)]))
        left = sum(r @ self.grams[w][k] @ r.T for r, k in zip(rows, chosen, strict=True))
        unit = np.sqrt(np.diag(left))
        inverse = np.linalg.inv(left / np.outer(unit, unit)) / np.outer(unit, unit)
        return np.array([inverse @ r for r in rows]), inverse


def replicate(cells: dict, model: str, contrast: float, frames: int, sectors: list[int], seed: int) -> dict:
    """Scores of one light for every number of counts and weighting, (sectors, c)."""
    out: dict = {(c, w): [] for c in COUNTS for w in WEIGHTINGS[:2]}
    for n, k in enumerate(sectors):
        rng = np.random.default_rng([seed, k, round(1000 * contrast), frames, 77])
        root = cells["roots"][n]
        intensity = sum(w * modes(root, PIXELS, rng, np.float32) for w in mode_weights(contrast))
        for counts in COUNTS:
            photons = rng.poisson(counts * intensity).astype(np.float32)
            photons /= photons.mean(1, dtype=float)[:, None]
            c2 = (photons @ photons.T)[np.triu_indices(frames, 1)] / PIXELS
            r = (c2 - cells[counts].model[n]).astype(np.float32)
            for w in WEIGHTINGS[:2]:
                out[counts, w].append(cells[counts].instruments[w][n] @ r)
    return out


def cell_rows(cells: dict, scores: list[dict], sectors: list[int]) -> list[dict]:
    """Scatter, mean, predicted error and bound of every parameter, for every number of counts and set of sectors."""
    rows = []
    for counts in COUNTS:
        for n, members in SETS.items():
            if not set(members) <= set(sectors):
                continue
            chosen = [sectors.index(k) for k in members]
            row: dict = {"counts": counts, "angles": n, "names": cells[counts].names, "n": len(scores)}
            for w in WEIGHTINGS:
                d, inverse = cells[counts].step(w, chosen)
                if w == "bound":
                    row[w] = np.sqrt(np.diag(inverse) / PIXELS).tolist()
                    continue
                x = np.array([sum(d[i] @ s[counts, w][k] for i, k in enumerate(chosen)) for s in scores])
                parts = [cells[counts].roots[w][k] @ d[i].T for i, k in enumerate(chosen)]
                row[w] = {
                    "sd": x.std(0, ddof=1).tolist(),
                    "mean": x.mean(0).tolist(),
                    "predicted": np.sqrt(sum((p**2).sum(0) for p in parts)).tolist(),
                }
            rows.append(row)
    return rows


def main() -> int:
    """Run what is missing in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=240)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--angles", type=int, default=23, help="the largest set of sectors")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--contrasts", nargs="+", type=float, default=list(CONTRASTS))
    parser.add_argument("--out", type=Path, default=Path("outputs/whitened_linear"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    frames, sectors = arguments.frames, sorted({k for n, s in SETS.items() if n <= arguments.angles for k in s})
    for model in arguments.models:
        for contrast in arguments.contrasts:
            target = arguments.out / f"{model}_{contrast:g}_{frames}.json"
            if target.exists():
                continue
            cells: dict = {c: Cell(model, contrast, c, frames, sectors) for c in COUNTS}
            sample = get_model(model)
            theta = {p.name: THETA[p.name] for p in sample.parameters}
            t = DT_S * np.arange(frames)
            cells["roots"] = [field_root(sample.g1(theta, t, float(PHI[k]), Q, GAP)) for k in sectors]
            scores = [replicate(cells, model, contrast, frames, sectors, n) for n in range(arguments.replicates)]
            rows = cell_rows(cells, scores, sectors)
            write_whole(target, json.dumps({"model": model, "contrast": contrast, "frames": frames, "rows": rows}))
            print(target.name, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
