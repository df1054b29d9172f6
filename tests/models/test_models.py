"""The models against the physics they stand for: quadrature, particles, closed forms, the peer's expression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from homodyne.errors import InputError
from homodyne.models import Channel, Model, Phase, get_model
from homodyne.models.sinc import sinc
from homodyne.parameters import Parameter
from tests.reference import DT, FLOW, GAP, STATIC, Q, g1_squared, jacobian

T = np.arange(40) * DT


def test_laminar_flow_is_the_gap_average_of_the_phase():
    """|integral_0^1 exp(i q cos(phi0-phi) dG h x) dx|^2 exp(-q^2 dA), by quadrature; constant rates integrate exactly."""
    theta = {**FLOW, "alpha": 0.0, "beta": 0.0}
    transport, shear = FLOW["D0"] + FLOW["D_offset"], FLOW["gamma_dot_0"] + FLOW["gamma_dot_offset"]
    for phi in (0.0, 35.0, 88.0, 170.0):
        s = get_model("laminar_flow").g1_squared(theta, T, phi, Q, GAP)
        for i, j in ((0, 1), (3, 9), (0, 39), (20, 31)):
            lag = T[j] - T[i]
            x = Q * GAP * np.cos(np.deg2rad(FLOW["phi0"] - phi)) * shear * lag
            average = complex(*(quad(f, 0, 1, epsabs=1e-13, args=(x,))[0] for f in (_cos, _sin)))
            assert s[i, j] == pytest.approx(abs(average) ** 2 * np.exp(-(Q**2) * transport * lag), abs=1e-10)


def _cos(u, x):
    return np.cos(x * u)


def _sin(u, x):
    return np.sin(x * u)


def test_laminar_flow_agrees_with_particles():
    """Brownian particles carried by a linear velocity profile; intensity correlation of the scattered field."""
    rng = np.random.default_rng(5)
    n_pixels, n_particles, n_frames, phi = 6000, 150, 6, 20.0
    t = np.arange(n_frames) * 0.5
    theta = {**FLOW, "D0": 5e3, "gamma_dot_0": 4e-4}
    transport = theta["D0"] * np.maximum(t, 0.25) ** theta["alpha"] + theta["D_offset"]
    shear = theta["gamma_dot_0"] * np.maximum(t, 0.25) ** theta["beta"] + theta["gamma_dot_offset"]
    height = rng.uniform(0, GAP, (n_pixels, n_particles))
    phase = rng.uniform(0, 2 * np.pi, height.shape)
    intensity = np.empty((n_frames, n_pixels))
    for k in range(n_frames):
        if k:
            d_a, d_g = (0.25 * (r[k] + r[k - 1]) for r in (transport, shear))
            phase += Q * np.cos(np.deg2rad(theta["phi0"] - phi)) * d_g * height
            phase += rng.normal(0.0, Q * np.sqrt(d_a), phase.shape)
        intensity[k] = np.abs(np.exp(1j * phase).sum(1)) ** 2 / n_particles
    measured = intensity @ intensity.T / n_pixels / np.outer(intensity.mean(1), intensity.mean(1)) - 1
    expected = get_model("laminar_flow").g1_squared(theta, t, phi, Q, GAP)
    i, j = np.triu_indices(n_frames, k=1)
    assert expected[i, j].min() < 0.2
    assert expected[i, j].max() > 0.6
    # a sample covariance over n_pixels exponential intensities scatters by about (1 + s) / sqrt(n_pixels)
    np.testing.assert_allclose(measured[i, j], expected[i, j], atol=4.5 * 1.6 / np.sqrt(n_pixels))


@pytest.mark.parametrize("convention", ["physical", "homodyne-2"])
@pytest.mark.parametrize("phi", [-80.0, 2.0, 91.0, 179.0])
def test_both_conventions_equal_the_written_expressions(convention, phi):
    s = get_model("laminar_flow", convention).g1_squared(FLOW, T, phi, Q, GAP)
    np.testing.assert_allclose(
        s, g1_squared(list(FLOW.values()), T, phi, convention=convention).real, atol=1e-10, rtol=0
    )


def test_known_numbers_of_the_two_conventions():
    """q=0.0054, gap=2e6, shear 2e-4, phi=0, one second: 0.66688 for the physics, 0.92395 in homodyne 2.x."""
    theta = {
        **FLOW,
        "D0": 1.0,
        "alpha": 0.0,
        "D_offset": 0.0,
        "gamma_dot_0": 2e-4,
        "beta": 0.0,
        "gamma_dot_offset": 0.0,
        "phi0": 0.0,
    }
    for convention, value in (("physical", 0.66688), ("homodyne-2", 0.92395)):
        s = get_model("laminar_flow", convention).g1_squared(theta, np.arange(2.0), 0.0, Q, GAP)[0, 1]
        assert s / np.exp(-(Q**2)) == pytest.approx(value, abs=5e-6)


def test_static_is_an_exponential_of_the_integrated_rate():
    s = get_model("static").g1_squared(STATIC, T, 0.0, Q)
    np.testing.assert_allclose(s, g1_squared(list(STATIC.values()), T, 0.0), atol=1e-14)
    np.testing.assert_allclose(s, s.T, rtol=0, atol=0)
    np.testing.assert_allclose(np.diag(s), 1.0)


@pytest.mark.parametrize("x", [0.0, 1e-9, 1e-4, 1e-2, 0.49999, 0.50001, 3.0])
def test_sinc_value_and_derivative(x):
    """Against the Taylor series in x, summed to convergence, and its derivative, term by term."""

    def value(u):
        return sinc(Phase(u, jnp.sin(u), jnp.cos(u)))

    k = np.arange(25)
    factorial = np.cumprod(np.concatenate([[1.0], (2 * k[1:]) * (2 * k[1:] + 1)]))
    expected = np.sum((-1.0) ** k * x ** (2 * k) / factorial)
    derivative = np.sum((-1.0) ** k[1:] * 2 * k[1:] * x ** (2 * k[1:] - 1) / factorial[1:])
    assert float(value(x)) == pytest.approx(expected, abs=1e-15)
    assert float(jax.grad(value)(x)) == pytest.approx(derivative, rel=1e-13, abs=1e-15)


def test_complex_step_reference_agrees_with_finite_differences():
    """The reference itself must be right."""
    theta = np.array(list(FLOW.values()))
    s, columns = jacobian(theta, T, 30.0)
    for m in range(7):
        h = 1e-6 * max(abs(theta[m]), 1e-3)
        up, down = (
            g1_squared(theta + sign * h * np.eye(7)[m], T, 30.0)[np.triu_indices(len(T), 1)] for sign in (1, -1)
        )
        np.testing.assert_allclose(columns[:, m], (up - down) / (2 * h), atol=2e-7 * np.abs(columns[:, m]).max())
    assert s.shape == (len(T) * (len(T) - 1) // 2,)


def test_a_rate_that_turns_negative_is_infeasible():
    model = get_model("static")
    geometry = model.geometry(0.0, Q, None, DT)
    points = np.array([[1e4, -0.5, 0.0], [1e4, -0.5, -9e3], [1e4, 0.5, -1e2]])
    np.testing.assert_array_equal(model.feasible(points, T, geometry), [True, False, True])


def test_curves_of_the_rates():
    model = get_model("laminar_flow")
    curves = model.rate_curves(np.array(list(FLOW.values())), T, model.geometry(0.0, Q, GAP, DT))
    np.testing.assert_allclose(curves["J"][10], 8e3 * 1.0**-0.4 + 300)
    np.testing.assert_allclose(curves["gamma_dot"][0], 2e-3 * 0.05**-0.2 + 1e-4)


def test_errors_name_the_remedy():
    with pytest.raises(
        InputError, match="gap=None is missing and laminar_flow needs it; give the rotor-stator distance"
    ):
        get_model("laminar_flow").g1_squared(FLOW, T, 0.0, Q)
    with pytest.raises(InputError, match="model='turbulent' is unknown; choose one of static, laminar_flow"):
        get_model("turbulent")
    with pytest.raises(InputError, match="convention='homodyne-1' is unknown"):
        get_model("laminar_flow", "homodyne-1")
    with pytest.raises(InputError, match="is not a parameter of the model"):
        Model(
            "own", (Parameter("a", "", 1, 0, 2, 1),), (Channel("x", ("b",), lambda theta, t, g: theta[0] * t),), jnp.exp
        )


@pytest.mark.parametrize(
    ("name", "convention"), [("static", "physical"), ("laminar_flow", "physical"), ("laminar_flow", "homodyne-2")]
)
def test_g1_is_a_root_of_g1_squared(name, convention):
    model = get_model(name, convention)
    theta = STATIC if name == "static" else FLOW
    frames = np.array([3, 0, 25])
    for phi in (2.0, 40.0):
        g1 = model.g1(theta, T, phi, Q, GAP)
        np.testing.assert_allclose(g1**2, model.g1_squared(theta, T, phi, Q, GAP), atol=1e-15)
        np.testing.assert_array_equal(np.diag(g1), 1.0)
        np.testing.assert_array_equal(g1, g1.T)
        np.testing.assert_allclose(model.g1(theta, T, phi, Q, GAP, frames), g1[np.ix_(frames, frames)], atol=1e-15)


def test_g1_changes_its_sign_at_the_zeros_of_the_sinc():
    """Constant rates: X = q gap gamma_dot lag / 2 along the flow, so that the sign is the sign of sin X."""
    theta = {**FLOW, "alpha": 0.0, "beta": 0.0, "gamma_dot_offset": 0.0, "phi0": 0.0}
    lag = T - T[0]
    x = 0.5 * Q * GAP * theta["gamma_dot_0"] * lag
    g1 = get_model("laminar_flow").g1(theta, T, 0.0, Q, GAP)[0]
    decay = np.exp(-0.5 * Q**2 * (theta["D0"] + theta["D_offset"]) * lag)
    np.testing.assert_allclose(g1[1:], decay[1:] * np.sin(x[1:]) / x[1:], atol=1e-12)
    assert g1[(x > np.pi) & (x < 2 * np.pi)].max() < 0
    assert g1[(x > 0) & (x < np.pi)].min() > 0
