"""Sampling from data to posterior, against quadrature over all pairs."""

import numpy as np
import pytest

import homodyne
from homodyne import InputError
from tests.optimization.posterior.brute import chi2
from tests.optimization.problems import problem

FIXED = {"alpha": -1.57, "D_offset": 3.05}


@pytest.fixture(scope="module")
def static():
    """One free parameter with a broad, skewed posterior, and its fit."""
    source, theta, _ = problem("static", n_phi=4, n_t=24, noise=0.1)
    fit = homodyne.fit(
        source, "static", strategy="stratified_ls", start={"D0": theta["D0"]}, fixed=FIXED, covariance="iid"
    )
    return source, fit


def by_quadrature(source, fit, prior=lambda d0: 1.0):
    """Mean and standard deviation of D0 under exp(-chi2 / 2 chi2_reduced) and a prior."""
    sd = fit.stderr["D0"]
    d0 = fit.theta["D0"] + np.linspace(-7, 9, 161) * sd
    d0 = d0[d0 > 1.0]
    values = np.array([chi2(source, [x, *FIXED.values()]) for x in d0])
    density = np.exp(-0.5 * (values - values.min()) / fit.chi2_reduced) * np.array([prior(x) for x in d0])
    mean = np.trapezoid(density * d0, d0) / np.trapezoid(density, d0)
    return mean, np.sqrt(np.trapezoid(density * (d0 - mean) ** 2, d0) / np.trapezoid(density, d0))


@pytest.mark.parametrize("narrow", [False, True])
def test_mean_and_width_are_those_of_the_exact_posterior(static, narrow):
    source, fit = static
    mean, sd = fit.theta["D0"] + fit.stderr["D0"], 0.8 * fit.stderr["D0"]
    prior = homodyne.Prior("normal", mean, sd) if narrow else homodyne.Prior()
    expected = by_quadrature(source, fit, lambda x: np.exp(-0.5 * ((x - mean) / sd) ** 2) if narrow else 1.0)
    found = homodyne.sample(
        source, "static", fit=fit, likelihood="iid", priors={"D0": prior}, n_chains=2, n_samples=2000, n_warmup=200
    )
    assert found.mean["D0"] == pytest.approx(expected[0], abs=0.1 * expected[1])
    assert found.sd["D0"] == pytest.approx(expected[1], rel=0.08)
    assert found.summary_error < 0.02
    assert "too narrow" in found.warnings[0]
    assert found.priors["D0"].startswith("normal" if narrow else "uniform")


def test_an_honest_posterior_has_the_errors_of_the_fit():
    """Where the model is nearly linear the posterior is the fit with its honest covariance."""
    source, theta, _ = problem("static", n_phi=6, n_t=24, noise=0.002)
    fit = homodyne.fit(
        source, "static", strategy="stratified_ls", start=theta, fixed={"D_offset": 3.05}, covariance="jackknife"
    )
    found = homodyne.sample(source, "static", fit=fit, n_chains=2, n_samples=1500, n_warmup=300)
    assert found.status == "converged"
    for name in ("D0", "alpha"):
        assert found.mean[name] == pytest.approx(fit.theta[name], abs=0.15 * fit.stderr[name])
        assert found.sd[name] == pytest.approx(fit.stderr[name], rel=0.1)
    assert abs(found.correlation.values[0, 1] - fit.correlation.values[0, 1]) < 0.05
    assert found.idata.posterior["contrast"].shape == (2, 1500, 6)


@pytest.mark.parametrize(
    ("given", "problem_text"),
    [
        ({"method": "vi"}, "method='vi' is unknown"),
        ({"likelihood": "tempered"}, "likelihood='tempered' is unknown"),
        ({"combiner": "mean"}, "combiner='mean' is unknown"),
        ({"n_chains": 1}, "n_chains=1 must be at least 2"),
        ({"n_samples": 10}, "n_samples=10 must be at least 50"),
        ({"n_workers": 0}, "n_workers=0 must be at least 1"),
        ({"start": {"D0": 1e4}}, "is a setting of the fit"),
        ({"model": "laminar_flow"}, "is not the model of the fit"),
        ({}, "needs honest errors"),
    ],
)
def test_bad_arguments_are_named(static, given, problem_text):
    source, fit = static
    with pytest.raises(InputError, match=problem_text):
        homodyne.sample(source, **{"model": "static", "fit": fit, **given})
