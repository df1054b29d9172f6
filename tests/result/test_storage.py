"""A result in a file is the same result, whatever it holds."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from homodyne.errors import InputError
from homodyne.result import FitResult, Status
from tests.factories import make_fit_result
from tests.result.comparison import assert_same_result


def open_directions() -> FitResult:
    """Two directions open, so that errors are infinite, and a jackknife that found none."""
    result = make_fit_result(status=Status.NOT_IDENTIFIABLE, undetermined=("D0", "D_offset", "phi0"))
    null = np.zeros((7, 2))
    null[0, 0], null[2, 0], null[6, 1] = 1.0, -1.0, 1.0
    found = {m: dataclasses.replace(u, null=null) for m, u in result.uncertainties.items()}
    found["jackknife"] = dataclasses.replace(
        found["jackknife"], root=np.full((7, 4), np.nan), contrast_stderr=np.full(4, np.nan)
    )
    return dataclasses.replace(result, uncertainties=found, condition=np.inf)


RESULTS = {
    "plain": make_fit_result(),
    "iid alone": dataclasses.replace(
        make_fit_result(), uncertainties={"iid": make_fit_result().uncertainties["iid"]}, covariance_method="iid"
    ),
    "open directions": open_directions(),
    "everything fixed": dataclasses.replace(
        make_fit_result(),
        fixed=dict(make_fit_result().theta),
        uncertainties={
            m: dataclasses.replace(u, root=np.zeros((7, 0))) for m, u in make_fit_result().uncertainties.items()
        },
    ),
    "roots of many columns": dataclasses.replace(
        make_fit_result(),
        uncertainties={
            m: dataclasses.replace(u, root=np.random.default_rng(k).normal(size=(7, 3 + 5 * k)))
            for k, (m, u) in enumerate(make_fit_result().uncertainties.items())
        },
    ),
    "words": make_fit_result(
        findings=('D0 : 5 % & "quoted"', "second, with a comma", "Å and °"), warnings=("one", "two"), undetermined=()
    ),
    "optima": make_fit_result(
        optima=xr.Dataset(
            {
                "theta": (("optimum", "parameter"), np.random.default_rng(1).normal(size=(3, 7))),
                "chi2": ("optimum", np.array([1.01, 1.2, np.inf]), {"description": "chi2 per point on the subset"}),
                "origin": (
                    "optimum",
                    ["given by the user, defaults of the model for D0", "CMA-ES, run 2", "found from the data"],
                ),
            },
            coords={"parameter": [p.name for p in make_fit_result().parameters]},
        ),
        decision=dataclasses.replace(
            make_fit_result().decision,
            strategy="cmaes_nlsq",
            passes="hybrid_streaming",
            log_lines=("Strategy: one", "and two"),
        ),
    ),
    "twenty-three angles": make_fit_result(n_phi=23),
}


@pytest.mark.parametrize("case", RESULTS)
def test_what_is_read_is_what_was_written(case, tmp_path):
    made = RESULTS[case]
    path = made.save(tmp_path / "result.nc")
    read = FitResult.load(path)
    assert_same_result(read, made)
    assert_same_result(FitResult.load(read.save(tmp_path / "again.nc")), made)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.nc", "result.nc"]


@pytest.mark.parametrize("case", RESULTS)
def test_what_it_answers_is_the_same(case, tmp_path):
    made = RESULTS[case]
    read = FitResult.load(made.save(tmp_path / "result.nc"))
    for method in made.uncertainties:
        np.testing.assert_equal(read.stderr_by(method), made.stderr_by(method))
        np.testing.assert_array_equal(read.covariance_by(method), made.covariance_by(method))
        assert read.interval("alpha", 0.9, method) == pytest.approx(made.interval("alpha", 0.9, method), nan_ok=True)
    np.testing.assert_array_equal(read.correlation, made.correlation)
    assert read.table() == made.table()
    gradient = np.eye(7)[:, [0, 2, 6]]
    np.testing.assert_array_equal(read.uncertainty.stderr_of(gradient), made.uncertainty.stderr_of(gradient))
    assert read.uncertainty.dof == made.uncertainty.dof


def test_curves_and_diagnostics_keep_units_and_coordinates(tmp_path):
    made = make_fit_result()
    read = FitResult.load(made.save(tmp_path / "result.nc"))
    assert read.curves()["J"].attrs["units"] == "angstrom^2 s^-1"
    assert read.curves()["t"].attrs["units"] == "s"
    assert list(read.diagnostics["free_parameter"].values) == list(made.theta)
    assert read.diagnostics["by_lag_and_age"].dims == ("age", "lag")


def test_the_file_tells_errors_to_whoever_opens_it(tmp_path):
    """Without this package: numbers by name, units, texts."""
    made = open_directions()
    with xr.open_dataset(made.save(tmp_path / "result.nc")) as ds:
        assert ds["stderr_iid"].sel(parameter="alpha") == made.stderr_by("iid")["alpha"]
        assert np.isinf(ds["stderr"].sel(parameter="D0"))
        assert np.isnan(ds["stderr_jackknife"].sel(parameter="alpha"))
        assert ds.attrs["covariance_method"] == "speckle"
        assert ds.attrs["status"] == "not_identifiable"
        assert "D_offset" in ds.attrs["undetermined"]
        assert ds["curve_J"].attrs["units"] == "angstrom^2 s^-1"
        assert ds["unit"].sel(parameter="phi0") == "degree"


def test_a_folder_or_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="lies in a folder that is missing or not writable; create the folder"):
        make_fit_result().save(tmp_path / "no" / "result.nc")
    with pytest.raises(InputError, match=r"does not exist; give the result\.nc of a fit"):
        FitResult.load(tmp_path / "result.nc")
