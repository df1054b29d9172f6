"""The summary against all pairs one by one, and the likelihood against what it claims to be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from homodyne.models import get_model
from homodyne.optimization.nlsq.finished import Finished, request_of
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.posterior.coordinates import make_coordinates
from homodyne.optimization.posterior.likelihood import log_likelihood, make_misfit
from homodyne.optimization.posterior.metric import honest_metric, iid_metric
from homodyne.optimization.posterior.priors import make_priors
from homodyne.optimization.posterior.summary import candidates, independent, summarize
from homodyne.optimization.posterior.sums import sums_of
from homodyne.optimization.posterior.target import Whole, fit_precision, make_shards
from homodyne.optimization.source import all_frames, subset
from homodyne.parameters import pack
from tests.optimization.posterior.brute import chi2
from tests.optimization.problems import problem, uniform_fit

MODEL = get_model("laminar_flow")


def fitted(mode="individual", missing=0.0, points=False, **settings):
    """Data, a fit of them and its request."""
    spread = 0.0 if mode in ("auto", "fourier") else 0.1
    source, theta, _ = problem(n_phi=6, n_t=36, noise=0.004, missing=missing, spread=spread)
    if points:
        rng = np.random.default_rng(5)
        given = rng.uniform(0.003, 0.006, source.c2.shape)
        given[:, 3, 9] = 0.0  # no weight
        source = dataclasses.replace(source, sigma_points=given, sigma=np.ones(6))
    options = NLSQOptions(fourier_order=1)
    result = uniform_fit(
        source, MODEL, mode, "stratified_ls", start=theta, covariance="jackknife", options=options, **settings
    )
    return source, result, Finished.of(request_of(source, MODEL, result, options), result)


def misfit_of(source, result, finished, spread=2.0, n=32, seed=1, min_lag=1, view=None):
    """From a summary with snapshots spread over a few standard errors."""
    root = result.uncertainties["iid"].root
    rng = np.random.default_rng(seed)
    snapshots = finished.best + spread * rng.normal(size=(n, root.shape[1])) @ root.T
    sums = dataclasses.replace(sums_of(finished), min_lag=min_lag)
    summary = summarize(sums, view or all_frames(source), snapshots)
    return make_misfit(sums, source, summary, finished.scaling.basis), root


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("individual", {}),
        ("individual", {"missing": 0.1}),
        ("individual", {"points": True}),
        ("individual", {"min_lag": 3}),
        ("auto", {}),
        ("fourier", {}),
        ("constant", {}),
    ],
)
def test_chi2_of_the_summary_is_that_of_all_pairs(mode, settings):
    source, result, finished = fitted(mode, **settings)
    min_lag = settings.get("min_lag", 1)
    misfit, root = misfit_of(source, result, finished, min_lag=min_lag)
    fixed = np.stack([result.contrast, result.offset], 1)
    rng = np.random.default_rng(9)
    here = chi2(source, finished.best, mode, fixed, min_lag)
    for _ in range(4):
        theta = finished.best + 1.5 * root @ rng.normal(size=root.shape[1])
        expected = chi2(source, theta, mode, fixed, min_lag) - here
        change = misfit.change(jnp.asarray(theta))
        assert float(change.chi2.sum()) == pytest.approx(expected, abs=0.05 + 5e-3 * abs(expected))


def test_a_summary_of_some_frames_is_that_of_their_pairs():
    source, result, finished = fitted(missing=0.1)
    view = subset(source, 16)
    assert 8 < view.n_frames < len(source.t)
    misfit, root = misfit_of(source, result, finished, view=view, min_lag=2)
    here = chi2(source, finished.best, min_lag=2, frames=view.frames)
    theta = finished.best + root @ np.random.default_rng(8).normal(size=root.shape[1])
    expected = chi2(source, theta, min_lag=2, frames=view.frames) - here
    # contrast and offset of the fit are not the best ones of these frames: its chi2 starts higher
    start = float(misfit.change(jnp.asarray(finished.best)).chi2.sum())
    assert float(misfit.change(jnp.asarray(theta)).chi2.sum()) - start == pytest.approx(expected, abs=0.05)


def test_snapshots_that_say_nothing_new_are_left_out():
    """Three directions and mixtures of them: eight are kept, the least there can be; where all matter, all are."""
    source, result, finished = fitted()
    sums = sums_of(finished)
    root = result.uncertainties["iid"].root
    rng = np.random.default_rng(3)
    few = finished.best + 1e-3 * rng.normal(size=(3, root.shape[1])) @ root.T  # so near that the model is linear
    mixed = finished.best + rng.normal(size=(29, 3)) @ (few - finished.best)
    both = np.concatenate([mixed[:5], few, mixed[5:]])
    chosen = independent(sums, all_frames(source), both, 10**9)
    assert len(chosen) == 8
    assert len(set(chosen.tolist())) == 8
    wide = finished.best + rng.normal(size=(32, root.shape[1])) @ root.T
    every = independent(sums, all_frames(source), wide, 10**12)
    assert sorted(every.tolist()) == list(range(32))


def test_hessian_and_scores_are_those_of_the_pass():
    source, result, finished = fitted()
    misfit, _ = misfit_of(source, result, finished)
    scale = np.sqrt(np.diag(finished.hessian()))
    np.testing.assert_allclose(
        misfit.hessian() / np.outer(scale, scale), finished.hessian() / np.outer(scale, scale), atol=1e-6
    )
    # the scores add up to nothing at the optimum
    assert np.abs(misfit.scores().sum(0) / scale).max() < 1e-2


def test_contrast_and_offset_follow_theta():
    source, result, finished = fitted()
    misfit, root = misfit_of(source, result, finished)
    theta = finished.best + root @ np.random.default_rng(2).normal(size=root.shape[1])
    found = misfit.scaling + misfit.change(jnp.asarray(theta)).scaling
    again = uniform_fit(
        source, MODEL, strategy="stratified_ls", fixed={p.name: x for p, x in zip(MODEL.parameters, theta, strict=True)},
        covariance="iid",
    )  # fmt: skip
    np.testing.assert_allclose(found[:, 0], again.contrast, rtol=1e-4)
    np.testing.assert_allclose(found[:, 1], again.offset, rtol=1e-5)


def test_curvature_of_the_honest_likelihood_is_the_inverse_covariance():
    """Second differences at a tenth of an honest error, in the directions of the errors, where the model is nearly linear."""
    source, result, finished = fitted()
    rng = np.random.default_rng(4)
    iid = result.uncertainties["iid"].root
    # any covariance will do: the iid one turned and stretched
    root = 0.5 * iid @ (np.eye(7) + 0.4 * rng.normal(size=(7, 7)))
    misfit, _ = misfit_of(source, result, finished)
    metric = honest_metric(finished.hessian(), root, np.ones(7, dtype=bool))
    expected = np.linalg.inv(root @ root.T)
    u, w, _ = np.linalg.svd(root)
    for column in 0.1 * root.T:
        theta = [jnp.asarray(finished.best + sign * column) for sign in (1, -1)]
        both = sum(float(log_likelihood(misfit, metric, x)) for x in theta)
        assert both == pytest.approx(-column @ expected @ column, rel=0.05)
    assert u.shape == (7, 7)
    assert w.min() > 0


def test_a_parameter_at_its_bound_takes_the_typical_ratio():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 3))
    hessian, moved = a.T @ a, np.array([True, True, False])
    # errors twice as large as independent ones, in every direction
    root = np.zeros((3, 2))
    root[:2] = 2.0 * np.linalg.cholesky(np.linalg.inv(hessian[:2, :2]))
    np.testing.assert_allclose(honest_metric(hessian, root, moved).honest, 0.25 * hessian, rtol=1e-10)


def test_shards_add_up_to_the_whole():
    """Less the others, which every shard holds as the normal distribution of the fit; exactly so with iid errors."""
    source, result, finished = fitted()
    misfit, _ = misfit_of(source, result, finished)
    metric = iid_metric(finished.hessian(), result.chi2_reduced)
    priors = make_priors({"alpha": {"kind": "normal", "mean": -0.4, "sd": 0.1}}, result.parameters)
    whole = Whole(misfit, metric, make_coordinates(result.parameters, priors, finished.best, metric))
    shards = make_shards(whole, [np.array([0, 2, 4]), np.array([1, 3, 5])])
    zero, rng = jnp.zeros(7), np.random.default_rng(3)
    for _ in range(3):
        z = jnp.asarray(rng.normal(size=7))
        of_whole = float(whole.log_density(z) - whole.log_density(zero))
        of_shards = sum(float(shard.log_density(z) - shard.log_density(zero)) for shard in shards)
        others = float(-0.5 * z @ fit_precision(whole) @ z)
        assert of_shards - others == pytest.approx(of_whole, abs=0.02)


def test_infeasible_points_have_no_density():
    source, result, finished = fitted()
    misfit, _ = misfit_of(source, result, finished)
    metric = iid_metric(finished.hessian(), 1.0)
    theta = dict(result.theta) | {"D_offset": -9e4}
    assert float(log_likelihood(misfit, metric, jnp.asarray(pack(theta, result.parameters)))) == -np.inf


def test_gradients_are_finite_at_the_fit():
    source, result, finished = fitted()
    misfit, _ = misfit_of(source, result, finished)
    metric = iid_metric(finished.hessian(), 1.0)
    gradient = jax.grad(lambda x: log_likelihood(misfit, metric, x))(jnp.asarray(finished.best))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("n", "min_lag"), [(4, 1), (36, 1), (36, 5), (1000, 2)])
def test_candidates_are_pairs_that_are_fitted(n, min_lag):
    rows, cols = candidates(n, min_lag)
    assert (cols - rows >= min_lag).all()
    assert rows.min() == 0
    assert cols.max() == n - 1
    assert len(set(zip(rows.tolist(), cols.tolist(), strict=True))) == len(rows)
