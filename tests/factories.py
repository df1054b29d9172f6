"""Finished fits made by hand, for tests of what only reads results (plots, tracking, tables)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray as xr

from homodyne.parameters import Parameter
from homodyne.result import AngleMap, Decision, FitResult, Memory, Status, Uncertainty
from homodyne.result.arviz import load_arviz
from homodyne.result.posterior import Posterior

PARAMETERS = (
    Parameter("D0", "angstrom^2 s^-1", 1e4, 1.0, 1e7, 1e4, "transport coefficient at 1 s"),
    Parameter("alpha", "", 0.0, -2.0, 2.0, 1.0, "exponent of J(t)"),
    Parameter("D_offset", "angstrom^2 s^-1", 0.0, -1e5, 1e5, 1e3, "constant part of J(t)"),
    Parameter("gamma_dot_0", "s^-1", 1e-3, 1e-8, 1.0, 1e-3, "shear rate at 1 s"),
    Parameter("beta", "", 0.0, -2.0, 2.0, 1.0, "exponent of the shear rate"),
    Parameter("gamma_dot_offset", "s^-1", 0.0, -0.1, 0.1, 1e-4, "constant part of the shear rate"),
    Parameter("phi0", "degree", 0.0, -90.0, 90.0, 10.0, "flow direction"),
)
TRUTH = {
    "D0": 8e3,
    "alpha": -0.4,
    "D_offset": 300.0,
    "gamma_dot_0": 2e-3,
    "beta": -0.2,
    "gamma_dot_offset": 1e-4,
    "phi0": 2.0,
}
ERRORS = (41.0, 0.004, 18.0, 2.1e-5, 0.006, 1.3e-5, 0.05)


def make_fit_result(n_phi: int = 4, status: Status = Status.CONVERGED, **replaced: Any) -> FitResult:
    """A laminar-flow fit with plausible numbers; any field of FitResult can be replaced by keyword."""
    names = [p.name for p in PARAMETERS]
    n_points = n_phi * 44_850
    edges = np.linspace(-6.0, 6.0, 122)
    centers = 0.5 * (edges[1:] + edges[:-1])
    counts = np.round(n_points * np.exp(-0.5 * centers**2) / np.sqrt(2 * np.pi) * (edges[1] - edges[0]))
    phi = np.linspace(-80.0, 82.0, n_phi)
    result = FitResult(
        model="laminar_flow",
        convention="physical",
        scaling="individual",
        strategy="stratified_ls",
        parameters=PARAMETERS,
        theta={n: 1.003 * TRUTH[n] for n in names},
        uncertainties={
            m: make_uncertainty(m, f, n_phi) for m, f in (("speckle", 1.0), ("jackknife", 1.3), ("iid", 0.3))
        },
        covariance_method="speckle",
        undetermined=(),
        at_bound=dict.fromkeys(names, False),
        fixed={},
        start={p.name: p.start for p in PARAMETERS},
        start_source="estimated from the data",
        phi=phi,
        q=np.full(n_phi, 0.0054),
        q_ref=np.nan,
        contrast=0.27 + 0.03 * np.sin(np.arange(n_phi)),
        offset=np.full(n_phi, 1.001),
        n_points=n_points,
        n_parameters=len(names) + 2 * n_phi,
        chi2_reduced=1.0021,
        chi2_per_angle=1.0 + 0.006 * np.cos(2.3 * np.arange(n_phi)),
        sigma=np.full(n_phi, 0.005),
        sigma_source="estimated from far-lag differences",
        condition=3.2e4,
        status=status,
        message=status.advice,
        curve_table=make_curves(),
        diagnostics=make_diagnostics(phi),
        findings=("Speckle noise: contrast 0.27, 2 counts per pixel and frame",),
        history=make_history(n_points),
        memory=make_memory(),
        decision=Decision(
            "stratified_ls", "0.45 M points fit into memory", 0.9, 47.0, 500_000, n_points, len(names) + 2 * n_phi
        ),
        residual_histogram=(edges, counts),
        provenance={"dataset": {"path": "demo_results.hdf", "q": 0.0054, "n_t": 300}, "versions": {"numpy": "2.0"}},
    )
    return dataclasses.replace(result, **replaced)


def make_uncertainty(method: str, factor: float, n_phi: int) -> Uncertainty:
    """Independent errors, ``factor`` times ERRORS."""
    root, null = np.diag(factor * np.array(ERRORS)), np.zeros((len(ERRORS), 0))
    dof = n_phi - 1.0 if method == "jackknife" else np.inf
    return Uncertainty(method, root, null, np.full(n_phi, factor * 2e-4), np.full(n_phi, factor * 5e-5), dof)


def make_curves() -> xr.Dataset:
    """Rates and integrals over 30 s with errors of a few percent."""
    t = 0.1 * np.arange(300)
    late = np.maximum(t, 0.05)
    rates = {"J": 8e3 * late**-0.4 + 300.0, "gamma_dot": 2e-3 * late**-0.2 + 1e-4}
    rates |= {"A": np.cumsum(rates["J"]) * 0.1, "G": np.cumsum(rates["gamma_dot"]) * 0.1}
    units = {"J": "angstrom^2 s^-1", "gamma_dot": "s^-1", "A": "angstrom^2", "G": "1"}
    columns = {}
    for name, values in rates.items():
        columns[name] = ("t", values, {"units": units[name]})
        for suffix, part in (("", 0.05), ("_speckle", 0.05), ("_jackknife", 0.07), ("_iid", 0.015)):
            columns[f"{name}_stderr{suffix}"] = ("t", part * values, {"units": units[name]})
    return xr.Dataset(columns, coords={"t": ("t", t, {"units": "s"})})


def make_diagnostics(phi: np.ndarray) -> xr.Dataset:
    """Noise and residuals as a good fit leaves them."""
    lag, age, n_phi = np.geomspace(0.1, 29.9, 20), np.linspace(0.5, 29.5, 24), len(phi)
    names = [p.name for p in PARAMETERS]
    rng = np.random.default_rng(3)
    by_both = 1e-3 * rng.normal(size=(24, 20))
    return xr.Dataset(
        {
            "counts": ("phi", np.full(n_phi, 2.0)),
            "pixels": ("phi", np.full(n_phi, 3e3)),
            "chi2_expected": ("phi", np.full(n_phi, 1.01)),
            "chi2_sd": ("phi", np.full(n_phi, 0.02)),
            "share": (("phi", "free_parameter"), np.full((n_phi, 7), 1.0 / n_phi)),
            "influence": (("phi", "free_parameter"), rng.normal(size=(n_phi, 7)) * ERRORS),
            "by_lag": ("lag", by_both.mean(0)),
            "by_age": ("age", by_both.mean(1)),
            "by_lag_and_age": (("age", "lag"), by_both),
        },
        coords={
            "phi": ("phi", phi, {"units": "degree"}),
            "free_parameter": names,
            "lag": ("lag", lag, {"units": "s"}),
            "age": ("age", age, {"units": "s"}),
        },
    )


def make_history(n_points: int = 448_500, n_subset: int = 9, n_full: int = 4) -> xr.Dataset:
    """A pass table: a warm-up on a tenth of the points with one rejected step, then passes over all points."""
    n = n_subset + n_full
    in_subset = np.arange(n) < n_subset
    points = np.where(in_subset, n_points // 10, n_points)
    excess = np.concatenate([30.0 * 0.06 ** np.arange(n_subset), 0.002 * 0.01 ** np.arange(n_full)])
    accepted = np.ones(n, dtype=np.int64)
    accepted[2:3], excess[2:3] = 0, 40.0
    for last in {n_subset - 1, n - 1} - {-1}:
        accepted[last], excess[last] = 1, 0.0
    gradient = np.concatenate([2e4 * 0.08 ** np.arange(n_subset), 30 * 0.004 ** np.arange(n_full)])
    seconds = points * 1e-8 + 0.001
    columns = {
        "stage": np.where(in_subset, "subset", "full"),
        "cost": 0.5 * points * 1.002 * (1.0 + excess),
        "chi2": 1.002 * (1.0 + excess),
        "gradient_norm": gradient,
        "step_norm": 0.3 * gradient,
        "radius": 1e-3 * 0.3 ** np.arange(n),
        "accepted": accepted,
        "points": points,
        "seconds": seconds,
        "points_per_second": points / seconds,
    }
    return xr.Dataset({name: ("pass", values) for name, values in columns.items()})


def make_memory(threshold_gb: float = 47.0) -> Memory:
    """Two seconds of resident memory that rises from 0.4 GB to 0.9 GB and falls again."""
    seconds = np.linspace(0.0, 2.0, 41)
    rss = 0.4 + 0.5 * np.clip(1.3 * np.sin(np.pi * seconds / 2.0), 0.0, 1.0)
    return Memory(threshold_gb / 0.75, threshold_gb, 1.0, float(rss.max()), 0.4, seconds, rss)


def make_maps(n_phi: int = 4, n_t: int = 120, noise: float = 0.005, seed: int = 0) -> list[AngleMap]:
    """Data and model of a mildly flowing sample, (n_t, n_t) per angle; J and the shear rate are constant here."""
    rng = np.random.default_rng(seed)
    t = 0.1 * (300 / n_t) * np.arange(n_t)
    lag = np.abs(t[:, None] - t[None, :])
    maps = []
    for k, phi in enumerate(np.linspace(-80.0, 82.0, n_phi)):
        phase = 0.5 * 0.0054 * 2e6 * np.cos(np.radians(2.0 - phi)) * 1.5e-3 * lag
        contrast = 0.27 + 0.03 * np.sin(k)
        model = 1.0 + contrast * np.exp(-(0.0054**2) * 5e3 * lag) * np.sinc(phase / np.pi) ** 2
        upper = np.triu(rng.normal(0.0, noise, (n_t, n_t)), 1)
        data = model + upper + upper.T
        np.fill_diagonal(model, np.nan)
        np.fill_diagonal(data, np.nan)
        maps.append(AngleMap(float(phi), t, data, model, noise, 0.0054))
    return maps


def make_posterior(n_chains: int = 4, n_draws: int = 150, n_phi: int = 4, seed: int = 0, **replaced: Any) -> Posterior:
    """Normal draws of D0, alpha and D_offset of a static model, correlated as they are in fits, all weights alike."""
    rng = np.random.default_rng(seed)
    names = ("D0", "alpha", "D_offset")
    center, error = np.array([TRUTH[n] for n in names]), np.array([41.0, 0.004, 18.0])
    covariance = np.outer(error, error) * np.array([[1.0, 0.5, -0.9], [0.5, 1.0, -0.7], [-0.9, -0.7, 1.0]])
    draws = center + rng.standard_normal((n_chains, n_draws, 3)) @ np.linalg.cholesky(covariance).T
    phi = np.linspace(-80.0, 82.0, n_phi)
    scaling = {
        "contrast": 0.25 + 1e-4 * rng.standard_normal((n_chains, n_draws, n_phi)),
        "offset": 1.0 + 1e-5 * rng.standard_normal((n_chains, n_draws, n_phi)),
    }
    idata = load_arviz().from_dict(
        {**{n: draws[..., i] for i, n in enumerate(names)}, **scaling},
        sample_stats={"lp": np.zeros((n_chains, n_draws)), "log_weight": np.zeros((n_chains, n_draws))},
        coords={"phi": phi},
        dims={"contrast": ["phi"], "offset": ["phi"]},
    )
    posterior = Posterior(
        idata=idata,
        names=names,
        units=("angstrom^2 s^-1", "", "angstrom^2 s^-1"),
        priors={n: f"uniform in [{p.lower:g}, {p.upper:g}]" for n, p in zip(names, PARAMETERS, strict=False)},
        method="nuts",
        likelihood="honest",
        model="static",
        convention="physical",
        scaling="individual",
        rhat=dict.fromkeys(names, 1.002),
        ess={"D0": 610.0, "alpha": 580.0, "D_offset": 599.0},
        divergences=0,
        summary_error=0.01,
        pareto_k=0.0,
        fit_theta={n: TRUTH[n] for n in names},
        fit_covariance=covariance,
        n_points=n_phi * 44_850,
        seconds=12.0,
        peak_gb=0.9,
        findings=("Priors: D0 uniform in [1, 1e+06]",),
        settings={
            "n_chains": n_chains,
            "n_samples": n_draws,
            "n_warmup": 100,
            "seed": 0,
            "n_workers": 2,
            "combiner": "",
        },
    )
    return dataclasses.replace(posterior, **replaced)


def with_log_weights(posterior: Posterior, log_weights: np.ndarray) -> Posterior:
    """The same draws with other weights, (chains, draws)."""
    idata = posterior.idata.copy()
    idata.sample_stats["log_weight"] = (("chain", "draw"), log_weights)
    return dataclasses.replace(posterior, idata=idata)
