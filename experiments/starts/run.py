"""How often each strategy ends in the global optimum, and how long it takes; see README.md.

python experiments/starts/run.py truths            # default settings, no start, 50 different samples
python experiments/starts/run.py starts            # 50 random starts over the full default bounds, one sample
python experiments/starts/run.py agree             # every strategy in every scaling mode on one dataset
python experiments/starts/run.py large             # 10^7 points with cmaes_nlsq
python experiments/starts/run.py report            # the tables
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import homodyne
from homodyne.models import get_model
from homodyne.optimization.search import WarmUp
from homodyne.optimization.search.coordinates import Coordinates
from homodyne.parameters import unpack
from homodyne.simulate.synthetic import synthetic_dataset

HERE = Path(__file__).parent
MODEL = get_model("laminar_flow")
GEOMETRY = {"n_phi": 23, "n_t": 300}
MILD = {
    "D0": 8e3, "alpha": -0.4, "D_offset": 300.0, "gamma_dot_0": 2e-3, "beta": -0.2, "gamma_dot_offset": 1e-4, "phi0": 2.0,
}  # fmt: skip
# A cost this close to the best known one, relatively, is the same optimum.
SAME = 1e-6
SCALINGS = ("individual", "auto", "constant", "fourier")
STRATEGIES = ("stratified_ls", "hybrid_streaming", "auto", "multistart", "cmaes_nlsq")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("truths", "starts", "agree", "large", "report"))
    parser.add_argument("--n", type=int, default=50)
    chosen = parser.parse_args()
    rows = {"truths": truths, "starts": starts, "agree": agree, "large": large, "report": report}[chosen.study](
        chosen.n
    )
    if rows is not None:
        (HERE / f"{chosen.study}.json").write_text(json.dumps(rows, indent=1))


def random_truth(rng: np.random.Generator) -> dict[str, float]:
    """A sample whose decay and shear are both seen within 30 s at q = 0.0054 1/angstrom."""
    d0, shear = 10 ** rng.uniform(3.3, 4.7), 10 ** rng.uniform(-3.5, -2)
    return {
        "D0": d0, "alpha": rng.uniform(-1.0, 0.2), "D_offset": d0 * rng.uniform(0, 0.3), "gamma_dot_0": shear,
        "beta": rng.uniform(-0.7, 0.4), "gamma_dot_offset": shear * rng.uniform(-0.1, 0.3), "phi0": rng.uniform(-70, 70),
    }  # fmt: skip


def random_start(dataset: homodyne.Dataset, rng: np.random.Generator) -> dict[str, float]:
    """Uniform over the full default bounds in the coordinates of the search; J(t) > 0."""
    coordinates = Coordinates.of(MODEL.parameters)
    geometry = MODEL.geometry(0.0, dataset.q, dataset.gap, dataset.dt)
    while True:
        theta = np.asarray(coordinates.from_unit(rng.random(len(MODEL.parameters))))
        if MODEL.feasible(theta[None, :], dataset.t, geometry)[0]:
            return unpack(theta, MODEL.parameters)


def timed(dataset: homodyne.Dataset, **settings) -> dict:
    """One fit: cost, time, status, values."""
    began = time.perf_counter()
    fit = homodyne.fit(dataset, "laminar_flow", covariance="iid", **settings)
    seconds = time.perf_counter() - began
    return {
        "chi2": fit.chi2_reduced, "seconds": seconds, "status": fit.status.value, "theta": fit.theta,
        "stderr": fit.stderr, "decision": fit.decision.strategy, "passes": int(np.sum(fit.history.stage != "subset")),
        "optima": fit.optima["chi2"].values.tolist(),
    }  # fmt: skip


def truths(n: int) -> list[dict]:
    """Default settings against a fit that starts at the truth."""
    rows = []
    for seed in range(n):
        theta = random_truth(np.random.default_rng(seed))
        dataset = synthetic_dataset(theta=theta, seed=seed, **GEOMETRY)
        best = timed(dataset, strategy="stratified_ls", start=theta)
        row = {"truth": theta, "from_truth": best, "default": timed(dataset)}
        rows.append(row)
        ratio = row["default"]["chi2"] / best["chi2"]
        (HERE / "truths.json").write_text(json.dumps(rows, indent=1))
        print(f"{seed:3d} {ratio - 1:+.1e} {row['default']['seconds']:.1f} s {row['default']['decision']}", flush=True)
    return rows


def starts(n: int) -> dict[str, list[dict]]:
    """Random starts over the full bounds, one sample."""
    dataset = synthetic_dataset(theta=MILD, **GEOMETRY)
    best = timed(dataset, strategy="stratified_ls", start=MILD)
    rng = np.random.default_rng(1)
    given = [random_start(dataset, rng) for _ in range(n)]
    settings = {
        "cmaes_nlsq": {"strategy": "cmaes_nlsq"},
        "local": {"strategy": "stratified_ls"},
        "auto": {"strategy": "auto"},
        "local after 100 steps of adam": {"strategy": "stratified_ls", "warm_up": WarmUp()},
        "multistart": {"strategy": "multistart"},
    }
    done = HERE / "starts.json"  # fits that are in it are not repeated
    rows: dict[str, list[dict]] = json.loads(done.read_text()) if done.exists() else {"from_truth": [best]}
    for name, chosen in settings.items():
        fits = rows.setdefault(name, [])
        for start in given[len(fits) :]:
            fits.append({**timed(dataset, start=start, **chosen), "start": start})
            (HERE / "starts.json").write_text(json.dumps(rows, indent=1))
        found = [row["chi2"] <= best["chi2"] * (1 + SAME) for row in rows[name]]
        seconds = np.median([row["seconds"] for row in rows[name]])
        print(f"{name}: {100 * np.mean(found):.0f} %, {seconds:.1f} s", flush=True)
    return rows


def agree(n: int) -> dict[str, dict[str, dict]]:
    """Every strategy in every scaling mode on one dataset."""
    dataset = synthetic_dataset(theta=MILD, contrast_spread=0.0, **GEOMETRY)
    rows: dict[str, dict[str, dict]] = {}
    for scaling in SCALINGS:
        rows[scaling] = {s: timed(dataset, scaling=scaling, strategy=s) for s in STRATEGIES}
        values = np.array([list(row["theta"].values()) for row in rows[scaling].values()])
        spread = np.max(np.abs(values - values[0]) / np.abs(values[0]))
        print(f"{scaling}: largest relative difference {spread:.1e}", flush=True)
    return rows


def large(n: int) -> dict[str, dict]:
    """10^7 points: 23 angles x 933 frames."""
    dataset = synthetic_dataset(theta=MILD, n_phi=23, n_t=933)
    rows = {}
    for strategy in ("hybrid_streaming", "cmaes_nlsq"):
        rows[strategy] = timed(dataset, strategy=strategy)
        print(strategy, f"{rows[strategy]['seconds']:.1f} s", rows[strategy]["theta"], flush=True)
    return rows


def report(n: int) -> None:
    """The tables of README.md."""
    rows = json.loads((HERE / "truths.json").read_text())
    found = [row["default"]["chi2"] <= row["from_truth"]["chi2"] * (1 + SAME) for row in rows]
    seconds = [row["default"]["seconds"] for row in rows]
    print(
        f"default without a start: {sum(found)} of {len(found)}, median {np.median(seconds):.1f} s, longest {max(seconds):.1f} s"
    )
    rows = json.loads((HERE / "starts.json").read_text())
    best = rows.pop("from_truth")[0]["chi2"]
    for name, fits in rows.items():
        hit = [fit["chi2"] <= best * (1 + SAME) for fit in fits]
        seconds = [fit["seconds"] for fit in fits]
        print(f"{name}: {sum(hit)} of {len(hit)}, median {np.median(seconds):.1f} s, longest {max(seconds):.1f} s")
    rows = json.loads((HERE / "agree.json").read_text())
    for scaling, fits in rows.items():
        reference = np.array(list(fits["stratified_ls"]["theta"].values()))
        other = {s: np.max(np.abs(np.array(list(f["theta"].values())) / reference - 1)) for s, f in fits.items()}
        print(scaling, ", ".join(f"{s} {d:.1e}" for s, d in other.items()))


if __name__ == "__main__":
    main()
