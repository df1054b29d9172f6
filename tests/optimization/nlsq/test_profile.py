"""A profile is the rise of the least chi2 along one parameter, in honest units, whatever the model's shape."""

import numpy as np
import pytest

import homodyne
from homodyne.errors import InputError
from homodyne.simulate import speckle_maps
from tests.optimization.problems import uniform_fit
from tests.reference import integral

THETA = {"D0": 8e3, "alpha": -0.4, "D_offset": 0.0}
PHI, T, Q = np.array([0.0, 40.0, 90.0]), 0.1 * np.arange(40), 0.0054


@pytest.fixture(scope="module")
def data():
    c2 = speckle_maps("static", THETA, PHI, T, Q, contrast=0.3, counts=2.0, pixels=3000, seed=5)
    return homodyne.Dataset.from_arrays(c2, PHI, T, Q)


@pytest.fixture(scope="module")
def result(data):
    return uniform_fit(data, "static", start=THETA, fixed={"alpha": -0.4, "D_offset": 0.0})


def least_chi2(data, result, d0):
    """Weighted residual sum of squares with contrast and offset of every angle solved for, in NumPy."""
    i, j = np.triu_indices(len(T), 1)
    a = integral(d0, THETA["alpha"], THETA["D_offset"], T, 0.1)
    s = np.exp(-(Q**2) * (a[j] - a[i]))
    x = np.stack([s, np.ones_like(s)], axis=1)
    total = 0.0
    for k in range(len(PHI)):
        y = data.read_block(k, slice(0, len(T)), slice(0, len(T)))[i, j]
        total += np.sum((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2) / result.sigma[k] ** 2
    return total


def test_the_statistic_is_the_rise_of_chi2_in_honest_units(data, result):
    profile = result.profile("D0")
    ratio = (result.stderr["D0"] / result.stderr_by("iid")["D0"]) ** 2
    assert ratio > 4  # pairs share frames
    best = least_chi2(data, result, result.theta["D0"])
    expected = [(least_chi2(data, result, v) - best) / (result.chi2_reduced * ratio) for v in profile.values]
    np.testing.assert_allclose(profile.statistic, expected, rtol=1e-4, atol=1e-5)
    assert np.all(np.diff(profile.values) > 0)


def test_intervals_end_where_the_statistic_reaches_the_squared_quantile(data, result):
    profile = result.profile("D0", levels=(0.6827, 0.95))
    ratio = (result.stderr["D0"] / result.stderr_by("iid")["D0"]) ** 2
    best = least_chi2(data, result, result.theta["D0"])
    for level, squared in ((0.6827, 1.0), (0.95, 1.959964**2)):
        for end in profile.interval(level):
            statistic = (least_chi2(data, result, end) - best) / (result.chi2_reduced * ratio)
            assert statistic == pytest.approx(squared, rel=0.05)
        # one well determined rate: nearly the symmetric interval
        np.testing.assert_allclose(profile.interval(level), result.interval("D0", level), rtol=0.03)
    assert abs(profile.asymmetry) < 0.1


def test_what_the_data_leave_open_has_no_limit(data):
    """With alpha = 0 only the sum of D0 and D_offset counts: a bound comes before any rise of chi2."""
    start = {"D0": 5e3, "D_offset": 3e3}
    result = uniform_fit(data, "static", start=start, fixed={"alpha": 0.0}, bounds={"D0": (1e3, 1e4)})
    assert np.isinf(result.stderr["D0"])
    profile = result.profile("D0")
    assert profile.interval(0.95) == (-np.inf, np.inf)
    assert profile.statistic.max() < 1e-3
    assert (profile.values[0], profile.values[-1]) == (1e3, 1e4)


def test_a_result_from_a_file_needs_its_data(data, result, tmp_path):
    loaded = homodyne.FitResult.load(result.save(tmp_path / "result.nc"))
    with pytest.raises(InputError, match="read from a file"):
        loaded.profile("D0")
    again = homodyne.profile(data, loaded, "D0")
    np.testing.assert_allclose(again.interval(0.95), result.profile("D0").interval(0.95), rtol=1e-6)


@pytest.mark.parametrize(("name", "words"), [("alpha", "is fixed"), ("D_0", "is not a parameter")])
def test_bad_names(result, name, words):
    with pytest.raises(InputError, match=words):
        result.profile(name)
