"""Scatter of scores: closed forms of Gaussian speckle, brute force, and the scores of simulated maps."""

import dataclasses
import sys

import numpy as np
import pytest

from homodyne.models import get_model
from homodyne.optimization.uncertainty import scores, traces
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.uncertainty.scores import draw_scores
from homodyne.simulate import speckle_maps
from tests.optimization.problems import Arrays
from tests.optimization.uncertainty import theory
from tests.reference import DT, FLOW, HETERODYNE, STATIC, Q, heterodyne, heterodyne_field, jacobian

MODELS = {"static": STATIC, "laminar_flow": FLOW, "heterodyne": HETERODYNE}
DRAWS = 200_000


def source(n_t, phi, **replaced):
    phi = np.asarray(phi, dtype=float)
    return dataclasses.replace(
        Arrays(np.ones((len(phi), n_t, n_t)), phi, DT * np.arange(n_t), np.ones(len(phi))), **replaced
    )


def noise(n_phi, contrast=1 / 3, nu=1.0, pixels=1.0, offset=1.0):
    values = [np.full(n_phi, float(x)) for x in (contrast, nu, pixels, offset)]
    return SpeckleNoise(*values, "given", "given")


def columns(theta, t, phi):
    """X = [s, 1, ds/dtheta] over the pairs i < j, (p + 2, pairs)."""
    s, ds = jacobian(theta, t, phi, s=heterodyne) if len(theta) == 8 else jacobian(theta, t, phi)
    return np.vstack([s.real, np.ones(len(s)), ds.T])


def field(theta, t, phi):
    return heterodyne_field(theta, t, phi) if len(theta) == 8 else theory.field(theta, t, phi)


def set_constant(monkeypatch, name, value):
    """Wherever the package keeps it."""
    places = [
        m for n, m in sys.modules.items() if n.startswith("homodyne.optimization.uncertainty.") and name in vars(m)
    ]
    assert places, name
    for place in places:
        monkeypatch.setattr(place, name, value)


def many_draws(monkeypatch, n=DRAWS):
    set_constant(monkeypatch, "_LEAST", n)
    set_constant(monkeypatch, "_MOST", n)


def assert_covariance(root, expected, sigmas=5.0, limit_at_most=0.15):
    """root^T root against ``expected``, entry by entry, within what the draws themselves scatter."""
    q = root * np.sqrt(len(root))
    found = root.T @ root
    spread = np.array([[(q[:, a] * q[:, b]).std() for b in range(q.shape[1])] for a in range(q.shape[1])])
    limit = sigmas * spread / np.sqrt(len(q))
    assert np.all(np.abs(found - expected) < limit)
    # and the limit itself is small
    assert np.all(np.diag(limit) < limit_at_most * np.diag(expected))


def test_the_closed_form_is_what_photons_of_gaussian_fields_do():
    """The reference of this file against plain draws; 2e5 pixels know a variance to about 3 percent."""
    g = theory.field(list(FLOW.values()), DT * np.arange(6), 10.0)
    assert g.min() < -0.1  # the sign of the field matters
    expected = theory.covariance_of_pairs(g, 3, 1.0)
    y = theory.products(theory.traces(g, 3, 1.0, 200_000, np.random.default_rng(1)), g, 3)
    y = (y - y.mean(1, keepdims=True)).T / np.sqrt(y.shape[1])
    assert_covariance(y, expected)


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("nu", [0.0, 1.0])
@pytest.mark.parametrize(
    ("name", "phi"), [("static", 0.0), ("laminar_flow", 10.0), ("laminar_flow", 72.0), ("heterodyne", 40.0)]
)
def test_covariance_equals_the_closed_form(monkeypatch, name, phi, modes, nu):
    many_draws(monkeypatch)
    theta = list(MODELS[name].values())
    src = source(6, [phi])
    found = draw_scores(get_model(name), np.array(theta), src, noise(1, 1 / modes, nu, pixels=50, offset=1.2), 1)
    x = columns(theta, src.t, phi)
    c = theory.covariance_of_pairs(field(theta, src.t, phi), modes, nu) * 1.2**2 / 50
    # one mode has heavy tails: kurtoses of several hundred
    assert_covariance(found.roots[0], x @ c @ x.T, limit_at_most=0.3 if modes == 1 else 0.15)
    assert found.chi2_mean[0] == pytest.approx(np.trace(c), rel=0.2 if modes == 1 else 0.08)


def test_weights_masks_and_least_lag(monkeypatch):
    """Every point has its own sigma, some are missing, and neighbors are not fitted."""
    many_draws(monkeypatch)
    set_constant(monkeypatch, "_LEAST_PAIRED", DRAWS)
    rng = np.random.default_rng(3)
    theta, phi, n_t = list(FLOW.values()), 72.0, 7
    c2 = np.ones((1, n_t, n_t))
    c2[0, 1, 4] = c2[0, 0, 6] = np.nan
    sigma = rng.uniform(0.5, 2.0, (1, n_t, n_t))
    src = source(n_t, [phi], c2=c2, sigma_points=sigma)
    found = draw_scores(get_model("laminar_flow"), np.array(theta), src, noise(1), 2)
    i, j = np.triu_indices(n_t, 1)
    weight = np.where((j - i >= 2) & np.isfinite(c2[0, i, j]), sigma[0, i, j] ** -2.0, 0.0)
    assert np.count_nonzero(weight) == 13
    x = columns(theta, src.t, phi) * weight
    c = theory.covariance_of_pairs(theory.field(theta, src.t, phi), 3, 1.0)
    assert_covariance(found.roots[0], x @ c @ x.T)
    assert found.chi2_mean[0] == pytest.approx(weight @ np.diag(c), rel=0.08)


@pytest.mark.parametrize("contrast", [1 / 3, 0.05])
def test_scatter_of_the_sum_of_squares(monkeypatch, contrast):
    """Its standard deviation is that of a form of nearly Gaussian noise: variance 2 tr C**2."""
    many_draws(monkeypatch, 4000)
    set_constant(monkeypatch, "_MOST_PAIRED", 2000)
    theta, phi, n_t = list(FLOW.values()), 40.0, 12
    found = draw_scores(get_model("laminar_flow"), np.array(theta), source(n_t, [phi]), noise(1, contrast, 1.0), 1)
    g = theory.field(theta, DT * np.arange(n_t), phi)
    c = theory.covariance_of_pairs(g, round(1 / contrast), 1.0)
    assert found.chi2_mean[0] == pytest.approx(np.trace(c), rel=0.1)
    assert found.chi2_sd[0] == pytest.approx(np.sqrt(2 * np.sum(c**2)), rel=0.15)


@pytest.mark.parametrize(
    ("name", "contrast", "counts"), [("static", 0.25, 2.0), ("laminar_flow", 0.3, None), ("heterodyne", 0.3, 2.0)]
)
def test_scores_of_simulated_maps_scatter_as_predicted(name, contrast, counts):
    """400 sectors of 400 pixels, correlated as a beamline does: nothing is linearized there."""
    maps, n_t, pixels, phi = 400, 16, 400, 72.0
    theta, t = MODELS[name], DT * np.arange(n_t)
    c2 = speckle_maps(name, theta, np.full(maps, phi), t, Q, 2e6, contrast=contrast, counts=counts, pixels=pixels)
    i, j = np.triu_indices(n_t, 1)
    y = c2[:, i, j] - c2[:, i, j].mean(0)
    q = y @ columns(list(theta.values()), t, phi).T
    nu = 0.0 if counts is None else 1 / counts
    found = draw_scores(
        get_model(name), np.array(list(theta.values())), source(n_t, [phi]), noise(1, contrast, nu, pixels), 1
    )
    predicted = found.roots[0].T @ found.roots[0]
    measured = q.T @ q / (maps - 1)
    # a standard deviation from 400 maps is good to 3.5 percent, one from 1024 traces to about 5
    np.testing.assert_allclose(np.sqrt(np.diag(predicted)), np.sqrt(np.diag(measured)), rtol=0.2)
    d, e = np.sqrt(np.diag(predicted)), np.sqrt(np.diag(measured))
    np.testing.assert_allclose(predicted / np.outer(d, d), measured / np.outer(e, e), atol=0.2)
    chi2 = (y**2).sum(1) * maps / (maps - 1)
    assert found.chi2_mean[0] == pytest.approx(chi2.mean(), rel=0.15)
    assert found.chi2_sd[0] == pytest.approx(chi2.std(), rel=0.35)


SLOW = {"D0": 4e2, "alpha": -0.1, "D_offset": 0.0}


def test_frames_that_share_a_node_scatter_alike(monkeypatch):
    """160 frames by 64 nodes, dynamics slow enough that neighbors hardly differ."""
    many_draws(monkeypatch, 4000)
    model, theta, src = get_model("static"), np.array(list(SLOW.values())), source(160, [0.0])
    exact = draw_scores(model, theta, src, noise(1), 1)
    assert exact.nodes.exact
    monkeypatch.setattr(traces, "MAX_NODES", 64)
    grouped = draw_scores(model, theta, src, noise(1), 1)
    assert len(grouped.nodes.frames) == 64
    assert grouped.nodes.sizes.sum() == 160
    a, b = (np.sqrt(np.diag(r.roots[0].T @ r.roots[0])) for r in (exact, grouped))
    np.testing.assert_allclose(b, a, rtol=0.12)


def test_nodes_cover_all_frames_once(monkeypatch):
    monkeypatch.setattr(traces, "MAX_NODES", 64)
    for n_t in (64, 65, 100, 1000):
        nodes = traces.choose_nodes(get_model("static"), np.array(list(STATIC.values())), source(n_t, [0.0, 50.0]))
        assert len(nodes.frames) <= 64
        assert nodes.sizes.sum() == n_t
        first = np.concatenate([[0], np.cumsum(nodes.sizes)])
        assert np.all((first[:-1] <= nodes.frames) & (nodes.frames < first[1:]))
        assert nodes.exact == (n_t == 64)


@pytest.fixture
def three():
    """Scores of three angles, by so many workers and with such a seed."""
    theta = np.array(list(FLOW.values()))
    src = source(20, [-30.0, 10.0, 60.0])

    def draw(monkeypatch, workers, seed=0):
        monkeypatch.setattr(scores, "n_workers", lambda: workers)
        return draw_scores(get_model("laminar_flow"), theta, src, noise(3), 1, seed)

    return draw


def test_the_same_whatever_the_number_of_workers(monkeypatch, three):
    one, again, many = three(monkeypatch, 1), three(monkeypatch, 1), three(monkeypatch, 4)
    for other in (again, many):
        for a, b in zip(one.roots, other.roots, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(one.chi2_sd, other.chi2_sd)


def test_another_seed_gives_other_draws_and_the_same_covariance(monkeypatch, three):
    one, other = three(monkeypatch, 2), three(monkeypatch, 2, seed=1)
    for a, b in zip(one.roots, other.roots, strict=True):
        assert not np.array_equal(a, b)
        np.testing.assert_allclose(np.sqrt((b**2).sum(0)), np.sqrt((a**2).sum(0)), rtol=0.25)


def test_pixels_and_baseline_are_factors(monkeypatch):
    theta = np.array(list(FLOW.values()))
    src = source(20, [10.0])
    one = draw_scores(get_model("laminar_flow"), theta, src, noise(1), 1)
    other = draw_scores(get_model("laminar_flow"), theta, src, noise(1, pixels=100.0, offset=2.0), 1)
    np.testing.assert_allclose(other.roots[0], one.roots[0] * 0.2, rtol=1e-12)
    np.testing.assert_allclose(other.chi2_mean, one.chi2_mean * 0.04, rtol=1e-12)
    np.testing.assert_allclose(other.chi2_sd, one.chi2_sd * 0.04, rtol=1e-12)
