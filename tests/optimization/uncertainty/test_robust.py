"""Errors of robust fits: what noise makes of the loss's terms, which pairs count, and a sandwich checked by repetition."""

import numpy as np
import pytest
from scipy.special import ndtr

import homodyne
from homodyne import NLSQOptions
from homodyne.models import get_model
from homodyne.optimization.loss import TERMS, Loss
from homodyne.optimization.uncertainty.robust import Counted, expected_terms, pair_variance, scatter
from homodyne.simulate import speckle_maps
from tests.optimization.problems import Arrays, problem, uniform_fit
from tests.reference import DT, GAP, STATIC, Q, g1_squared

LOSSES = ("soft_l1", "huber", "cauchy")


@pytest.mark.parametrize("contrast", [0.25, 0.4])
def test_variance_of_a_pair_is_that_of_drawn_pixels(contrast):
    """delta_i delta_j - contrast s (delta_i + delta_j) of equal modes and a weaker one, drawn in NumPy."""
    rng, n, g, nu = np.random.default_rng(1), 1_000_000, 0.8, 0.5
    sizes = {0.25: [0.25] * 4, 0.4: None}[contrast]
    if sizes is None:  # two equal modes a and one of 1 - 2 a
        a = (1 + np.sqrt((3 * contrast - 1) / 2)) / 3
        sizes = [a, a, 1 - 2 * a]
    light = np.zeros((2, n))
    for w in sizes:
        one, two = (rng.normal(size=(2, n)) / np.sqrt(2) for _ in range(2))
        light += w * np.stack([(one**2).sum(0), ((g * one + np.sqrt(1 - g**2) * two) ** 2).sum(0)])
    delta = light - 1 + rng.choice([-1, 1], light.shape) * np.sqrt(nu * light)
    s = g**2
    form = delta[0] * delta[1] - contrast * s * (delta[0] + delta[1])
    assert pair_variance(np.array(s), contrast, nu) == pytest.approx(form.var(), rel=0.02)


def test_expected_terms_against_closed_forms_and_draws():
    variance = np.array([0.4, 1.0, 2.5, 9.0])
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, 200_000)) * np.sqrt(variance)[:, None]
    for name in LOSSES:
        loss = Loss(name, 2.0)
        found = expected_terms(loss, variance)
        np.testing.assert_allclose(found[:3], np.asarray(loss.terms(z)).mean(2)[:3], rtol=0.02)
        np.testing.assert_allclose(found[TERMS.index("squares")], variance, rtol=1e-3)
        aside = 2 * ndtr(-loss.limit / np.sqrt(variance))
        np.testing.assert_allclose(found[TERMS.index("aside")], aside, rtol=0.02, atol=1e-4)
    # of huber in closed form: P(|z| < c) is E psi', E psi**2 = E z**2 inside + c**2 outside
    found, x = expected_terms(Loss("huber", 2.0), variance), 2.0 / np.sqrt(variance)
    inside = 2 * ndtr(x) - 1
    assert np.all(np.abs(found[TERMS.index("curvature")] - inside) < 0.01)
    inner = variance * (inside - 2 * x * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found[TERMS.index("psi2")], inner + 4 * (1 - inside), rtol=5e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_counted_source_masks_what_is_too_far_and_weighs_the_rest(weighted):
    source, theta, contrast = problem("static", n_phi=2, noise=0.01)
    c2 = source.c2.copy()
    c2[0, 3, 20] += 1.0
    c2[1, 5, 5] = 90.0
    points = np.random.default_rng(3).uniform(0.5, 2.0, c2.shape) * 0.01 if weighted else None
    source = Arrays(c2, source.phi, source.t, np.ones(2) if weighted else source.sigma, sigma_points=points)
    pairs, loss = np.stack([contrast, np.full(2, 1.05)], axis=1), Loss("soft_l1", 2.0)
    counted = Counted(
        source, get_model("static"), np.array(list(theta.values())), pairs, loss, np.full(2, 3.0 if weighted else 1.0)
    )
    whole = slice(0, 40)
    block = counted.read_block(0, whole, whole)
    assert np.isnan(block[3, 20])
    assert np.isfinite(block[np.triu_indices(40, 1)]).sum() == 40 * 39 / 2 - 1
    assert np.isnan(counted.read_block(1, whole, whole)[5, 5])
    rows, cols = slice(2, 9), slice(7, 30)
    s = g1_squared(list(STATIC.values()), source.t, source.phi[1]).real[rows, cols]
    unit = points[1, rows, cols] if weighted else source.sigma[1]
    z = (c2[1, rows, cols] - 1.05 - contrast[1] * s) / unit
    own = unit if weighted else 1.0
    above = np.arange(7, 30)[None, :] > np.arange(2, 9)[:, None]
    curvature = np.maximum((1 + z**2 / 4) ** -1.5, 0.01 * (1 + z**2 / 4) ** -0.5)
    found = counted.read_sigma(1, rows, cols)
    np.testing.assert_allclose(found[above], (own / np.sqrt(curvature))[above], rtol=1e-6)


def test_scatter_is_a_standard_deviation_that_outliers_do_not_move():
    z = np.random.default_rng(0).normal(size=(2, 100, 100)) * np.array([1.0, 3.0])[:, None, None]
    z[:, :3] = np.nan
    z[:, 50, :40] = 1e3
    np.testing.assert_allclose(scatter(z), [1.0, 3.0], rtol=0.04)


PHI, T = np.array([-70.0, 0.0, 50.0]), DT * np.arange(40)
THETA = {"D0": 2e4, "alpha": -0.4, "D_offset": 0.0}


def measured(seed, share):
    """Speckle of a static sample in which spikes lie in a part of the pairs at late times."""
    c2 = speckle_maps("static", THETA, PHI, T, Q, GAP, contrast=0.3, counts=2.0, pixels=1000, seed=seed)
    rng = np.random.default_rng([seed, 1])
    hit = np.triu(rng.random(c2.shape) < share, 1)
    hit[:, :20] = False
    spikes = np.where(hit, rng.exponential(0.6, c2.shape), 0.0)
    return c2 + spikes + np.swapaxes(spikes, 1, 2)


def fitted(c2, loss):
    ds = homodyne.Dataset.from_arrays(c2, PHI, T, Q, GAP)
    return uniform_fit(
        ds, "static", strategy="stratified_ls", start=THETA, fixed={"D_offset": 0.0}, options=NLSQOptions(loss=loss)
    )


def test_errors_are_the_scatter_of_repeated_measurements_with_outliers():
    names = ("D0", "alpha")
    truth = np.array([THETA[n] for n in names])
    fits = {
        loss: [fitted(measured(seed, 0.1), loss) for seed in range(n)] for loss, n in (("linear", 6), ("cauchy", 18))
    }
    values = {loss: np.array([[f.theta[n] for n in names] for f in some]) for loss, some in fits.items()}
    errors = np.array([[f.stderr[n] for n in names] for f in fits["cauchy"]])
    pull = (values["cauchy"] - truth) / errors
    # 18 of them know a mean to 0.24 and a scatter to 17 percent; the whole study is in experiments/robust
    assert np.all(np.abs(pull.mean(0)) < 0.8)
    assert np.all((pull.std(0) > 0.6) & (pull.std(0) < 1.4))
    away = {loss: np.sqrt(((x - truth) ** 2).mean(0)) for loss, x in values.items()}
    assert np.all(away["linear"] > 2 * away["cauchy"])
    assert not [t for f in fits["cauchy"] for t in f.findings if "misses something" in t]


def test_without_outliers_losses_and_least_squares_agree():
    c2 = measured(3, 0.0)
    linear = fitted(c2, "linear")
    for loss in ("huber", "cauchy"):
        robust = fitted(c2, loss)
        for name in ("D0", "alpha"):
            assert abs(robust.theta[name] - linear.theta[name]) < 0.4 * linear.stderr[name]
            assert robust.stderr[name] == pytest.approx(linear.stderr[name], rel=0.1)
        goodness = [t for t in robust.findings if t.startswith("chi2/N without the pairs set aside")]
        assert "what the noise of speckle makes" in goodness[0]


def test_the_price_of_a_loss_on_normal_noise():
    """5 percent in variance for Huber's loss at 1.345 sigma (Huber 1964)."""
    source, truth, _ = problem("static", n_phi=5, noise=0.01)
    settings = {
        "strategy": "stratified_ls",
        "start": truth,
        "covariance": "iid",
        "fixed": {"D_offset": truth["D_offset"]},
    }
    linear, robust = (
        uniform_fit(source, "static", options=NLSQOptions(loss=loss, loss_scale=1.345), **settings)
        for loss in ("linear", "huber")
    )
    for name in ("D0", "alpha"):
        assert robust.stderr[name] / linear.stderr[name] == pytest.approx(1.0526**0.5, rel=0.02)
