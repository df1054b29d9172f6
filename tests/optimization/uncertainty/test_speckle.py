"""Speckle errors: a sandwich of scores and design, and free of what must not matter."""

import dataclasses

import numpy as np
import pytest

from homodyne.models import get_model
from homodyne.optimization.uncertainty.noise import estimate_noise
from homodyne.optimization.uncertainty.scores import Nodes, Scores, draw_scores
from homodyne.optimization.uncertainty.speckle import speckle_errors
from homodyne.simulate import speckle_maps
from tests.optimization.problems import Arrays, problem, uniform_fit
from tests.optimization.uncertainty import theory
from tests.optimization.uncertainty.dense import Dense, solve
from tests.reference import DT, FLOW, GAP, Q, g1_squared

THETA = list(FLOW.values())
MODEL = get_model("laminar_flow")
PHI = np.array([-70.0, -30.0, 5.0, 40.0, 85.0])
T = DT * np.arange(40)


@pytest.fixture(scope="module")
def light():
    """Five sectors of simulated speckle."""
    c2 = speckle_maps(MODEL, FLOW, PHI, T, Q, GAP, contrast=0.25, counts=2.0, pixels=1000)
    return Arrays(c2, PHI, T, np.linspace(0.02, 0.03, 5))


def errors(source, mode="individual", theta=THETA, counts=None, pixels=None):
    """The whole way from data to speckle errors, at ``theta`` instead of a fit."""
    dense = Dense(source, theta, mode)
    noise = estimate_noise(source, MODEL, np.array(theta), dense.design.at.scaling, counts, pixels)
    scores = draw_scores(MODEL, np.array(theta), source, noise, 1)
    return speckle_errors(dense.design, scores, source.sigma)


def stderr(found):
    return np.sqrt((found.errors.root**2).sum(1))


@pytest.mark.parametrize("mode", ["individual", "auto", "fourier", "constant"])
@pytest.mark.parametrize("moved", [np.ones(7, dtype=bool), np.arange(7) != 2], ids=["all", "one fixed"])
def test_equals_the_sandwich_of_the_joint_problem(mode, moved):
    """H^-1 (sum_k J_k^T W C_k W J_k) H^-1 with dense J of theta and scaling, for any covariance C of the scores."""
    source = problem(n_phi=5, noise=0.002)[0]
    source = dataclasses.replace(source, sigma=np.array([0.002, 0.003, 0.001, 0.002, 0.004]))
    dense = Dense(source, THETA, mode, moved)
    rng = np.random.default_rng(1)
    sizes = np.concatenate([[1.0, 1.0], 1 / np.abs(THETA)])
    roots = [rng.normal(size=(30, 9)) * rng.uniform(0.5, 2, 9) * sizes for _ in range(5)]
    chi2 = rng.uniform(1, 2, 5)
    found = speckle_errors(
        dense.design, Scores(roots, chi2, chi2 / 10, Nodes(np.arange(40), np.ones(40))), source.sigma
    )

    b = dense.a.shape[1] - dense.f
    scale = np.linalg.norm(dense.a, axis=0)
    half = np.linalg.inv(np.linalg.qr(dense.a / scale, mode="r")) / scale[:, None]
    inverse = half @ half.T
    moving, absorbed = [], []
    for k, root in enumerate(roots):
        # columns of J of this angle from X = [s, 1, ds/dtheta]
        columns = np.zeros((9, dense.f + b))
        columns[2:][moved, np.arange(dense.f)] = dense.pairs[k, 0]
        columns[:2, dense.f :] = dense.terms[k]
        scores = root @ columns / source.sigma[k] ** 2
        moving.append(scores @ inverse)
        absorbed.append(np.sum(moving[-1] * scores))
    covariance = sum(x.T @ x for x in moving)
    expected = covariance[: dense.f, : dense.f]
    d = np.sqrt(np.diag(expected))
    root = found.errors.root[moved]
    np.testing.assert_allclose(root @ root.T / np.outer(d, d), expected / np.outer(d, d), atol=1e-6)
    assert np.all(found.errors.root[~moved] == 0)
    scaling = np.einsum("kib,bc,kic->ki", dense.terms, covariance[dense.f :, dense.f :], dense.terms)
    np.testing.assert_allclose(found.errors.scaling, scaling, rtol=1e-6, atol=1e-30)
    shares = np.array([(x[:, : dense.f] ** 2).sum(0) for x in moving])
    np.testing.assert_allclose(found.shares, shares / shares.sum(0), rtol=1e-5)
    np.testing.assert_allclose(found.chi2_mean, chi2 / source.sigma**2 - absorbed, rtol=1e-6, atol=1e-6 * max(absorbed))
    np.testing.assert_allclose(found.chi2_sd, chi2 / 10 / source.sigma**2)
    assert np.isinf(found.errors.dof)


def test_the_scatter_of_estimates_is_the_error():
    """Gauss-Newton steps from the truth to each of 100 measurements, drawn in NumPy, scatter by the errors of one of them."""
    n, pixels, phi, t = 100, 600, np.array([-60.0, -10.0, 30.0, 75.0]), DT * np.arange(20)
    free = np.array([True, True, False, True, True, False, True])
    rng = np.random.default_rng(2)
    c2 = np.empty((n, 4, 20, 20))
    for k, angle in enumerate(phi):
        light = theory.traces(theory.field(THETA, t, angle), 4, 0.25, n * pixels, rng).reshape(20, n, pixels)
        light /= light.mean(2, keepdims=True)
        c2[:, k] = np.einsum("inp,jnp->nij", light, light, optimize=True) / pixels
    expected = 1 + 0.25 * np.stack([g1_squared(THETA, t, p).real for p in phi])
    dense = Dense(Arrays(expected, phi, t, np.ones(4)), THETA, moved=free)
    i, j = np.triu_indices(20, 1)
    away = (c2 - expected)[:, :, i, j].reshape(n, -1)
    scatter = solve(dense.a, away.T)[: dense.f].std(1)
    source = Arrays(c2[0], phi, t, np.ones(4))
    noise = estimate_noise(source, MODEL, np.array(THETA), np.tile([0.25, 1.0], (4, 1)), 4.0, pixels)
    found = speckle_errors(dense.design, draw_scores(MODEL, np.array(THETA), source, noise, 1), source.sigma)
    # 100 steps know a standard deviation to 7 percent, 1024 traces to a few
    np.testing.assert_allclose(stderr(found)[free], scatter, rtol=0.28)
    iid = np.sqrt(np.diag(np.linalg.inv(dense.a.T @ dense.a)) * np.var(away))[: dense.f]
    assert np.median(scatter / iid) > 1.3  # which is why


def test_sigma_of_the_fit_is_no_part_of_the_error(light):
    one, other = errors(light), errors(dataclasses.replace(light, sigma=7.0 * light.sigma))
    np.testing.assert_allclose(stderr(other), stderr(one), rtol=1e-6)
    np.testing.assert_allclose(other.errors.scaling, one.errors.scaling, rtol=1e-6)
    np.testing.assert_allclose(other.shares, one.shares, rtol=1e-6)
    np.testing.assert_allclose(other.chi2_mean, one.chi2_mean / 49, rtol=1e-6)


@pytest.mark.parametrize("mode", ["individual", "auto", "fourier"])
def test_the_unit_of_c2_is_no_part_of_the_error(light, mode):
    one, other = errors(light, mode), errors(dataclasses.replace(light, c2=1.1 * light.c2), mode)
    np.testing.assert_allclose(stderr(other), stderr(one), rtol=1e-6)
    np.testing.assert_allclose(other.errors.scaling, 1.21 * one.errors.scaling, rtol=1e-6)


def test_the_unit_of_length_is_no_part_of_the_error(light):
    """Everything in units of 2 angstrom: q twice, the gap half, D a quarter."""
    units = np.array([0.25, 1.0, 0.25, 1.0, 1.0, 1.0, 1.0])
    other = errors(dataclasses.replace(light, q=2 * Q, gap=GAP / 2), theta=list(THETA * units))
    np.testing.assert_allclose(stderr(other), stderr(errors(light)) * units, rtol=1e-5)


def test_the_order_of_angles_is_no_part_of_the_error(light):
    """But for the random numbers of an angle: 1024 traces know an error to a few percent."""
    order = np.array([3, 0, 4, 2, 1])
    turned = dataclasses.replace(light, c2=light.c2[order], phi=PHI[order], sigma=light.sigma[order])
    one, other = errors(light), errors(turned)
    np.testing.assert_allclose(stderr(other), stderr(one), rtol=0.12)
    np.testing.assert_allclose(other.shares, one.shares[order], atol=0.1)


def test_more_light_makes_smaller_errors(light):
    some = stderr(errors(light, counts=2.0, pixels=1000))
    np.testing.assert_allclose(stderr(errors(light, counts=2.0, pixels=4000)), some / 2, rtol=1e-6)
    assert np.all(stderr(errors(light, counts=20.0, pixels=1000)) < some)


@pytest.mark.parametrize("mode", ["individual", "auto", "fourier", "constant"])
def test_every_scaling_mode_gives_errors(light, mode):
    found = errors(light, mode)
    assert np.all(np.isfinite(stderr(found)) & (stderr(found) > 0))
    assert np.all(np.isfinite(found.errors.scaling))
    assert np.all((found.errors.scaling > 0) == (mode != "constant"))
    np.testing.assert_allclose(found.shares.sum(0), 1.0)
    # what the noise makes of chi2, less what the fit takes out
    assert np.all((found.chi2_mean > 0) & (found.chi2_sd > 0))


def test_the_same_sigma_per_angle_and_per_point(light):
    """Two ways through the package: weights of a whole angle, and weights of every point."""
    free = {"fixed": {"D_offset": 300.0, "gamma_dot_offset": 1e-4}, "start": FLOW}
    one = uniform_fit(light, **free)
    points = np.broadcast_to(light.sigma[:, None, None], light.c2.shape)
    other = uniform_fit(dataclasses.replace(light, sigma=np.ones(5), sigma_points=points), **free)
    assert one.covariance_method == other.covariance_method == "speckle"
    np.testing.assert_allclose(list(other.theta.values()), list(one.theta.values()), rtol=1e-3)
    np.testing.assert_allclose(list(other.stderr.values()), list(one.stderr.values()), rtol=1e-2)
    # one is a mean over all traces, the other over fewer
    np.testing.assert_allclose(other.diagnostics["chi2_expected"], one.diagnostics["chi2_expected"], rtol=0.4)
