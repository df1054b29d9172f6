"""The jackknife equals Gauss-Newton steps on dense rows with one angle left out after the other."""

import dataclasses

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.optimization.uncertainty.jackknife import LEAST_ANGLES, expected_variances, jackknife
from homodyne.optimization.uncertainty.scores import Nodes, Scores
from homodyne.optimization.uncertainty.speckle import speckle_errors
from tests.optimization.problems import problem, uniform_fit
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
    return {n: uniform_fit(problem("static", n_phi=n, noise=0.002)[0], "static") for n in (4, 5)}


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
        uniform_fit(dataclasses.replace(source, c2=None), "static", covariance="jackknife")


def test_asking_for_it_gives_it_first():
    source = problem("static", n_phi=5, noise=0.002)[0]
    made = uniform_fit(source, "static", covariance="jackknife")
    assert made.covariance_method == made.uncertainty.method == "jackknife"
    assert set(made.uncertainties) == {"jackknife", "iid"}  # nobody asked for speckle
    assert made.stderr == made.stderr_by("jackknife")
    # at the optimum the dense steps are the package's, to the accuracy of the optimum
    dense = Dense(source, list(made.theta.values()))
    steps = np.array([without(dense, k) for k in range(5)])
    expected = np.sqrt(4 / 5 * ((steps - steps.mean(0)) ** 2).sum(0))
    np.testing.assert_allclose(list(made.stderr.values()), expected, rtol=1e-4)


def test_what_speckle_makes_of_it_is_a_chi2_distribution_for_angles_alike():
    """Six angles that know one parameter equally well: the true variance times chi2(5) / 5."""
    source = problem("static", n_phi=6, noise=0.002, spread=0.0, phi=np.full(6, 20.0))[0]
    dense = Dense(source, list(STATIC.values()), "constant", np.array([True, False, False]))
    root = np.random.default_rng(0).normal(size=(50, 5)) * [1.0, 1.0, 1e-5, 1.0, 1e-3]
    scores = Scores([root] * 6, np.ones(6), np.ones(6), Nodes(np.arange(40), np.ones(40)))
    drawn = expected_variances(dense.design, scores, source.sigma)
    true = (speckle_errors(dense.design, scores, source.sigma).errors.root ** 2).sum(1)[0]
    ratio = drawn[:, 0] / true
    assert drawn.shape == (400, 1)
    assert ratio.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / 5 / 400))
    assert ratio.std() == pytest.approx(np.sqrt(2 / 5), rel=0.2)
    np.testing.assert_array_equal(drawn, expected_variances(dense.design, scores, source.sigma))


@pytest.mark.parametrize("mode", MODES)
def test_what_speckle_makes_of_it_is_what_the_jackknife_finds_in_drawn_data(mode):
    """Data of independent noise, whose scores are known, jackknifed by dense steps many times."""
    source = problem(n_phi=6, noise=0.002)[0]
    moved = np.isin(np.arange(7), [0, 3, 6])
    dense = Dense(source, list(FLOW.values()), mode, moved)
    # scores X^T r of independent points of standard deviation sigma
    roots = [
        np.linalg.qr(np.column_stack([s, np.ones_like(s), ds]), mode="r") * dense.sigma[k]
        for k, (s, ds, _) in enumerate(dense.parts)
    ]
    drawn = expected_variances(dense.design, Scores(roots, np.ones(6), np.ones(6), None), dense.sigma)
    rng = np.random.default_rng(1)
    columns = [np.any(dense.a[dense.angle != k] != 0, axis=0) for k in range(6)]
    r = rng.normal(size=(len(dense.r), 300))
    steps = np.array([solve(dense.a[dense.angle != k][:, c], r[dense.angle != k])[:3] for k, c in enumerate(columns)])
    brute = 5 / 6 * ((steps - steps.mean(0)) ** 2).sum(0).T
    for a, b in zip(np.log(drawn).T, np.log(brute).T, strict=True):
        assert a.mean() == pytest.approx(b.mean(), abs=5 * b.std() / np.sqrt(170))
        assert a.std() == pytest.approx(b.std(), rel=0.25)
