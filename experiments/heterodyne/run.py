#!/usr/bin/env python3
"""Heterodyne and KWW samples in simulated speckle: is the truth found from the data alone, and do the intervals cover?

    python experiments/heterodyne/run.py --replicates 80 --truths 40 --out outputs/heterodyne --figure experiments/heterodyne/pulls.png

Every fit gets the maps and nothing else: no start. A killed run goes on where it stopped: every fit is a file of its own.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from homodyne import Dataset, fit, get_model
from homodyne.files import write_whole
from homodyne.fitting import fit_maps
from homodyne.plots.canvas import new_figure, styled, write_png
from homodyne.simulate import speckle_dataset

Q, T_S = 0.0054, 0.1 * np.arange(150)
PHI = {"heterodyne": np.linspace(-77.0, 77.0, 8), "kww": np.linspace(-75.0, 75.0, 6)}
LIGHT = {"contrast": 0.3, "counts": 2.0, "pixels": 2000}
TRUTH = {
    "heterodyne": {
        "D0": 8e3, "alpha": -0.4, "D_offset": 0.0, "v0": 400.0, "beta": -0.3, "v_offset": 0.0, "phi0": 10.0,
        "reference_fraction": 0.3,
    },
    "kww": {"Gamma_0": 0.5, "aging": -0.8, "Gamma_offset": 0.1, "kww_exponent": 1.4},
}  # fmt: skip
#: Offsets of the two rates of the heterodyne sample are held: with them free, single parameters mean little.
HELD = {"heterodyne": ("D_offset", "v_offset"), "kww": ()}
#: Rate that is looked at, and when [s].
RATE, TIMES_S = {"heterodyne": "v", "kww": "Gamma"}, (1.0, 10.0)
LEVELS = (0.6827, 0.95)
METHODS = ("speckle", "iid")
#: Frames of the short fit whose result begins a fit of all.
FIRST = 30


def sample(model: str, theta: dict[str, float], seed: int) -> Dataset:
    """Simulated speckle of all sectors."""
    return speckle_dataset(model, theta, PHI[model], T_S, Q, seed=seed, **LIGHT)


def replicate(model: str, seed: int) -> dict[str, Any]:
    """One measurement of the same sample; values and errors of parameters and of the rate."""
    theta, began = TRUTH[model], time.perf_counter()
    result = fit(sample(model, theta, seed), model, fixed={n: theta[n] for n in HELD[model]}, weighting="uniform")
    curves, rate = result.curves(), RATE[model]
    at = [int(np.argmin(np.abs(T_S - s))) for s in TIMES_S]
    free = [n for n in theta if n not in HELD[model]]
    values = {n: result.theta[n] for n in free}
    values |= {f"{rate}({s:g} s)": float(curves[rate].values[a]) for s, a in zip(TIMES_S, at, strict=True)}
    errors = {}
    for method in METHODS:
        errors[method] = {n: result.stderr_by(method)[n] for n in free}
        of_rate = curves[f"{rate}_stderr_{method}"].values
        errors[method] |= {f"{rate}({s:g} s)": float(of_rate[a]) for s, a in zip(TIMES_S, at, strict=True)}
    return {
        "status": result.status.value,
        "values": values,
        "stderr": errors,
        "chi2": float(result.chi2_reduced),
        "chi2_expected": float(result.diagnostics["chi2_expected"].mean()),
        "warnings": list(result.warnings),
        "seconds": time.perf_counter() - began,
    }


def random_truth(model: str, seed: int) -> dict[str, float]:
    """A sample drawn from the ranges that a start is sought in, or narrower where nothing would be seen."""
    rng = np.random.default_rng([seed, 11])

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    if model == "kww":
        return {
            "Gamma_0": log_uniform(0.05, 5.0),
            "aging": rng.uniform(-1.0, 0.3),
            "Gamma_offset": 0.0,
            "kww_exponent": rng.uniform(0.5, 2.0),
        }
    return {
        "D0": log_uniform(500.0, 2e4), "alpha": rng.uniform(-0.8, 0.2), "D_offset": 0.0, "v0": log_uniform(30.0, 3e3),
        "beta": rng.uniform(-0.5, 0.3), "v_offset": 0.0, "phi0": rng.uniform(-90.0, 90.0),
        "reference_fraction": rng.uniform(0.1, 0.7),
    }  # fmt: skip


def search(model: str, seed: int) -> dict[str, Any]:
    """One measurement of a random sample, fitted from the data alone and from the truth: is it the same minimum?"""
    theta = random_truth(model, seed)
    data, held = sample(model, theta, 1000 + seed), {n: 0.0 for n in theta if n.endswith("_offset")}
    began = time.perf_counter()
    found = fit(data, model, fixed=held, covariance="iid")
    seconds = time.perf_counter() - began
    known = fit(data, model, fixed=held, covariance="iid", start={n: v for n, v in theta.items() if n not in held})
    chi2 = [float(found.chi2_reduced), float(known.chi2_reduced)]
    geometry = get_model(model).geometry(0.0, Q, None, float(T_S[1]))
    order = np.array([theta[p.name] for p in get_model(model).parameters])
    rate = get_model(model).rate_curves(order, T_S, geometry)[RATE[model]]
    size = (Q if model == "heterodyne" else 1.0) * float(np.trapezoid(rate, T_S))
    return {
        "theta": theta,
        "found": dict(found.theta),
        "chi2": chi2,
        "size": size,
        "seconds": seconds,
        "other_ways": other_ways(model, data, held) if missed(chi2) else {},
    }


def missed(chi2: Sequence[float]) -> bool:
    """Whether the first is a higher minimum than the second."""
    return chi2[0] > chi2[1] * (1 + 1e-5)


def other_ways(model: str, data: Dataset, held: dict[str, float]) -> dict[str, float]:
    """Where other searches end, and a fit that begins where a fit of the first frames ended: reduced chi2."""
    ends = {
        s: float(fit(data, model, fixed=held, covariance="iid", strategy=s).chi2_reduced)
        for s in ("multistart", "cmaes_nlsq")
    }
    few = np.stack([data.read_block(k, slice(0, FIRST), slice(0, FIRST)) for k in range(len(data.phi))])
    early = fit(Dataset.from_arrays(few, data.phi, T_S[:FIRST], Q), model, fixed=held, covariance="iid")
    start = {n: v for n, v in early.theta.items() if n not in held}
    ends[f"first {FIRST} frames"] = float(fit(data, model, fixed=held, covariance="iid", start=start).chi2_reduced)
    return ends


def coverage_table(model: str, runs: list[dict[str, Any]]) -> Iterator[str]:
    """Coverage in percent with its binomial uncertainty, and scatter over error."""
    n = len(runs)
    converged = sum(r["status"] == "converged" for r in runs)
    yield f"**{model}**, {n} replicates, {converged} converged, median {np.median([r['seconds'] for r in runs]):.1f} s each\n"
    yield "| quantity | truth | mean | scatter | errors | median error | scatter / error | covered of 68 % | of 95 % |"
    yield "|---|--:|--:|--:|---|--:|--:|--:|--:|"
    for name in runs[0]["values"]:
        values, truth = np.array([r["values"][name] for r in runs]), true_value(model, name)
        for method in METHODS:
            errors = np.array([r["stderr"][method][name] for r in runs])
            covered = []
            for level in LEVELS:
                p = float(np.mean(np.abs(values - truth) <= norm.ppf(0.5 + level / 2) * errors))
                covered.append(f"{100 * p:.0f} ± {100 * np.sqrt(max(p * (1 - p), 0.5 / n) / n):.0f}")
            yield (
                f"| {name} | {truth:.4g} | {values.mean():.4g} ± {values.std(ddof=1) / np.sqrt(n):.1g} | {values.std(ddof=1):.2g} "
                f"| {method} | {np.median(errors):.2g} | {values.std(ddof=1) / np.sqrt(np.mean(errors**2)):.2f} | {' | '.join(covered)} |"
            )
    chi2, expected = (np.array([r[k] for r in runs]) for k in ("chi2", "chi2_expected"))
    yield f"\nχ²/N: mean {chi2.mean():.3f}, of speckle {expected.mean():.3f}. With a warning: {sum(bool(r['warnings']) for r in runs)}.\n"


def true_value(model: str, name: str) -> float:
    """Of a parameter or of the rate at a time."""
    theta = TRUTH[model]
    if name in theta:
        return theta[name]
    geometry = get_model(model).geometry(0.0, Q, None, float(T_S[1]))
    rate = get_model(model).rate_curves(np.array(list(theta.values())), T_S, geometry)[RATE[model]]
    seconds = float(name.partition("(")[2].removesuffix(" s)"))
    return float(rate[int(np.argmin(np.abs(T_S - seconds)))])


def search_table(model: str, runs: list[dict[str, Any]]) -> Iterator[str]:
    """Share of random truths whose minimum was found without a start, by how much happens during the series."""
    edges = {"heterodyne": (0, 10, 30, 100, np.inf), "kww": (0, 1, 5, 20, np.inf)}[model]
    what = {"heterodyne": "q · path [rad]", "kww": "∫Γ dt"}[model]
    yield f"**{model}**, random samples, median {np.median([r['seconds'] for r in runs]):.1f} s each\n"
    yield f"| {what} | samples | minimum of the truth found | a lower one |"
    yield "|---|--:|--:|--:|"
    for low, high in itertools.pairwise(edges):
        some = [r["chi2"] for r in runs if low <= r["size"] < high]
        if some:
            ratio = np.array([a / b for a, b in some])
            yield f"| {low:g} to {high:g} | {len(some)} | {np.sum(ratio < 1 + 1e-5)} | {np.sum(ratio < 1 - 1e-5)} |"
    for r in runs:
        if missed(r["chi2"]):
            numbers = ", ".join(f"{k} {v:.3g}" for k, v in r["theta"].items() if not k.endswith("_offset"))
            ways = ", ".join(f"{k} {v:.4g}" for k, v in r["other_ways"].items())
            yield f"\nmissed ({r['size']:.0f}; χ²/N {r['chi2'][0]:.4g}, minimum {r['chi2'][1]:.4g}; {ways}): {numbers}"
    yield ""


@styled
def pulls_figure(runs: dict[str, list[dict[str, Any]]]) -> Figure:
    """One map of each model, data above the diagonal and fit below, and its pulls against normal quantiles."""
    figure = new_figure(11.0, 8.0)
    axes = figure.subplots(2, 2, width_ratios=(1.0, 1.3))
    for (left, right), (model, found) in zip(axes, runs.items(), strict=True):
        theta = TRUTH[model]
        data = sample(model, theta, 0)
        shown = fit_maps(data, fit(data, model, start=theta, covariance="iid"), angles=[4])[0]
        both = np.where(np.triu(np.ones(shown.data.shape, dtype=bool)), shown.data, shown.model)
        low, high = np.nanpercentile(shown.model, [1, 100])
        extent = (0.0, float(T_S[-1]), 0.0, float(T_S[-1]))
        image = left.imshow(
            both, origin="lower", extent=extent, vmin=low, vmax=high, cmap="viridis", interpolation="none"
        )
        figure.colorbar(image, ax=left, label="$c_2$")
        left.set(xlabel="$t_2$ [s]", ylabel="$t_1$ [s]")
        left.set_title(f"{model}, φ = {data.phi[4]:g}°: data below, fit above the diagonal", loc="left", fontsize=9)
        n = len(found)
        expected = norm.ppf((np.arange(n) + 0.5) / n)
        for name in found[0]["values"]:
            for method, style in (("speckle", "-"), ("iid", ":")):
                pulls = [(r["values"][name] - true_value(model, name)) / r["stderr"][method][name] for r in found]
                color = {"speckle": None, "iid": "0.7"}[method]
                right.plot(
                    expected, np.sort(pulls), style, color=color, lw=1.2, label=name if method == "speckle" else None
                )
        right.plot([-3, 3], [-3, 3], "k--", lw=1.0)
        right.set(xlabel="normal quantile", ylabel="(fit − truth) / error", ylim=(-6, 6), xlim=(-2.8, 2.8))
        right.set_title(f"pulls of {n} replicates: speckle, and iid (gray, dotted)", loc="left", fontsize=9)
        right.legend(fontsize=8)
    return figure


def main() -> int:
    """Run what is missing in the folder, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=80)
    parser.add_argument("--truths", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("outputs/heterodyne"))
    parser.add_argument("--figure", type=Path, help="PNG; pulls.png in --out by default")
    args = parser.parse_args()
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {"replicate": {}, "search": {}}
    for kind, function, count in (("replicate", replicate, args.replicates), ("search", search, args.truths)):
        for model in TRUTH:
            for seed in range(count):
                target = args.out / f"{kind}_{model}_{seed:04d}.json"
                if not target.exists():
                    write_whole(target, json.dumps(function(model, seed)))
            files = sorted(args.out.glob(f"{kind}_{model}_*.json"))
            found[kind][model] = [json.loads(f.read_text()) for f in files]
    lines = [line for model, runs in found["replicate"].items() for line in coverage_table(model, runs)]
    lines += [line for model, runs in found["search"].items() for line in search_table(model, runs)]
    print("\n".join(lines))
    write_whole(args.out / "report.md", "\n".join(lines) + "\n")
    write_png(pulls_figure(found["replicate"]), args.figure or args.out / "pulls.png", dpi=90)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
