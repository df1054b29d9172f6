"""Profiles, tests between models and posteriors of whitened fits, against generalized least squares over all pairs."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import chi2

import homodyne
from homodyne.errors import InputError
from homodyne.result import FitResult
from homodyne.simulate import speckle_maps
from tests.optimization.whitened.test_weights import wishart
from tests.reference import integral

THETA = {"D0": 8e3, "alpha": -0.4, "D_offset": 0.0}
PHI, T, Q = np.array([0.0, 40.0, 90.0]), 0.2 * np.arange(30), 0.0054
ROW, COL = np.triu_indices(len(T), 1)


@pytest.fixture(scope="module")
def data():
    c2 = speckle_maps("static", THETA, PHI, T, Q, contrast=0.3, counts=5.0, pixels=1500, seed=6)
    return homodyne.Dataset.from_arrays(c2, PHI, T, Q)


def fit(data, **settings):
    held = {"D_offset": 0.0, **settings.pop("fixed", {})}
    start = {n: v for n, v in THETA.items() if n not in held}
    return homodyne.fit(data, "static", start=start, fixed=held, weighting="whitened", **settings)


@pytest.fixture(scope="module")
def one(data):
    """D0 alone."""
    return fit(data, fixed={"alpha": -0.4})


@pytest.fixture(scope="module")
def two(data):
    """D0 and alpha."""
    return fit(data)


def signal(d0, alpha):
    a = integral(d0, alpha, 0.0, T, 0.2)
    return np.exp(-(Q**2) * (a[COL] - a[ROW]))


def least_cost(data, result):
    """(D0, alpha) -> r^T W r with contrast and offset of every sector solved for; W of the record, as a matrix."""
    made_of = result.weighting.made_of
    weights = []
    for k in range(len(PHI)):
        contrast, nu = made_of["contrast"][k], made_of["nu"][k]
        sigma = (nu + result.weighting.ridge * contrast) * np.eye(len(T))
        sigma[ROW, COL] += contrast * signal(*made_of["theta"][:2])
        sigma = np.triu(sigma) + np.triu(sigma, 1).T + contrast * np.eye(len(T))
        weights.append(np.linalg.inv(wishart(sigma)) * made_of["pixels"][k] / made_of["offset"][k] ** 2)

    def cost(d0, alpha):
        s, total = signal(d0, alpha), 0.0
        x = np.column_stack([s, np.ones_like(s)])
        for k, w in enumerate(weights):
            y = data.read_block(k, slice(0, len(T)), slice(0, len(T)))[ROW, COL]
            r = y - x @ np.linalg.solve(x.T @ w @ x, x.T @ w @ y)
            total += r @ w @ r
        return total

    return cost


def test_profile_is_the_rise_of_the_whitened_cost(data, one):
    cost = least_cost(data, one)
    found = one.profile("D0")
    here, step = one.theta["D0"], 1e-3 * one.theta["D0"]
    best = cost(here, -0.4)
    curvature = (cost(here + step, -0.4) + cost(here - step, -0.4) - 2 * best) / step**2
    unit = one.stderr["D0"] ** 2 * curvature / 2
    assert 0.5 < unit < 2.0  # the weights are nearly the inverse of the noise
    expected = [(cost(v, -0.4) - best) / unit for v in found.values]
    np.testing.assert_allclose(found.statistic, expected, rtol=0.01, atol=1e-3)
    low, high = found.interval(0.6827)
    assert high - low == pytest.approx(2 * one.stderr["D0"], rel=0.05)


def test_profile_of_a_fit_read_from_a_file(data, one, tmp_path):
    again = FitResult.load(one.save(tmp_path / "fit.nc"))
    np.testing.assert_array_equal(homodyne.profile(data, again, "D0").statistic, one.profile("D0").statistic)


def test_one_parameter_more_is_tested_with_the_weights_of_the_larger_fit(data, one, two):
    cost = least_cost(data, two)
    d0 = np.linspace(0.8, 1.2, 401) * one.theta["D0"]
    drop = min(cost(x, -0.4) for x in d0) - cost(two.theta["D0"], two.theta["alpha"])
    (test,) = homodyne.compare([one, two]).tests
    assert test.restricted == ("alpha",)
    assert test.drop == pytest.approx(drop, rel=0.02, abs=0.01)
    # nearly that of independent points, for which weights are made
    assert test.p_value == pytest.approx(chi2.sf(drop, 1), abs=0.1)
    assert not test.refuted
    # a smaller fit with other weights says the same, a wrong one is refuted
    uniform = homodyne.fit(data, "static", start={"D0": 8e3}, fixed=one.fixed, weighting="uniform")
    assert homodyne.compare([uniform, two]).tests[0].drop == pytest.approx(test.drop, rel=0.01, abs=1e-4)
    wrong = fit(data, fixed={"alpha": -0.1})
    assert homodyne.compare([wrong, two]).tests[0].refuted
    with pytest.raises(InputError, match="the fits were read from files"):
        homodyne.compare([dataclasses.replace(x, live=None) for x in (one, two)])
    assert homodyne.compare([dataclasses.replace(x, live=None) for x in (one, two)], dataset=data).tests[0] == test


def test_posterior_is_that_of_the_whitened_cost(data, one):
    cost = least_cost(data, one)
    d0 = one.theta["D0"] + np.linspace(-6, 6, 241) * one.stderr["D0"]
    values = np.array([cost(x, -0.4) for x in d0])
    step = one.stderr["D0"]
    curvature = (cost(one.theta["D0"] + step, -0.4) + cost(one.theta["D0"] - step, -0.4) - 2 * values.min()) / step**2
    density = np.exp(-0.5 * (values - values.min()) / (step**2 * curvature / 2))
    mean = np.trapezoid(density * d0, d0) / np.trapezoid(density, d0)
    sd = np.sqrt(np.trapezoid(density * (d0 - mean) ** 2, d0) / np.trapezoid(density, d0))
    found = homodyne.sample(data, "static", fit=one, n_chains=2, n_samples=2000, n_warmup=300)
    assert found.status == "converged"
    assert found.summary_error < 0.02
    assert found.mean["D0"] == pytest.approx(mean, abs=0.1 * sd)
    assert found.sd["D0"] == pytest.approx(sd, rel=0.08)
    with pytest.raises(InputError, match="likelihood='iid' counts pairs as independent"):
        homodyne.sample(data, "static", fit=one, likelihood="iid")
