"""Scaling modes: which contrasts and offsets each one can take."""

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.optimization.scaling import MODES, make_scaling

PHI = np.array([-80.0, -35.0, 3.0, 41.0, 88.0])


def pairs(scaling, beta):
    return scaling.base + np.einsum("kib,b->ki", scaling.basis, beta)


@pytest.mark.parametrize(("mode", "n_free"), [("individual", 10), ("auto", 2), ("constant", 0), ("fourier", 10)])
def test_number_of_free_parameters(mode, n_free):
    scaling = make_scaling(mode, PHI, 2, np.ones((5, 2)))
    assert (scaling.mode, scaling.n_free) == (mode, n_free)
    assert scaling.basis.shape == (5, 2, n_free)
    assert set(MODES) == {"individual", "auto", "constant", "fourier"}


def test_individual_takes_any_values():
    wanted = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_array_equal(pairs(make_scaling("individual", PHI), wanted.T.ravel()), wanted)


def test_auto_is_one_pair_for_all_angles():
    np.testing.assert_array_equal(pairs(make_scaling("auto", PHI), np.array([0.3, 1.1])), np.tile([0.3, 1.1], (5, 1)))


@pytest.mark.parametrize("n_phi", [1, 2])
def test_auto_with_fewer_than_three_angles_is_individual(n_phi):
    assert make_scaling("auto", PHI[:n_phi]).n_free == 2 * n_phi


def test_constant_keeps_the_values_given():
    fixed = np.random.default_rng(1).normal(size=(5, 2))
    np.testing.assert_array_equal(pairs(make_scaling("constant", PHI, 2, fixed), np.zeros(0)), fixed)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_fourier_is_a_series_in_phi(order):
    scaling = make_scaling("fourier", PHI, order)
    assert scaling.n_free == 2 * (2 * order + 1)
    c, d = np.random.default_rng(2).normal(size=(2, 2 * order + 1))
    x = np.deg2rad(PHI)

    def series(a):
        return a[0] * np.ones(5) + sum(
            a[2 * m - 1] * np.cos(m * x) + a[2 * m] * np.sin(m * x) for m in range(1, order + 1)
        )

    expected = np.stack([series(c), series(d)], axis=1)
    np.testing.assert_allclose(pairs(scaling, np.concatenate([c, d])), expected, rtol=1e-13)


def test_unknown_mode_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"scaling='per_angle' is unknown; choose one of individual, auto, constant"):
        make_scaling("per_angle", PHI)


def test_a_series_longer_than_the_angles_is_refused():
    with pytest.raises(InputError, match=r"fourier_order=3 needs 7 terms but there are 5 angles; .* at most 2"):
        make_scaling("fourier", PHI, 3)


def test_constant_needs_its_values():
    with pytest.raises(InputError, match="scaling='constant' needs fixed contrasts and offsets"):
        make_scaling("constant", PHI)
