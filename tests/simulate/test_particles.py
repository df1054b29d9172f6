"""Particles that know no formula against the models and against simulated speckle."""

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.models import get_model
from homodyne.simulate import particle_maps, speckle_maps
from tests.reference import DT, FLOW, GAP, Q

T = DT * np.arange(10)
PAIRS = np.triu_indices(len(T), k=1)


def transport(t):
    return FLOW["D0"] * t ** FLOW["alpha"] + FLOW["D_offset"]


def shear_rate(t):
    return FLOW["gamma_dot_0"] * t ** FLOW["beta"] + FLOW["gamma_dot_offset"]


@pytest.mark.parametrize("direction", [0.0, 60.0, 90.0], ids=["along the flow", "oblique", "across"])
def test_particles_agree_with_laminar_flow(direction):
    phi, pixels, particles = FLOW["phi0"] + direction, 12_000, 40
    c2 = particle_maps(
        transport, shear_rate, [phi], T, Q, GAP, phi0=FLOW["phi0"], contrast_modes=1, pixels=pixels, particles=particles
    )[0]
    s = get_model("laminar_flow").g1_squared(FLOW, T, phi, Q, GAP)
    expected = 1 + (1 - 1 / particles) * s
    deviation = (c2 - expected)[PAIRS] * np.sqrt(pixels) / (1 + 2 * s[PAIRS])
    assert np.abs(deviation).max() < 4
    assert s[PAIRS].min() < (0.9 if direction == 90.0 else 0.1)


def test_modes_share_the_contrast_and_photons_fill_the_diagonal():
    c2 = particle_maps(
        transport, shear_rate, [0.0], T[:5], Q, GAP, phi0=0.0, contrast_modes=3, counts=2.0, pixels=8000, particles=20
    )[0]
    assert np.diag(c2).mean() == pytest.approx(1 + 0.95 / 3 + 0.5, abs=0.03)


def test_noise_of_particles_is_the_noise_of_speckle():
    """Variances of all pairs, and covariances between them, from many sectors of few pixels."""
    sectors, pixels, t, pairs = 800, 20, T[:5], np.triu_indices(5, k=1)
    phi = np.full(sectors, 20.0)
    particles = particle_maps(
        transport, shear_rate, phi, t, Q, GAP, phi0=FLOW["phi0"], contrast_modes=2, counts=2.0, pixels=pixels,
        particles=60,
    )[:, *pairs]  # fmt: skip
    speckles = speckle_maps("laminar_flow", FLOW, phi, t, Q, GAP, contrast=0.5, counts=2.0, pixels=pixels)[:, *pairs]
    scatter = np.sqrt((particles.var(0) + speckles.var(0)) / sectors)
    assert np.all(np.abs(particles.mean(0) - speckles.mean(0)) < 4.5 * scatter)
    covariance = np.cov(speckles.T)
    deviation = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    difference = (np.cov(particles.T) - covariance) / deviation
    # a covariance from 800 nearly normal values scatters by 1/20 of the deviations or less, a difference by 1.4 times that
    assert np.abs(difference).max() < 4 * 1.4 * 0.055
    assert np.diag(difference).mean() == pytest.approx(0.0, abs=0.12)
    # neighbors in one row share a frame: their noise is far from independent
    assert covariance[0, 1] / deviation[0, 1] > 0.2


def test_reproducible_by_angle_and_pixels_in_portions(monkeypatch):
    arguments = {"phi0": 0.0, "pixels": 7, "particles": 5, "seed": 4}
    both = particle_maps(transport, shear_rate, [0.0, 50.0], T, Q, GAP, **arguments)
    np.testing.assert_array_equal(both[:1], particle_maps(transport, shear_rate, [0.0], T, Q, GAP, **arguments))
    monkeypatch.setattr("homodyne.simulate.particles.PORTION", 1)
    assert particle_maps(transport, shear_rate, [0.0], T, Q, GAP, **arguments).shape == (1, 10, 10)


def test_errors():
    with pytest.raises(InputError, match="pixels=0 must be at least 1"):
        particle_maps(transport, shear_rate, [0.0], T, Q, GAP, phi0=0.0, pixels=0)
    with pytest.raises(InputError, match="gives a negative displacement variance"):
        particle_maps(lambda t: -transport(t), shear_rate, [0.0], T, Q, GAP, phi0=0.0)
