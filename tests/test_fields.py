"""Gaussian fields: their correlation, their intensities, and the modes that make a contrast."""

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.fields import field_root, mode_weights, modes, single
from homodyne.models import get_model
from tests.reference import DT, FLOW, GAP, HETERODYNE, Q

T = DT * np.arange(20)


def test_root_reproduces_the_correlation():
    g1 = get_model("laminar_flow").g1(FLOW, T, 10.0, Q, GAP)
    root = field_root(g1)
    np.testing.assert_allclose(root @ root.T, g1, atol=1e-9)


def test_root_of_a_complex_correlation():
    g1 = get_model("heterodyne").g1(HETERODYNE, T, 10.0, Q)
    root = field_root(g1)
    assert np.abs(g1.imag).max() > 0.3
    np.testing.assert_allclose(root @ root.conj().T, g1, atol=1e-9)
    # one negative eigenvalue: the nearest correlation keeps diagonal and phases
    spoiled = g1.copy()
    spoiled[0, 1] *= 1.2
    spoiled[1, 0] = spoiled[0, 1].conj()
    near = field_root(spoiled) @ field_root(spoiled).conj().T
    assert np.linalg.eigvalsh(spoiled).min() < -0.01
    np.testing.assert_allclose(np.diag(near), 1.0, atol=1e-12)
    np.testing.assert_allclose(near, g1, atol=0.3)


def test_root_of_a_singular_correlation():
    """Frozen dynamics: all frames alike."""
    root = field_root(np.ones((5, 5)))
    np.testing.assert_allclose(root @ root.T, 1.0, atol=1e-9)


def test_root_of_a_matrix_that_is_no_correlation():
    """1 at neighbors, 0 beyond: eigenvalue 1 - sqrt(2) < 0. The nearest correlation keeps the diagonal and the signs."""
    impossible = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    near = field_root(impossible) @ field_root(impossible).T
    np.testing.assert_allclose(np.diag(near), 1.0, atol=1e-12)
    assert np.linalg.eigvalsh(near).min() > -1e-12
    assert np.abs(near - impossible).max() < 0.5
    assert near[0, 1] > 0.5


def test_the_positive_root_of_a_kernel_can_be_drawn_too():
    """homodyne-2 has no field of its own: |sinc|**2-like roots may be no correlation, and are replaced by the nearest."""
    model = get_model("laminar_flow", "homodyne-2")
    root = field_root(model.g1(FLOW, T, 0.0, Q, GAP))
    assert np.all(np.isfinite(root))
    np.testing.assert_allclose((root**2).sum(1), 1.0, atol=1e-9)


@pytest.mark.parametrize("contrast", [1.0, 0.9, 0.5, 0.45, 1 / 3, 0.3, 0.0501, 0.05, 0.004])
def test_weights_of_the_modes(contrast):
    weights = mode_weights(contrast)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (weights**2).sum() == pytest.approx(contrast, rel=1e-9)
    assert weights.min() > -1e-9
    assert len(weights) == np.ceil(1 / contrast - 1e-9)


@pytest.mark.parametrize("contrast", [0.0, -0.1, 1.01, np.nan])
def test_impossible_contrast(contrast):
    with pytest.raises(InputError, match="must be above 0 and at most 1; give the speckle contrast"):
        mode_weights(contrast)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_modes_have_mean_one_and_the_covariance_of_speckle(dtype):
    n, t = 40_000, T[:6]
    g1 = get_model("laminar_flow").g1(FLOW, t, 10.0, Q, GAP)
    intensity = modes(field_root(g1), n, np.random.default_rng(1), dtype)
    assert intensity.shape == (6, n)
    assert intensity.dtype == dtype
    np.testing.assert_allclose(intensity.mean(1), 1.0, atol=4.5 / np.sqrt(n))
    # the product of two deviations of exponential intensities scatters by 3 at most
    np.testing.assert_allclose(np.cov(intensity.astype(float)), g1**2, atol=4.5 * 3 / np.sqrt(n))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_modes_of_a_complex_field_have_the_covariance_of_its_modulus(dtype):
    """Also the joint cumulant of three frames, which the phases of g1 enter: 2 Re(g_ij g_jk g_ki)."""
    # light of four frequencies: at three frames in a row the product of the three g1 has the phase of none of the pairs
    spread = np.array([0.0, 1.0, 1.0, 3.0])
    n, g1 = 60_000, np.exp(1j * np.subtract.outer(-T[:6], -T[:6])[..., None] * 10 * spread).mean(-1)
    root = field_root(g1) if dtype == np.float64 else single(field_root(g1))
    intensity = modes(root, n, np.random.default_rng(2), dtype)
    assert intensity.dtype == dtype
    delta = intensity.astype(float) - 1
    np.testing.assert_allclose(np.cov(delta), np.abs(g1) ** 2, atol=4.5 * 3 / np.sqrt(n))
    triples = np.einsum("in,jn,kn->ijkn", *3 * [delta[::2]])
    third, limit = triples.mean(-1), 4.5 * triples.std(-1) / np.sqrt(n)
    g1 = g1[::2, ::2]
    expected = 2 * np.einsum("ij,jk,ki->ijk", g1, g1, g1).real
    without_phases = 2 * np.einsum("ij,jk,ki->ijk", *3 * [np.abs(g1)])
    assert np.max(np.abs(without_phases - expected) / limit) > 3
    assert np.all(np.abs(third - expected) < limit)
