"""Heterodyne and KWW through every strategy: pairwise constant channels, a phase, and no factored exponential."""

import numpy as np
import pytest

import homodyne
from homodyne.models import get_model
from homodyne.optimization.nlsq.hybrid_streaming import streamed_pass
from homodyne.optimization.nlsq.stratified_ls import full_batch_pass
from homodyne.optimization.source import all_frames
from tests.optimization.problems import Arrays, uniform_fit
from tests.reference import DT, HETERODYNE, KWW, heterodyne, jacobian, kww

CASES = {"heterodyne": (heterodyne, HETERODYNE), "kww": (kww, KWW)}
PHI, T = np.array([-60.0, 5.0, 70.0]), DT * np.arange(40)
CONTRAST = np.array([0.3, 0.25, 0.2])
REFERENCE = np.tile([0.28, 1.04], (3, 1))


def source(name, noise=0.005, missing=0.02):
    """Data of the NumPy reference; contrasts that differ between angles."""
    of_pairs, theta = CASES[name]
    rng, n = np.random.default_rng(4), len(T)
    c2 = np.empty((3, n, n))
    for k, phi in enumerate(PHI):
        upper = np.triu(rng.normal(0, noise, (n, n)), 1)
        c2[k] = 1.05 + CONTRAST[k] * of_pairs(list(theta.values()), T, phi) + upper + upper.T
        np.fill_diagonal(c2[k], 7.0)
    c2[rng.random(c2.shape) < missing] = np.nan
    return Arrays(c2, PHI, T, np.full(3, noise), gap=None)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("strategy", ["stratified_ls", "hybrid_streaming"])
def test_sums_equal_the_dense_reference(name, strategy):
    """Gram matrices of [s, 1, ds/dtheta, r] away from the truth, against complex steps of the written equations."""
    of_pairs, theta = CASES[name]
    src, model = source(name), get_model(name)
    at = 1.1 * np.array(list(theta.values()))
    view = all_frames(src)
    run = {
        "stratified_ls": lambda: full_batch_pass(model, view, 1),
        "hybrid_streaming": lambda: streamed_pass(model, view, 1, 400),
    }[strategy]()
    sums = run(at, REFERENCE)
    i, j = np.triu_indices(len(T), 1)
    for k, phi in enumerate(PHI):
        s, ds = jacobian(at, T, phi, s=of_pairs)
        y = src.c2[k][i, j]
        rows = np.column_stack([s, np.ones_like(s), ds, y - 1.04 - 0.28 * s])[np.isfinite(y)]
        gram, found = rows.T @ rows, sums.factors[k].T @ sums.factors[k]
        scale = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
        np.testing.assert_allclose(
            found / np.where(scale > 0, scale, 1), gram / np.where(scale > 0, scale, 1), atol=1e-11
        )
        assert sums.counts[k] == np.isfinite(y).sum()


@pytest.mark.parametrize("name", CASES)
def test_strategies_find_the_same_minimum_and_the_truth_without_a_start(name):
    """Streamed and full batch end at the same point: the minimum is one, and the last steps are tiny."""
    theta, src = CASES[name][1], source(name)
    options = homodyne.NLSQOptions(xtol=1e-9)
    held = {n: theta[n] for n in ("D_offset", "v_offset", "Gamma_offset") if n in theta}
    given = {"fixed": held, "covariance": "iid", "options": options}
    streamed = uniform_fit(src, name, strategy="hybrid_streaming", **given)
    start = {n: v for n, v in streamed.theta.items() if n not in held}  # no second search
    full = uniform_fit(src, name, strategy="stratified_ls", start=start, **given)
    assert full.converged
    assert streamed.converged
    for parameter, value in theta.items():
        error = full.stderr[parameter]
        assert streamed.theta[parameter] == pytest.approx(full.theta[parameter], rel=1e-10, abs=1e-7 * error)
        assert abs(full.theta[parameter] - value) <= 4.5 * error
    np.testing.assert_allclose(full.contrast, CONTRAST, atol=0.03)
