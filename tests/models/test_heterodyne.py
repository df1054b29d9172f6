"""Heterodyne scattering against the average of the field, particles, and what its equation cannot tell apart."""

import numpy as np
import pytest

from homodyne.models import get_model
from tests.reference import DT, HETERODYNE, Q, heterodyne, heterodyne_field

T = DT * np.arange(40)
MODEL = get_model("heterodyne")
PHI = (0.0, 35.0, 91.0, 170.0)


def test_g1_is_the_average_of_the_phase_over_displacements():
    """f + (1 - f) <exp(i q u)>, u Gaussian about the path along q, by Gauss-Hermite quadrature; constant rates."""
    theta = {**HETERODYNE, "alpha": 0.0, "beta": 0.0}
    transport, speed = theta["D0"] + theta["D_offset"], theta["v0"] + theta["v_offset"]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    lag = T - T[0]
    for phi in PHI:
        u = np.cos(np.deg2rad(theta["phi0"] - phi)) * speed * lag + np.sqrt(transport * lag) * nodes[:, None]
        moving = weights @ np.exp(1j * Q * u) / np.sqrt(2 * np.pi)
        expected = theta["reference_fraction"] + (1 - theta["reference_fraction"]) * moving
        np.testing.assert_allclose(MODEL.g1(theta, T, phi, Q)[0], expected, atol=1e-12)
        np.testing.assert_allclose(MODEL.g1_squared(theta, T, phi, Q)[0], np.abs(expected) ** 2, atol=1e-12)


def test_field_and_intensity_of_particles():
    """Particles that stay and particles that diffuse and move, their fields added: g1 of the sum, and c2 - 1."""
    rng = np.random.default_rng(3)
    n_pixels, n_particles, t, phi = 10_000, 60, 0.5 * np.arange(6), 20.0
    theta = {**HETERODYNE, "v0": 250.0}
    f, power = theta["reference_fraction"], np.maximum(t, 0.25)
    rate = theta["D0"] * power ** theta["alpha"] + theta["D_offset"]
    speed = theta["v0"] * power ** theta["beta"] + theta["v_offset"]
    along = Q * np.cos(np.deg2rad(theta["phi0"] - phi))
    standing, phase = rng.uniform(0, 2 * np.pi, (2, n_pixels, n_particles))
    field = np.empty((6, n_pixels), dtype=complex)
    for k in range(6):
        if k:
            variance, path = (0.25 * (r[k] + r[k - 1]) for r in (rate, speed))
            phase += along * path + rng.normal(0.0, Q * np.sqrt(variance), phase.shape)
        parts = (np.exp(1j * x).sum(1) for x in (standing, phase))
        field[k] = sum(np.sqrt(w / n_particles) * e for w, e in zip((f, 1 - f), parts, strict=True))
    g1 = MODEL.g1(theta, t, phi, Q)
    assert np.abs(g1.imag).max() > 0.3
    np.testing.assert_allclose(field.conj() @ field.T / n_pixels, g1, atol=4.5 / np.sqrt(n_pixels))
    intensity = np.abs(field) ** 2
    c2 = intensity @ intensity.T / n_pixels / np.outer(intensity.mean(1), intensity.mean(1))
    i, j = np.triu_indices(6, k=1)
    s = MODEL.g1_squared(theta, t, phi, Q)[i, j]
    # a sample covariance scatters by about (1 + s) / sqrt(n_pixels); N particles lower it by s / N
    np.testing.assert_allclose(c2[i, j] - 1, s, atol=4.5 * 1.6 / np.sqrt(n_pixels))
    assert s.min() < 0.2
    assert s.max() > 0.5


@pytest.mark.parametrize("phi", PHI)
def test_equals_the_written_expressions(phi):
    theta = list(HETERODYNE.values())
    g1, frames = MODEL.g1(HETERODYNE, T, phi, Q), np.array([7, 0, 25])
    np.testing.assert_allclose(MODEL.g1_squared(HETERODYNE, T, phi, Q), heterodyne(theta, T, phi), atol=1e-12)
    np.testing.assert_allclose(g1, heterodyne_field(theta, T, phi), atol=1e-12)
    np.testing.assert_allclose(np.abs(g1) ** 2, MODEL.g1_squared(HETERODYNE, T, phi, Q), atol=1e-14)
    np.testing.assert_array_equal(g1, g1.conj().T)
    np.testing.assert_array_equal(np.diag(g1), 1.0)
    np.testing.assert_allclose(MODEL.g1(HETERODYNE, T, phi, Q, frames=frames), g1[np.ix_(frames, frames)], atol=1e-14)
    assert np.linalg.eigvalsh(g1).min() > 0  # light with this g1 exists


def test_what_the_data_cannot_tell():
    """The sign of v, half a turn of phi0, and, without diffusion, which of the two components moves."""
    theta = np.array(list(HETERODYNE.values()))

    def s(**changed):
        return MODEL.g1_squared(np.array(list({**HETERODYNE, **changed}.values())), T, 35.0, Q)

    here = MODEL.g1_squared(theta, T, 35.0, Q)
    np.testing.assert_allclose(s(v0=-700.0, v_offset=-50.0), here, atol=1e-12)
    np.testing.assert_allclose(s(phi0=182.0), here, atol=1e-12)
    still = {"D0": 0.0, "D_offset": 0.0}
    np.testing.assert_allclose(s(**still, reference_fraction=0.65), s(**still), atol=1e-12)
    assert np.abs(s(reference_fraction=0.65) - here).max() > 0.1
    np.testing.assert_allclose(
        s(reference_fraction=0.0),
        get_model("static").g1_squared(theta[:3], T, 35.0, Q),
        atol=1e-14,
    )
    # so v0 has one sign, and the directions that are searched are one half turn
    by_name = {p.name: p for p in MODEL.parameters}
    assert by_name["v0"].lower > 0
    assert by_name["phi0"].search == (-90.0, 90.0)
