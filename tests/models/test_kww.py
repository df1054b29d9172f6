"""Stretched and compressed exponentials: closed forms, the static sample, derivatives, and whether the light exists."""

import jax
import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.models import get_model
from tests.reference import DT, KWW, STATIC, Q, kww

T = DT * np.arange(40)
MODEL = get_model("kww")


def test_equals_the_written_expression():
    s = MODEL.g1_squared(KWW, T, 0.0, Q)
    np.testing.assert_allclose(s, kww(list(KWW.values()), T), atol=1e-13)
    np.testing.assert_allclose(MODEL.g1(KWW, T, 0.0, Q) ** 2, s, atol=1e-14)
    np.testing.assert_array_equal(np.diag(s), 1.0)


@pytest.mark.parametrize("k", [0.2, 0.7, 1.0, 2.0, 3.0])
def test_a_constant_rate_gives_the_function_of_the_lag(k):
    theta = {"Gamma_0": 0.3, "aging": 0.0, "Gamma_offset": 0.2, "kww_exponent": k}
    s = MODEL.g1_squared(theta, T, 0.0, Q)
    np.testing.assert_allclose(s, np.exp(-2 * (0.5 * np.abs(T[None, :] - T[:, None])) ** k), atol=1e-13)


def test_exponent_one_is_the_static_sample():
    """Gamma = q**2 J / 2."""
    half = 0.5 * Q**2
    theta = {"Gamma_0": half * STATIC["D0"], "aging": STATIC["alpha"], "Gamma_offset": half * STATIC["D_offset"]}
    np.testing.assert_allclose(
        MODEL.g1_squared({**theta, "kww_exponent": 1.0}, T, 0.0, Q),
        get_model("static").g1_squared(STATIC, T, 0.0, Q),
        atol=1e-13,
    )


@pytest.mark.parametrize("k", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("change", [0.0, 1e-12, 1e-3, 5.0])
def test_derivatives_are_finite_and_right(k, change):
    gradient = jax.grad(MODEL.kernel, argnums=(0, 1))(change, k)
    assert np.all(np.isfinite(gradient))
    if change > 0:
        s = np.exp(-2 * change**k)
        np.testing.assert_allclose(gradient[0], -2 * s * k * change ** (k - 1), rtol=1e-9)
        np.testing.assert_allclose(gradient[1], -2 * s * change**k * np.log(change), rtol=1e-9)


@pytest.mark.parametrize(("k", "exists"), [(0.5, True), (2.0, True), (3.0, False)])
def test_light_with_this_correlation(k, exists):
    """exp(-x**k) is the characteristic function of a distribution up to k = 2, and of none above."""
    g1 = MODEL.g1({**KWW, "kww_exponent": k}, T, 0.0, Q)
    assert (np.linalg.eigvalsh(g1).min() > -1e-9) == exists


def test_a_rate_that_turns_negative_is_infeasible():
    geometry = MODEL.geometry(0.0, Q, None, DT)
    points = np.array([[0.5, -0.4, -0.1, 1.0], [0.5, -0.4, -0.4, 1.0], [0.1, 0.0, -0.2, 1.0]])
    np.testing.assert_array_equal(MODEL.feasible(points, T, geometry), [True, False, False])
    np.testing.assert_allclose(
        MODEL.rate_curves(points[0], T, geometry)["Gamma"][10], 0.5 * 1.0**-0.4 - 0.1, rtol=1e-12
    )


def test_several_q_are_refused():
    with pytest.raises(InputError, match="kww knows one: it does not say how its rate depends on q; fit one q after"):
        MODEL.geometry(0.0, Q, None, DT, 1.2 * Q)
