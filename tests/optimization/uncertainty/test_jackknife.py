"""The jackknife equals Gauss-Newton steps on dense rows with one angle left out after the other."""

import dataclasses

import numpy as np
import pytest

import homodyne
from homodyne.errors import InputError
from homodyne.optimization.uncertainty.jackknife import LEAST_ANGLES, jackknife
from tests.optimization.problems import problem
from tests.optimization.uncertainty.dense import Dense, solve
from tests.reference import FLOW, STATIC, g1_squared

MODES = ("individual", "auto", "fourier", "constant")


def without(dense, k):
    """The step of all but one angle; columns of the scaling that only it has are dropped."""
    rows = dense.angle != k
    columns = np.any(dense.a[rows] != 0, axis=0)
    return solve(dense.a[rows][:, columns], dense.r[rows])[: dense.f]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("moved", [np.ones(7, dtype=bool), np.arange(7) != 4], ids=["all", "one fixed"])
def test_equals_leaving_out_angles_one_by_one(mode, moved):
    source = problem(n_phi=6, noise=0.002)[0]
    source = dataclasses.replace(source, sigma=np.array([0.002, 0.003, 0.001, 0.002, 0.004, 0.002]))
    dense = Dense(source, list(FLOW.values()), mode, moved)
    found = jackknife(dense.design)
    steps = np.array([without(dense, k) for k in range(6)])
    centered = steps - steps.mean(0)
    expected = 5 / 6 * centered.T @ centered
    d = np.sqrt(np.diag(expected))
    # the package solves with sums of squares: half the digits of a dense solution
    np.testing.assert_allclose(found.shifts / d, steps / d, atol=1e-5)
    root = found.errors.root[moved]
    np.testing.assert_allclose(root @ root.T / np.outer(d, d), expected / np.outer(d, d), atol=1e-5)
    assert np.all(found.errors.root[~moved] == 0)
    assert found.errors.dof == 5
    assert found.errors.method == "jackknife"


def test_an_angle_that_disagrees_stands_out():
    """The third of six decays faster than the others."""
    source, _, _ = problem("static", n_phi=6, noise=0.002)
    c2 = source.c2.copy()
    faster = dict(STATIC, D0=1.05 * STATIC["D0"])
    for theta, sign in ((STATIC, -1), (faster, 1)):
        c2[2] += sign * 0.3 * g1_squared(list(theta.values()), source.t, source.phi[2]).real
    only_d0 = np.array([True, False, False])
    plain, disturbed = (
        jackknife(Dense(dataclasses.replace(source, c2=x), list(STATIC.values()), moved=only_d0).design)
        for x in (source.c2, c2)
    )
    shifts = disturbed.shifts[:, 0] - disturbed.shifts.mean()
    assert np.argmax(np.abs(shifts)) == 2
    assert shifts[2] < 0  # without it, diffusion is slower
    assert (disturbed.errors.root**2).sum() > 9 * (plain.errors.root**2).sum()


def test_an_angle_that_alone_knows_a_parameter_leaves_no_error():
    """Without it the others do not determine the parameter: NaN, not a number of rounding."""
    source = problem(n_phi=5, noise=0.002, phi=[20.0, 20.0, 20.0, 20.0, -40.0])[0]
    dense = Dense(source, list(FLOW.values()))
    found = jackknife(dense.design)
    assert np.all(np.isnan(found.shifts[4]))
    assert np.all(np.isfinite(found.shifts[:4]))
    assert np.all(np.isnan(found.errors.root))


def test_nothing_moved():
    for mode in MODES:
        dense = Dense(problem(n_phi=5)[0], list(FLOW.values()), mode, np.zeros(7, dtype=bool))
        found = jackknife(dense.design)
        assert found.shifts.shape == (5, 0)
        assert np.all(found.errors.root == 0)


@pytest.fixture(scope="module")
def fits():
    """Static fits to four and to five angles."""
    return {n: homodyne.fit(problem("static", n_phi=n, noise=0.002)[0], "static") for n in (4, 5)}


def test_fewer_than_five_angles_have_none(fits):
    assert LEAST_ANGLES == 5
    assert set(fits[4].uncertainties) == {"speckle", "iid"}
    assert set(fits[5].uncertainties) == {"speckle", "jackknife", "iid"}
    assert fits[5].uncertainties["jackknife"].dof == 4
    assert "influence" in fits[5].diagnostics
    assert "influence" not in fits[4].diagnostics


def test_asking_for_it_with_fewer_angles_is_an_error_before_data_are_read():
    source = problem("static", n_phi=4)[0]
    with pytest.raises(InputError, match=r"covariance='jackknife' needs at least 5 angles, there are 4; use covaria"):
        homodyne.fit(dataclasses.replace(source, c2=None), "static", covariance="jackknife")


def test_asking_for_it_gives_it_first():
    source = problem("static", n_phi=5, noise=0.002)[0]
    made = homodyne.fit(source, "static", covariance="jackknife")
    assert made.covariance_method == made.uncertainty.method == "jackknife"
    assert set(made.uncertainties) == {"jackknife", "iid"}  # nobody asked for speckle
    assert made.stderr == made.stderr_by("jackknife")
    # at the optimum the dense steps are the package's, to the accuracy of the optimum
    dense = Dense(source, list(made.theta.values()))
    steps = np.array([without(dense, k) for k in range(5)])
    expected = np.sqrt(4 / 5 * ((steps - steps.mean(0)) ** 2).sum(0))
    np.testing.assert_allclose(list(made.stderr.values()), expected, rtol=1e-4)
