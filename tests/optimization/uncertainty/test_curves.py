"""Curves with errors: the delta method against finite differences, integrals against trapezoids, open directions."""

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid

from homodyne.models import get_model
from homodyne.optimization.uncertainty import curves
from homodyne.optimization.uncertainty.curves import rate_table
from homodyne.result import Uncertainty
from tests.optimization.problems import Arrays
from tests.reference import DT, FLOW

THETA = np.array(list(FLOW.values()))
MODEL = get_model("laminar_flow")
N_T = 50


def source(n_t=N_T):
    return Arrays(np.zeros((1, 0, 0)), np.array([10.0]), DT * np.arange(n_t), np.ones(1))


def rates(theta, t):
    """J, gamma_dot and their integrals, from the equations."""
    late = np.maximum(t, DT / 2)
    out = {"J": theta[0] * late ** theta[1] + theta[2], "gamma_dot": theta[3] * late ** theta[4] + theta[5]}
    out["A"], out["G"] = (cumulative_trapezoid(out[n], dx=DT, initial=0) for n in ("J", "gamma_dot"))
    return out


def uncertainty(method, seed, null=None):
    """Correlated errors of a percent or so of every parameter."""
    root = 0.01 * np.abs(THETA)[:, None] * np.random.default_rng(seed).normal(size=(7, 2))
    return Uncertainty(method, root, np.zeros((7, 0)) if null is None else null, np.zeros(1), np.zeros(1))


def table(chosen="speckle", n_t=N_T, **found):
    return rate_table(MODEL, THETA, source(n_t), found, chosen)


def test_values_and_integrals():
    made = table(speckle=uncertainty("speckle", 0))
    np.testing.assert_allclose(made["t"], DT * np.arange(N_T))
    for name, expected in rates(THETA, DT * np.arange(N_T)).items():
        np.testing.assert_allclose(made[name], expected, rtol=1e-12, atol=1e-12)
    assert {n: made[n].attrs["units"] for n in "JAG"} == {"J": "angstrom^2 s^-1", "A": "angstrom^2", "G": "1"}
    assert made["gamma_dot"].attrs["units"] == made["gamma_dot_stderr"].attrs["units"] == "s^-1"


def test_errors_by_the_delta_method():
    """Derivatives by central differences of the equations, with the full covariance."""
    found = {m: uncertainty(m, k) for k, m in enumerate(("speckle", "jackknife", "iid"))}
    made = table("jackknife", **found)
    t = DT * np.arange(N_T)
    step = 1e-5 * np.abs(THETA)
    for name in ("J", "gamma_dot", "A", "G"):
        slope = np.array(
            [(rates(THETA + h, t)[name] - rates(THETA - h, t)[name]) / (2 * h.sum()) for h in np.diag(step)]
        )
        for method, u in found.items():
            expected = np.sqrt(np.einsum("it,ij,jt->t", slope, u.root @ u.root.T, slope))
            np.testing.assert_allclose(made[f"{name}_stderr_{method}"], expected, rtol=1e-6, atol=1e-15)
            if name == "A":  # and without the correlations it would be another number
                alone = np.sqrt(np.einsum("it,i->t", slope**2, (u.root**2).sum(1)))
                assert np.median(np.abs(alone - expected)[1:] / expected[1:]) > 0.02
        np.testing.assert_array_equal(made[f"{name}_stderr"], made[f"{name}_stderr_jackknife"])


def test_an_open_direction_makes_infinite_what_it_changes():
    """D_offset is open: J is, at all times, and its integral but for its beginning; the shear rate is known."""
    open_offset = np.eye(7)[:, [2]]
    made = table(speckle=uncertainty("speckle", 0, open_offset))
    assert np.all(np.isinf(made["J_stderr"]))
    assert made["A_stderr"][0] == 0
    assert np.all(np.isinf(made["A_stderr"][1:]))
    assert np.all(np.isfinite(made["gamma_dot_stderr"]) & np.isfinite(made["G_stderr"]))


def test_an_open_direction_that_changes_nothing_does_no_harm():
    """alpha = 0: D0 - D_offset is open, their sum, which is J, known."""
    theta = np.array([8e3, 0.0, 300.0])
    null = np.array([[1.0], [0.0], [-1.0]])
    root = np.array([[100.0, 0.0], [0.0, 0.01], [50.0, 0.0]])
    u = Uncertainty("speckle", root, null, np.zeros(1), np.zeros(1))
    made = rate_table(get_model("static"), theta, source(), {"speckle": u}, "speckle")
    late = np.maximum(DT * np.arange(N_T), DT / 2)
    np.testing.assert_allclose(made["J_stderr"], np.hypot(150.0, 0.01 * 8e3 * np.log(late)), rtol=1e-9)
    assert np.all(np.isfinite(made["A_stderr"]))


def test_errors_of_any_function():
    u = uncertainty("speckle", 0)
    gradient = np.random.default_rng(1).normal(size=(7, 2, 3)) / np.abs(THETA)[:, None, None]
    expected = np.sqrt(np.einsum("iab,ij,jab->ab", gradient, u.root @ u.root.T, gradient))
    np.testing.assert_allclose(u.stderr_of(gradient), expected, rtol=1e-10)
    assert u.stderr_of(gradient[:, 0, 0]).shape == ()
    assert u.stderr_of(gradient[:, 0, 0]) == pytest.approx(expected[0, 0])


def test_long_series_are_thinned_at_both_ends_kept(monkeypatch):
    monkeypatch.setattr(curves, "_LONGEST", 100)
    whole, thin = (
        table(n_t=n, speckle=uncertainty("speckle", 0))
        if n == 100
        else table(n_t=1000, speckle=uncertainty("speckle", 0))
        for n in (100, 1000)
    )
    assert whole.sizes["t"] == 100
    t = thin["t"].values
    assert 60 < len(t) <= 100
    assert (t[0], t[1], t[-1]) == (0.0, DT, pytest.approx(99.9))
    # integrals ran over all frames
    expected = rates(THETA, DT * np.arange(1000))["A"]
    np.testing.assert_allclose(thin["A"], expected[np.round(t / DT).astype(int)], rtol=1e-12)
