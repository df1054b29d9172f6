"""What a posterior says of itself, from draws made by hand."""

import dataclasses

import numpy as np
import pytest

from homodyne import InputError
from homodyne.result.arviz import load_arviz
from homodyne.result.posterior import Posterior

MEAN, COVARIANCE = np.array([8e3, -0.4]), np.array([[1e4, -4.0], [-4.0, 2.5e-3]])


def make_posterior(n=4000, log_weight=None, **replaced):
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal(MEAN, COVARIANCE, size=(4, n // 4))
    weight = np.zeros(z.shape[:2]) if log_weight is None else log_weight(z)
    idata = load_arviz().from_dict(
        {"D0": z[..., 0], "alpha": z[..., 1], "contrast": np.full((4, n // 4, 3), 0.3)},
        sample_stats={"lp": np.zeros(z.shape[:2]), "log_weight": weight}, dims={"contrast": ["phi"]},
        coords={"phi": [0.0, 30.0, 60.0]},
    )  # fmt: skip
    made = Posterior(
        idata=idata, names=("D0", "alpha"), units=("angstrom^2 s^-1", ""), priors={"D0": "uniform", "alpha": "uniform"},
        method="nuts", likelihood="honest", model="static", convention="physical", scaling="individual",
        rhat={"D0": 1.001, "alpha": 1.002}, ess={"D0": 3000.0, "alpha": 2900.0}, divergences=0, summary_error=0.01,
        pareto_k=0.0, fit_theta={"D0": 8.1e3, "alpha": -0.41}, fit_covariance=COVARIANCE, n_points=10_000, seconds=3.0,
        peak_gb=0.7, shards=((0.0, 60.0), (30.0,)), findings=("Priors: uniform",), settings={"seed": 0},
    )  # fmt: skip
    return dataclasses.replace(made, **replaced)


def test_moments_and_intervals_are_those_of_the_draws():
    found = make_posterior(40_000)
    assert found.mean["D0"] == pytest.approx(8e3, abs=2)
    assert found.sd["alpha"] == pytest.approx(0.05, rel=0.02)
    assert float(found.correlation.sel(parameter="D0", parameter_="alpha")) == pytest.approx(-0.8, abs=0.01)
    low, high = found.interval("D0", 0.95)
    assert (low, high) == pytest.approx((8e3 - 196, 8e3 + 196), abs=5)


def test_weights_move_mean_and_interval():
    """Weights exp(a z) of a normal distribution shift its mean by a times the variance."""
    found = make_posterior(40_000, log_weight=lambda z: (z[..., 0] - 8e3) / 100.0)
    assert found.mean["D0"] == pytest.approx(8100, abs=5)
    low, high = found.interval("D0")
    assert (low, high) == pytest.approx((8e3, 8.2e3), abs=6)


@pytest.mark.parametrize(
    ("replaced", "status", "text"),
    [
        ({}, "converged", "at most 1.002"),
        ({"rhat": {"D0": 1.3, "alpha": 1.0}}, "not_mixed", "R-hat of D0 is 1.300"),
        ({"rhat": {"D0": np.nan, "alpha": 1.0}}, "not_mixed", "do not agree"),
        ({"ess": {"D0": 90.0, "alpha": 500.0}}, "too_few_draws", "of D0 is 90"),
        ({"pareto_k": 0.9}, "weights_failed", "method='nuts'"),
    ],
)
def test_status_and_message(replaced, status, text):
    found = make_posterior(400, **replaced)
    assert found.status == status
    assert found.converged == (status == "converged")
    assert text in found.message


def test_a_saved_posterior_is_the_same(tmp_path):
    found = make_posterior(400)
    again = Posterior.load(found.save(tmp_path / "posterior.nc"))
    assert again.table() == found.table()
    for field in dataclasses.fields(found):
        if field.name not in ("idata", "fit_covariance"):
            assert getattr(again, field.name) == getattr(found, field.name), field.name
    np.testing.assert_array_equal(again.fit_covariance, found.fit_covariance)
    np.testing.assert_array_equal(again.idata.posterior["contrast"], found.idata.posterior["contrast"])
    assert "homodyne" not in found.idata.posterior.attrs
    assert [path.name for path in tmp_path.iterdir()] == ["posterior.nc"]


def test_bad_names_levels_and_files_are_named(tmp_path):
    found = make_posterior(400)
    with pytest.raises(InputError, match="gamma"):
        found.interval("gamma")
    with pytest.raises(InputError, match="level"):
        found.interval("D0", 1.5)
    with pytest.raises(InputError, match="does not exist"):
        Posterior.load(tmp_path / "no.nc")
    with pytest.raises(InputError, match="not writable"):
        found.save(tmp_path / "no" / "posterior.nc")
    found.idata.to_netcdf(str(tmp_path / "other.nc"))
    with pytest.raises(InputError, match=r"not written by Posterior\.save"):
        Posterior.load(tmp_path / "other.nc")
