#!/usr/bin/env python3
"""Noise that is not that of independent pixels of speckle: what it does to fits with uniform and with whitened weights.

    python experiments/whitened/wrong.py --replicates 24 --out outputs/whitened_wrong

Laminar flow, 10 sectors, 150 frames, 2000 pixels, 2 photons per pixel and frame, contrast 0.33. Every case is a way in which
real measurements differ from what the weights and errors assume; ``report.py`` makes the table.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from run import DT_S, FIXED, GAP, PHI, PIXELS, SETS, THETA, Q

from homodyne import Dataset, fit, get_model
from homodyne.fields import field_root, mode_weights, modes
from homodyne.files import write_whole

FRAMES, CONTRAST, COUNTS, SECTORS = 150, 0.33, 2.0, SETS[10]
MODEL = "laminar_flow"


def light(seed: int, k: int, pixels: int = PIXELS, **changed: float) -> np.ndarray:
    """Intensities of sector ``k``, (frames, pixels)."""
    rng = np.random.default_rng([seed, k, pixels])
    t = DT_S * np.arange(FRAMES)
    root = field_root(get_model(MODEL).g1({**THETA, **changed}, t, float(PHI[k]), Q, GAP))
    return sum(w * modes(root, pixels, rng, np.float32) for w in mode_weights(CONTRAST))


def counted(intensity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photons."""
    return rng.poisson(COUNTS * intensity).astype(float)


def correlated(photons: np.ndarray, norm: np.ndarray | None = None) -> np.ndarray:
    """c2, divided by the means of the frames, or by ``norm`` (frames,) in their place."""
    norm = photons.mean(1) if norm is None else norm
    return photons @ photons.T / photons.shape[1] / np.outer(norm, norm)


Case = Callable[[int, np.random.Generator], list[np.ndarray]]


def each(
    seed: int, rng: np.random.Generator, change: Callable[[np.ndarray], np.ndarray] = lambda i: i
) -> list[np.ndarray]:
    return [correlated(counted(change(light(seed, k)), rng)) for k in SECTORS]


def detector_mean(seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Frames are divided by the mean of the whole detector, not of the sector."""
    photons = [counted(light(seed, k), rng) for k in SECTORS]
    norm = np.mean([p.mean(1) for p in photons], axis=0)
    return [correlated(p, norm) for p in photons]


def no_frame_mean(seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Frames are not divided by their means, and the beam fluctuates by 0.2 %."""
    beam = 1 + 0.002 * rng.standard_normal(FRAMES)
    photons = [counted(light(seed, k) * beam[:, None], rng) for k in SECTORS]
    return [correlated(p, np.full(FRAMES, p.mean())) for p in photons]


def drift(seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The beam loses half of its intensity."""
    return each(seed, rng, lambda i: i * np.linspace(1.0, 0.5, FRAMES)[:, None])


def large_speckle(seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A speckle covers four pixels."""
    return [correlated(counted(np.repeat(light(seed, k, PIXELS // 4), 4, axis=1), rng)) for k in SECTORS]


def static_light(seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A tenth to three tenths of the light, by sector, comes from something that does not move, with speckle of its own."""
    out = []
    for n, k in enumerate(SECTORS):
        part, i = 0.1 + 0.2 * (n % 3) / 2, light(seed, k)
        still = np.random.default_rng([seed, k, 1]).gamma(1 / CONTRAST, CONTRAST, i.shape[1])
        out.append(correlated(counted((1 - part) * i + part * still[None, :], rng)))
    return out


def bad_frames(seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """In three frames the beam hits another place: other speckle."""
    bad = rng.choice(FRAMES, 3, replace=False)

    def change(i: np.ndarray) -> np.ndarray:
        i = i.copy()
        i[bad] = i[bad][:, rng.permutation(i.shape[1])]
        return i

    return each(seed, rng, change)


def ageing(seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """J(t) has a constant part, 1500, that the model does not allow."""
    return [correlated(counted(light(seed, k, D_offset=1500.0), rng)) for k in SECTORS]


def stretched(seed: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Diffusion decays as exp(-x**0.9), which no parameter of the model can make."""
    t, flow, still, out = DT_S * np.arange(FRAMES), get_model(MODEL), get_model("static"), []
    theta = {p.name: THETA[p.name] for p in still.parameters}
    for k in SECTORS:
        diffusion = still.g1(theta, t, float(PHI[k]), Q)
        shear = flow.g1(THETA, t, float(PHI[k]), Q, GAP) / diffusion
        root = field_root(np.exp(-((-2 * np.log(diffusion)) ** 0.9) / 2) * shear)
        light_rng = np.random.default_rng([seed, k, PIXELS])
        i = sum(w * modes(root, PIXELS, light_rng, np.float32) for w in mode_weights(CONTRAST))
        out.append(correlated(counted(i, rng)))
    return out


CASES: dict[str, Case] = {
    "as assumed": each, "drift": drift, "detector_mean": detector_mean, "no_frame_mean": no_frame_mean,
    "large_speckle": large_speckle, "static_light": static_light, "bad_frames": bad_frames, "ageing": ageing, "stretched": stretched,
}  # fmt: skip


def fitted(c2: np.ndarray) -> dict:
    """Values and errors by both weightings, by the jackknife for whitened ones, and what the program says."""
    names = [p.name for p in get_model(MODEL).parameters]
    free = [n for n in names if n not in FIXED]
    data = Dataset.from_arrays(c2, PHI[list(SECTORS)], DT_S * np.arange(FRAMES), Q, GAP)
    result = fit(
        data, MODEL, strategy="stratified_ls", weighting="whitened", start={n: THETA[n] for n in free},
        fixed=dict.fromkeys(FIXED, 0.0),
    )  # fmt: skip
    record, out = result.weighting, {"status": result.status.value, "method": result.covariance_method}
    out |= {"name": result.weighting.name, "ratio": record.ratio, "p_value": record.p_value}
    for weighting in ("uniform", "whitened"):
        values, errors = getattr(record, weighting), getattr(record, f"{weighting}_stderr")
        out[weighting] = {n: [values[n], errors[n]] for n in free if n in values}
    if "jackknife" in result.uncertainties:
        out["jackknife"] = {n: result.stderr_by("jackknife")[n] for n in free}
    texts = [*result.findings, *result.warnings]
    return out | {"said": [t for t in texts if not t.startswith("Speckle noise")]}


def main() -> int:
    """Run what is missing in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("outputs/whitened_wrong"))
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    done: collections.Counter = collections.Counter()
    for seed in range(arguments.replicates):
        for name in arguments.cases:
            target = arguments.out / f"{name.replace(' ', '_')}_{seed:04d}.json"
            if not target.exists():
                rng = np.random.default_rng([seed, 11])
                write_whole(
                    target, json.dumps({"case": name, "seed": seed, **fitted(np.array(CASES[name](seed, rng)))})
                )
            done[name] += 1
    print(dict(done))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
