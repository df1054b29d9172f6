#!/usr/bin/env python3
"""Do intervals cover what they claim? Fits of simulated speckle with known truth, counted.

    python experiments/coverage/run.py --replicates 300 --out outputs/coverage --jobs 2
    python experiments/coverage/report.py outputs/coverage

Every replicate simulates 23 sectors of a static or a sheared sample at one contrast; the same light is counted with
0.2, 2 and 20 photons per pixel and frame, and fitted with 3, 6, 10 and all 23 of the sectors: 24 cells for each model.
Cells that differ in counts or sectors only are therefore not independent of one another; replicates of a cell are.
A killed run goes on where it stopped: every replicate is a file of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

# One thread for each process: on two processors more of them wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from homodyne.files import write_whole

CONTRASTS, COUNTS, ANGLES = (0.05, 0.33), (0.2, 2.0, 20.0), (3, 6, 10, 23)
N_FRAMES, DT_S, Q, GAP, PIXELS = 100, 0.1, 0.0054, 2e6, 2000
TIMES_S = (0.5, 2.0, 8.0)
THETA = {
    "D0": 8e3, "alpha": -0.4, "D_offset": 0.0,
    "gamma_dot_0": 2e-3, "beta": -0.2, "gamma_dot_offset": 0.0, "phi0": 2.0,
}  # fmt: skip
FIXED = ("D_offset", "gamma_dot_offset")
#: 23 sectors over half a turn; the smaller sets hold sectors along, across and oblique to the flow.
PHI = np.linspace(-88.0, 92.0, 24)[1:]
SETS = {3: (11, 17, 22), 6: (3, 7, 11, 15, 19, 22), 10: (0, 2, 5, 8, 10, 12, 15, 18, 20, 22), 23: tuple(range(23))}


def light(model: str, contrast: float, seed: int) -> list[np.ndarray]:
    """Intensities of every sector, (frames, pixels) each, mean 1."""
    return sectors(model, contrast, seed, range(len(PHI)))


def sectors(
    model: str, contrast: float, seed: int, chosen: Sequence[int], truth: Mapping[str, float] = THETA
) -> list[np.ndarray]:
    """The same for some sectors, and any truth."""
    from homodyne.fields import field_root, mode_weights, modes
    from homodyne.models import get_model

    sample, t = get_model(model), DT_S * np.arange(N_FRAMES)
    theta = {p.name: truth[p.name] for p in sample.parameters}
    weights, out = mode_weights(contrast), []
    for k in chosen:
        rng = np.random.default_rng([seed, k, round(1000 * contrast)])
        root = field_root(sample.g1(theta, t, float(PHI[k]), Q, GAP))
        out.append(sum(w * modes(root, PIXELS, rng, np.float32) for w in weights))
    return out


def correlated(intensity: np.ndarray, counts: float, rng: np.random.Generator) -> np.ndarray:
    """c2 of photon counts, normalized by the mean of every frame over the sector, as a correlator does."""
    photons = rng.poisson(counts * intensity).astype(float)
    mean = photons.mean(1)
    return photons @ photons.T / photons.shape[1] / np.outer(mean, mean)


def replicate(model: str, contrast: float, seed: int, target: Path) -> None:
    """All cells of one light; the results as JSON, whole or not at all."""
    intensities, rows = light(model, contrast, seed), []
    for counts in COUNTS:
        rng = np.random.default_rng([seed, round(10 * counts), 7])
        c2 = np.array([correlated(i, counts, rng) for i in intensities])
        rows += [
            {"counts": counts, "angles": n, **fitted(model, c2[list(SETS[n])], PHI[list(SETS[n])])} for n in ANGLES
        ]
    write_whole(target, json.dumps({"model": model, "contrast": contrast, "seed": seed, "fits": rows}))


def fitted(model: str, c2: np.ndarray, phi: np.ndarray) -> dict:
    """Fit one cell; values and errors by every method, of parameters and of curves."""
    from homodyne import Dataset, fit, get_model
    from homodyne.optimization.uncertainty import assess

    designs: list = []
    keep = assess.make_design
    dataset = Dataset.from_arrays(c2, phi, DT_S * np.arange(N_FRAMES), Q, GAP)
    names = [p.name for p in get_model(model).parameters]
    # CR1, which the package does not offer, needs the sums of the last pass
    assess.make_design = lambda *given: designs.append(keep(*given)) or designs[-1]
    try:
        result = fit(
            dataset,
            model,
            start={n: THETA[n] for n in names if n not in FIXED},
            fixed={n: 0.0 for n in FIXED if n in names},
            weighting="uniform",
        )
    finally:
        assess.make_design = keep
    curves = result.curves()
    at = [int(np.argmin(np.abs(curves["t"].values - t))) for t in TIMES_S]
    out: dict = {
        "status": result.status.value,
        "undetermined": list(result.undetermined),
        "findings": list(result.findings),
    }
    out["warnings"] = list(result.warnings)
    out["values"] = {n: result.theta[n] for n in names if n not in FIXED}
    out["values"] |= {
        f"{c}({TIMES_S[i]:g} s)": float(curves[c].values[a]) for c in _rates(curves) for i, a in enumerate(at)
    }
    out["stderr"] = {}
    for method in result.uncertainties:
        found = {n: s for n, s in result.stderr_by(method).items() if n not in FIXED}
        for c in _rates(curves):
            found |= {
                f"{c}({TIMES_S[i]:g} s)": float(curves[f"{c}_stderr_{method}"].values[a]) for i, a in enumerate(at)
            }
        out["stderr"][method] = found
    out["stderr"]["cr1"] = cr1(designs[-1], dataset, get_model(model), result)
    return out


def cr1(design, dataset, model, result) -> dict[str, float]:
    """Errors of the angle-clustered sandwich K / (K - 1) H^-1 sum g_k g_k^T H^-1, of parameters and curves."""
    from homodyne.optimization.uncertainty.curves import rate_table
    from homodyne.result import Uncertainty

    at, n_phi = design.at, len(design.at.chi2)
    jacobian = at.jacobian[:, design.free].reshape(n_phi, -1, len(design.free))
    scores = np.einsum("kmi,km->ki", jacobian, at.residual.reshape(n_phi, -1))
    root = np.zeros((design.n_parameters, n_phi))
    root[design.free] = np.sqrt(n_phi / (n_phi - 1)) * (scores @ design.theta.inverse).T
    nothing = np.zeros(n_phi)
    found = Uncertainty("cr1", root, np.zeros((len(root), 0)), nothing, nothing)
    theta = np.array([result.theta[p.name] for p in model.parameters])
    curves = rate_table(model, theta, dataset, {"cr1": found}, "cr1")
    errors = dict(zip((p.name for p in model.parameters), np.sqrt((root**2).sum(1)).tolist(), strict=True))
    out = {n: e for n, e in errors.items() if n not in FIXED}
    for c in _rates(curves):
        for seconds in TIMES_S:
            place = int(np.argmin(np.abs(curves["t"].values - seconds)))
            out[f"{c}({seconds:g} s)"] = float(curves[f"{c}_stderr"].values[place])
    return out


def _rates(curves) -> list[str]:
    return [c for c in ("J", "gamma_dot") if c in curves]


def main() -> int:
    """Run what is missing in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("outputs/coverage"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--models", nargs="+", default=["static", "laminar_flow"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    jobs = [
        (model, contrast, seed, arguments.out / f"{model}_{contrast:g}_{seed:04d}.json")
        for seed in range(arguments.replicates)
        for model in arguments.models
        for contrast in CONTRASTS
    ]
    missing = [job for job in jobs if not job[-1].exists()]
    print(f"{len(jobs)} lights, {len(missing)} to do, {len(COUNTS) * len(ANGLES)} fits each", flush=True)
    with ProcessPoolExecutor(arguments.jobs, initializer=_alone, initargs=(_places(arguments.jobs),)) as pool:
        running = {pool.submit(replicate, *job): job for job in missing}
        for n, done in enumerate(as_completed(running), 1):
            done.result()
            if n % 20 == 0 or n == len(missing):
                print(f"{n} of {len(missing)}", flush=True)
    return 0


def _places(jobs: int):
    """A processor for every process, handed out through a queue."""
    places = multiprocessing.Queue()
    allowed = sorted(os.sched_getaffinity(0))
    for n in range(jobs):
        places.put(allowed[n % len(allowed)])
    return places


def _alone(places) -> None:
    """A process on a processor of its own, which says only what went wrong."""
    os.sched_setaffinity(0, {places.get()})
    logging.getLogger("homodyne").setLevel(logging.ERROR)


if __name__ == "__main__":
    raise SystemExit(main())
