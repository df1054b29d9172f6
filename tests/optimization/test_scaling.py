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


# three angles at one q, five at another, their sectors in any order
RINGS = np.array([0.007, 0.0054, 0.007, 0.0054, 0.0054, 0.0054, 0.007, 0.0054])
SECTORS = np.array([-80.0, -75.0, 2.0, -30.0, 0.0, 33.0, 80.0, 85.0])


@pytest.mark.parametrize(("mode", "n_free"), [("individual", 16), ("auto", 4), ("constant", 0), ("fourier", 12)])
def test_shared_values_are_shared_within_a_q(mode, n_free):
    scaling = make_scaling(mode, SECTORS, 1, np.ones((8, 2)), RINGS)
    assert scaling.n_free == n_free
    alone = {
        q: make_scaling(mode, SECTORS[q == RINGS], 1, np.ones((3 if q == 0.007 else 5, 2))) for q in (0.0054, 0.007)
    }
    for q, part in alone.items():
        # what a q can take, and no more, is what it could take alone
        n = 2 * np.count_nonzero(q == RINGS)
        mine, own = scaling.basis[q == RINGS].reshape(n, n_free), part.basis.reshape(n, part.n_free)
        assert (
            np.linalg.matrix_rank(mine) == np.linalg.matrix_rank(own) == np.linalg.matrix_rank(np.hstack([mine, own]))
        )


def test_a_q_of_few_angles_is_individual_and_one_q_is_as_before():
    assert make_scaling("auto", SECTORS[:5], q=RINGS[:5]).n_free == 2 * (2 + 1)
    np.testing.assert_array_equal(
        make_scaling("fourier", PHI, 1, q=0.0054).basis, make_scaling("fourier", PHI, 1).basis
    )


def test_a_series_longer_than_the_angles_of_one_q_is_refused():
    with pytest.raises(InputError, match=r"fourier_order=2 needs 5 terms but there are 3 angles"):
        make_scaling("fourier", SECTORS, 2, q=RINGS)
