"""What a result answers: errors by several methods, intervals, correlations, the table."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from homodyne.errors import InputError
from homodyne.result import FitResult, Status, Uncertainty
from tests.factories import ERRORS, make_fit_result

NAMES = ["D0", "alpha", "D_offset", "gamma_dot_0", "beta", "gamma_dot_offset", "phi0"]


def with_roots(result: FitResult, root: np.ndarray, **replaced) -> FitResult:
    """The same root by every method."""
    found = {m: dataclasses.replace(u, root=root) for m, u in result.uncertainties.items()}
    return dataclasses.replace(result, uncertainties=found, **replaced)


@pytest.fixture(scope="module")
def correlated():
    """Errors of the factory, correlated by a root with more columns than parameters."""
    root = np.random.default_rng(0).normal(size=(7, 12))
    root *= (np.array(ERRORS) / np.sqrt((root**2).sum(1)))[:, None]
    return with_roots(make_fit_result(), root), root


def test_the_chosen_method_comes_first():
    result = make_fit_result()
    assert result.stderr == result.stderr_by("speckle") == pytest.approx(dict(zip(NAMES, ERRORS, strict=True)))
    assert result.stderr_by("iid") == pytest.approx({n: 0.3 * e for n, e in zip(NAMES, ERRORS, strict=True)})
    iid = dataclasses.replace(result, covariance_method="iid")
    assert iid.stderr == result.stderr_by("iid")
    assert iid.uncertainty is result.uncertainties["iid"]
    np.testing.assert_array_equal(iid.contrast_stderr, 0.3 * 2e-4)
    np.testing.assert_array_equal(result.offset_stderr, 5e-5)


def test_covariance_and_correlation(correlated):
    result, root = correlated
    np.testing.assert_allclose(result.covariance.values, root @ root.T)
    unit = root / np.sqrt((root**2).sum(1))[:, None]
    np.testing.assert_allclose(result.correlation.values, unit @ unit.T)
    assert list(result.correlation.parameter.values) == list(result.correlation.parameter_.values) == NAMES
    assert float(result.correlation.sel(parameter="D0", parameter_="alpha")) == pytest.approx(unit[0] @ unit[1])


def test_undetermined_parameters_have_infinite_errors_and_no_correlation(correlated):
    result = dataclasses.replace(correlated[0], undetermined=("D0", "D_offset"))
    assert {n for n, e in result.stderr.items() if np.isinf(e)} == {"D0", "D_offset"}
    others = ["alpha", *NAMES[3:]]
    np.testing.assert_array_equal(result.correlation.sel(parameter=others, parameter_=others), correlated[0].correlation.sel(parameter=others, parameter_=others))  # fmt: skip
    assert np.all(np.isnan(result.correlation.sel(parameter=["D0", "D_offset"])))
    assert np.all(np.isnan(result.covariance.sel(parameter="D0", parameter_=others)))
    assert result.interval("D_offset", 0.95) == (-np.inf, np.inf)
    assert result.table().count("undetermined") == 2


def test_fixed_parameters_are_known(correlated):
    root = correlated[1] * (np.array(NAMES) != "alpha")[:, None]
    result = with_roots(make_fit_result(), root, fixed={"alpha": -0.4})
    assert result.stderr["alpha"] == 0
    assert result.interval("alpha") == (result.theta["alpha"],) * 2
    assert np.all(np.isnan(result.correlation.sel(parameter="alpha")))
    assert np.isfinite(result.correlation.sel(parameter="D0", parameter_="beta"))


def test_there_is_no_error_at_a_bound_or_a_border():
    at_bound = dict.fromkeys(NAMES, False) | {"beta": True}
    result = make_fit_result(at_bound=at_bound)
    for method in ("speckle", "jackknife", "iid"):
        assert [n for n, e in result.stderr_by(method).items() if np.isnan(e)] == ["beta"]
    assert np.isnan(result.interval("beta")).all()
    border = make_fit_result(status=Status.BORDER, fixed={"phi0": 2.0})
    assert [n for n, e in border.stderr.items() if np.isfinite(e)] == ["phi0"]


@pytest.mark.parametrize("level", [0.5, 0.6827, 0.95, 0.999])
def test_intervals_take_the_quantiles_of_their_distribution(level):
    result = make_fit_result(n_phi=6)
    for method, distribution in (
        ("speckle", scipy.stats.norm()),
        ("jackknife", scipy.stats.t(5)),
        ("iid", scipy.stats.norm()),
    ):
        error = result.stderr_by(method)["D0"]
        low, high = result.interval("D0", level, method)
        half = distribution.ppf(0.5 + level / 2) * error
        assert (low, high) == pytest.approx((result.theta["D0"] - half, result.theta["D0"] + half), rel=1e-10)
    assert result.interval("D0", level) == result.interval("D0", level, "speckle")
    assert result.interval("D0") == result.interval("D0", 0.6827)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("D",), r"name='D' is not a parameter; choose one of D0, alpha"),
        (("D0", 0.0), r"level=0\.0 must lie between 0 and 1; 0\.6827 is one standard error"),
        (("D0", 1.0), r"level=1\.0 must lie between 0 and 1"),
        (("D0", 95), r"level=95 must lie between 0 and 1"),
        (("D0", float("nan")), r"level=nan must lie between 0 and 1"),
        (("D0", 0.95, "bootstrap"), r"method='bootstrap' was not computed; choose one of speckle, jackknife, iid"),
    ],
)
def test_wrong_questions_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_fit_result().interval(*arguments)


@pytest.mark.parametrize("ask", [FitResult.stderr_by, FitResult.covariance_by])
def test_a_method_that_was_not_computed(ask):
    result = make_fit_result()
    few = dataclasses.replace(result, uncertainties={m: u for m, u in result.uncertainties.items() if m != "jackknife"})
    with pytest.raises(InputError, match=r"method='jackknife' was not computed; choose one of speckle, iid"):
        ask(few, "jackknife")
    assert "(jackknife)" not in few.table()


def test_the_table_shows_all_methods_beside_each_other():
    lines = make_fit_result().table().splitlines()
    assert lines[0].split() == ["parameter", "unit", "value", "speckle", "(jackknife)", "(iid)", "remark"]
    assert lines[1].split() == ["D0", "angstrom^2", "s^-1", "8024", "41", "53.3", "12.3"]
    assert len(lines) == 8
    iid = dataclasses.replace(make_fit_result(), covariance_method="iid").table().splitlines()
    assert iid[0].split() == ["parameter", "unit", "value", "iid", "(jackknife)", "remark"]
    assert iid[1].split()[4:] == ["12.3", "53.3"]


def test_roots_know_combinations_that_errors_do_not():
    """Two parameters without errors of their own whose sum is known."""
    root = np.zeros((7, 2))
    root[0], root[2] = [10.0, 0.0], [-10.0, 1.0]
    u = Uncertainty("speckle", root, np.zeros((7, 0)), np.zeros(1), np.zeros(1))
    assert u.stderr_of(np.array([1.0, 0, 1.0, 0, 0, 0, 0])) == pytest.approx(1.0)
    assert u.stderr_of(np.array([1.0, 0, -1.0, 0, 0, 0, 0])) == pytest.approx(np.hypot(20, 1))


def test_a_profile_of_a_result_from_a_file_says_what_to_call():
    with pytest.raises(InputError, match=r"call homodyne\.profile\(dataset, result, name\)"):
        make_fit_result().profile("D0")
