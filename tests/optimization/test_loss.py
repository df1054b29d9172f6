"""Robust losses are those of scipy, and their weights are derivatives."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from homodyne.optimization.loss import TERMS, Loss, make_loss

NAMES = ("soft_l1", "huber", "cauchy")
Z = np.array([0.0, 1e-9, 0.3, -1.2, 2.9, -3.1, 8.0, 40.0, -3e3])


def scipy_cost(name, scale, z):
    """Cost of residuals that no parameter changes."""
    return least_squares(lambda x: z + 0.0 * x, [0.0], loss=name, f_scale=scale, max_nfev=1).cost


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_cost_is_that_of_scipy(name, scale):
    terms = dict(zip(TERMS, np.asarray(Loss(name, scale).terms(Z)), strict=True))
    for z, cost in zip(Z, terms["cost"], strict=True):
        assert 0.5 * cost == pytest.approx(scipy_cost(name, scale, np.array([z])), rel=1e-12)
    np.testing.assert_allclose(terms["squares"], Z**2)


@pytest.mark.parametrize("name", NAMES)
def test_influence_and_curvature_are_derivatives_of_the_cost(name):
    loss, h = Loss(name, 1.7), 1e-5
    z = Z[np.abs(Z) < 100]  # away from the kink of huber, too

    def half_cost(z):
        return 0.5 * np.asarray(loss.terms(z)[0])

    def influence(z):
        return z * np.asarray(loss.derivatives((z / loss.scale) ** 2)[1])

    np.testing.assert_allclose(influence(z), (half_cost(z + h) - half_cost(z - h)) / (2 * h), atol=1e-8)
    curvature = np.asarray(loss.derivatives((z / loss.scale) ** 2)[2])
    np.testing.assert_allclose(curvature, (influence(z + h) - influence(z - h)) / (2 * h), atol=1e-8)
    np.testing.assert_allclose(np.asarray(loss.terms(z))[TERMS.index("psi2")], influence(z) ** 2, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_rows_carry_gradient_and_curvature_and_nothing_of_invalid_pairs(name):
    loss, valid = Loss(name, 2.0), np.abs(Z) < 10
    column, residual, terms = (np.asarray(x) for x in loss.rows(Z, valid))
    _, slope, curvature = (np.asarray(x) for x in loss.derivatives((Z / 2.0) ** 2))
    np.testing.assert_allclose(column * residual, slope, rtol=1e-12)
    np.testing.assert_allclose(column**2, np.maximum(curvature, 0.01 * slope), rtol=1e-12)
    assert np.all(terms[:, ~valid] == 0)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_set_aside_where_half_of_their_weight_is_gone(name):
    loss = Loss(name, 2.5)
    z = loss.limit * np.array([0.999, 1.001])
    slope, _ = loss.weights(z)
    assert slope[0] > 0.5 > slope[1]
    terms = dict(zip(TERMS, np.asarray(loss.terms(z)), strict=True))
    np.testing.assert_array_equal(terms["aside"], [0, 1])
    np.testing.assert_allclose(terms["core"], [z[0] ** 2, 0])


def test_linear_is_no_loss():
    assert make_loss("linear", 3.0) is None
    assert make_loss("huber", 3) == Loss("huber", 3.0)
