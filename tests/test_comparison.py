"""Nested fits are told apart by tests that know how speckle noise is correlated."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import chi2

import homodyne
from homodyne.errors import InputError
from homodyne.simulate import speckle_maps
from tests.optimization.problems import uniform_fit

STATIC = {"D0": 8e3, "alpha": -0.4, "D_offset": 0.0}
FLOW = {**STATIC, "gamma_dot_0": 2e-3, "beta": 0.0, "gamma_dot_offset": 0.0, "phi0": 2.0}
PHI, T, Q, GAP = np.array([0.0, 45.0, 90.0]), 0.2 * np.arange(40), 0.0054, 2e6


def maps(theta, seed=1):
    model = "laminar_flow" if "phi0" in theta else "static"
    return speckle_maps(model, theta, PHI, T, Q, GAP, contrast=0.3, counts=2.0, pixels=1500, seed=seed)


@pytest.fixture(scope="module")
def static():
    return homodyne.Dataset.from_arrays(maps(STATIC), PHI, T, Q, GAP)


def test_one_parameter_more_follows_a_scaled_chi2(static):
    """For one restriction the drop is chi2 with one degree of freedom times the ratio of honest to iid variance."""
    small = uniform_fit(static, "static", start=STATIC, fixed={"alpha": -0.4, "D_offset": 0.0})
    large = uniform_fit(static, "static", start=STATIC, fixed={"D_offset": 0.0})
    (test,) = homodyne.compare([small, large]).tests
    assert (test.small, test.large, test.restricted) == (0, 1, ("alpha",))
    dof = [r.n_points - r.n_parameters for r in (small, large)]
    drop = small.chi2_reduced * dof[0] / large.chi2_reduced - dof[1]
    assert test.drop == pytest.approx(drop, rel=1e-9)
    ratio = (large.stderr["alpha"] / large.stderr_by("iid")["alpha"]) ** 2
    assert ratio > 4
    assert test.p_value == pytest.approx(chi2.sf(drop / ratio, 1), abs=0.005)
    assert test.naive_p_value == pytest.approx(chi2.sf(drop, 1), rel=1e-9)
    # the order in the list does not matter
    (again,) = homodyne.compare([large, small]).tests
    assert (again.small, again.large, again.p_value) == (1, 0, test.p_value)


def test_a_wrong_restriction_is_refuted(static):
    small = uniform_fit(static, "static", start={**STATIC, "alpha": 0.0}, fixed={"alpha": 0.0, "D_offset": 0.0})
    large = uniform_fit(static, "static", start=STATIC, fixed={"D_offset": 0.0})
    found = homodyne.compare([small, large])
    assert found.tests[0].refuted
    assert found.best == 1
    assert "refutes static (alpha=0, D_offset=0)" in found.table()


@pytest.mark.parametrize("theta", [STATIC, FLOW], ids=["no shear", "shear"])
def test_shear_or_none_by_simulation(theta):
    data = homodyne.Dataset.from_arrays(maps(theta, seed=3), PHI, T, Q, GAP)
    held = {"D_offset": 0.0}
    small = uniform_fit(data, "static", start={"D0": 8e3, "alpha": -0.4}, fixed=held)
    large = uniform_fit(data, "laminar_flow", fixed={**held, "gamma_dot_offset": 0.0, "beta": 0.0})
    found = homodyne.compare([small, large], replicates=4)
    (test,) = found.tests
    assert test.restricted == ("gamma_dot_0", "phi0")
    assert test.drop > 0
    if theta is FLOW:  # no simulation without shear comes near
        assert test.p_value == pytest.approx(1 / 5)
        assert test.drop > 1000
    else:
        assert test.p_value > 1 / 5
        assert not test.refuted
        assert found.best == 0


def test_fits_of_other_data_are_not_compared(static):
    one = uniform_fit(static, "static", start=STATIC, fixed={"D_offset": 0.0})
    other = dataclasses.replace(one, n_points=one.n_points - 1)
    with pytest.raises(InputError, match="other points"):
        homodyne.compare([one, other])
    with pytest.raises(InputError, match="fewer than two"):
        homodyne.compare([one])


def test_fits_that_are_not_nested_have_no_test(static):
    one = uniform_fit(static, "static", start=STATIC, fixed={"D_offset": 0.0})
    other = uniform_fit(static, "static", start=STATIC, fixed={"alpha": -0.4})
    found = homodyne.compare([one, other])
    assert found.tests == ()
    assert len(found.table().splitlines()) == 3
