"""The cost of many points on a few frames, against NumPy with explicit least squares for contrast and offset."""

import dataclasses

import jax
import numpy as np
import pytest

from homodyne.models import get_model
from homodyne.optimization.search.candidates import candidates
from homodyne.optimization.search.coarse import CoarseCost, small_view
from homodyne.optimization.search.coordinates import Coordinates
from homodyne.optimization.source import all_frames, subset
from tests.optimization.problems import problem
from tests.reference import FLOW, STATIC, g1_squared

STATIC_MODEL, FLOW_MODEL = get_model("static"), get_model("laminar_flow")
TRUE, TRUE_FLOW = np.array(list(STATIC.values())), np.array(list(FLOW.values()))


def always(points):
    return np.ones(len(points), dtype=bool)


def coarse_cost(model, source, feasible=always):
    return CoarseCost(model, subset(source, len(source.t)), feasible)


def explicit_cost(theta, source, frames, angles):
    """Residual sum of squares over sigma**2; contrast and offset of every angle by least squares over its valid pairs."""
    i, j = np.triu_indices(len(frames), k=1)
    total = 0.0
    for k in angles:
        s = g1_squared(theta, source.t, source.phi[k])[frames[i], frames[j]]
        y = source.c2[k][frames[i], frames[j]]
        valid = np.isfinite(y)
        if valid.any():
            columns = np.column_stack([s[valid], np.ones(valid.sum())]) / source.sigma[k]
            pair = np.linalg.lstsq(columns, y[valid] / source.sigma[k], rcond=None)[0]
            total += np.sum((columns @ pair - y[valid] / source.sigma[k]) ** 2)
    return total


def test_small_view_takes_frames_from_first_to_last():
    source, _, _ = problem("static", n_t=60, n_phi=12)
    view = small_view(subset(source, 60))
    assert view.n_frames == 40
    assert (view.frames[0], view.frames[-1]) == (0, 59)
    i, j = np.triu_indices(40, k=1)
    np.testing.assert_array_equal(view.held[1][i, j], source.c2[1][np.ix_(view.frames, view.frames)][i, j])


@pytest.mark.parametrize(("n_phi", "frames"), [(1, 90), (4, 70), (12, 40), (30, 40)])
def test_few_angles_are_compared_on_more_frames(n_phi, frames):
    """About 10 000 pairs, as far as there are frames: 4 angles of 70 have 9660; one angle has all there are."""
    source, _, _ = problem("static", n_t=90, n_phi=n_phi)
    assert small_view(subset(source, 90)).n_frames == frames


def test_small_view_keeps_sigma_per_point():
    source, _, _ = problem("static", n_t=60, n_phi=12)
    sigma = np.random.default_rng(0).uniform(1, 2, source.c2.shape)
    view = small_view(subset(dataclasses.replace(source, sigma_points=sigma), 60))
    i, j = np.triu_indices(40, k=1)
    np.testing.assert_array_equal(view.held_sigma[0][i, j], sigma[0][np.ix_(view.frames, view.frames)][i, j])


def test_a_streamed_view_cannot_be_compared_on():
    source, _, _ = problem("static", n_t=40, n_phi=5)
    with pytest.raises(AssertionError):
        small_view(all_frames(source))


def test_costs_are_those_of_explicit_least_squares():
    """Holes, an angle without a point, sigma that differs by angle, more angles than are compared, frames left out."""
    source, _, _ = problem(n_t=50, n_phi=15, missing=0.2)
    source.c2[7] = np.nan
    source = dataclasses.replace(source, sigma=np.linspace(0.003, 0.02, 15))
    points = np.array([TRUE_FLOW, 1.1 * TRUE_FLOW, TRUE_FLOW * [0.5, 1, 1, 3, 1, 1, -1], [9e5, 0, 0, 1e-7, 0, 0, 30]])
    frames = np.unique(np.linspace(0, 49, 40).astype(int))
    angles = np.unique(np.linspace(0, 14, 12).astype(int))
    assert 7 in angles  # the one without a point
    expected = [explicit_cost(theta, source, frames, angles) for theta in points]
    np.testing.assert_allclose(coarse_cost(FLOW_MODEL, source)(points), expected, rtol=1e-8)


def test_many_points_are_those_one_by_one():
    """More than one batch, the last one not full."""
    source, _, _ = problem("static", n_t=40, n_phi=5)
    cost, points = coarse_cost(STATIC_MODEL, source), candidates(STATIC_MODEL.parameters, {}, 150)
    together = cost(points)
    assert together.shape == (150,)
    for n in (0, 127, 128, 149):
        assert cost(points[n : n + 1])[0] == together[n]
        assert together[n] == pytest.approx(explicit_cost(points[n], source, np.arange(40), range(5)), rel=1e-8)


@pytest.mark.parametrize("spoil", ["nothing", "an angle without points", "holes"])
def test_the_truth_costs_least(spoil):
    source, _, _ = problem("static", n_t=40, n_phi=5)
    c2 = source.c2.copy()
    if spoil == "an angle without points":
        c2[1] = np.nan
    if spoil == "holes":
        c2[np.random.default_rng(0).random(c2.shape) < 0.3] = np.nan
    cost = coarse_cost(STATIC_MODEL, dataclasses.replace(source, c2=c2))
    costs = cost(np.vstack([candidates(STATIC_MODEL.parameters, {}, n=128), TRUE]))
    assert np.argmin(costs) == 128
    assert costs[-1] == pytest.approx(np.isfinite(c2[:, *np.triu_indices(40, 1)]).sum(), rel=0.1)  # chi2 of the noise


def test_a_point_at_which_the_model_overflows_costs_infinity():
    source, _, _ = problem("static", n_t=40, n_phi=5)
    costs = coarse_cost(STATIC_MODEL, source)(np.vstack([[1.0, -0.5, -1e9], TRUE]))
    assert costs[0] == np.inf
    assert np.isfinite(costs[1])


def test_a_point_that_is_not_feasible_costs_infinity():
    source, _, _ = problem("static", n_t=40, n_phi=5)
    points = np.array([TRUE, 1.1 * TRUE, 1.2 * TRUE])
    costs = coarse_cost(STATIC_MODEL, source, lambda points: points[:, 0] != points[1, 0])(points)
    assert np.isfinite(costs).tolist() == [True, False, True]


def test_the_gradient_in_the_unit_box_is_that_of_finite_differences():
    source, _, _ = problem(n_t=40, n_phi=5)
    coarse, coordinates = coarse_cost(FLOW_MODEL, source), Coordinates.of(FLOW_MODEL.parameters)
    cost = coarse.in_unit_box(coordinates)
    theta = TRUE_FLOW * [1.3, 0.8, 1.2, 0.7, 1.3, 0.8, 3.0]
    unit = coordinates.to_unit(theta)
    value, gradient = jax.jit(jax.value_and_grad(cost))(unit)
    assert float(value) == pytest.approx(coarse(theta[None, :])[0], rel=1e-10)
    assert float(value) == pytest.approx(explicit_cost(theta, source, np.arange(40), range(5)), rel=1e-8)
    step = 1e-6
    shifted = coarse(np.asarray(coordinates.from_unit(np.vstack([unit + step * np.eye(7), unit - step * np.eye(7)]))))
    differences = (shifted[:7] - shifted[7:]) / (2 * step)
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-6 * np.abs(gradient).max())
