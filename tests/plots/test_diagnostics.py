"""What the residuals say, with and without errors from speckle."""

import numpy as np
import pytest
import xarray as xr

from homodyne.plots import diagnostics_figure
from homodyne.plots.canvas import write_png
from homodyne.plots.diagnostics import edges, log_edges, scaled_influence
from homodyne.plots.residuals import expected_counts, moments
from tests.factories import make_diagnostics, make_fit_result
from tests.plots.reading import texts


def test_every_panel_says_what_it_shows():
    words = texts(diagnostics_figure(make_fit_result(6)))
    for part in (
        "(a) does every angle fit?", "noise of speckle ± 2 s.d.", "1.002", "$\\phi$ [degree]", "(b) does one angle decide?",
        "shift [standard errors]", "gamma_dot_offset", "s.d. 1.000", "as of speckle noise", "mean residual by lag",
        "(t_1 + t_2) / 2$ [s]", "contrast [%]",
    ):  # fmt: skip
        assert part in words


def test_what_is_not_known_is_not_shown(tmp_path):
    table = make_diagnostics(np.array([-10.0, 0.0, 70.0]))
    table = table.drop_vars(["counts", "pixels", "chi2_expected", "chi2_sd", "share", "influence"])
    figure = diagnostics_figure(make_fit_result(3, diagnostics=table))
    words = texts(figure)
    assert "expectation not known" in words
    assert "not computed for 3 angles" in words
    assert "speckle" not in words
    write_png(figure, tmp_path / "few.png")


def test_influence_is_in_units_of_the_chosen_error_and_in_order_of_angles():
    phi = np.array([40.0, -40.0, 0.0, 80.0, -80.0])
    result = make_fit_result(5, phi=phi, diagnostics=make_diagnostics(phi), undetermined=("beta",))
    found = scaled_influence(result)
    assert found["phi"].values.tolist() == sorted(phi)
    shift = float(result.diagnostics["influence"].sel(phi=-40.0, free_parameter="D0"))
    assert float(found.sel(phi=-40.0, free_parameter="D0")) == pytest.approx(shift / 41.0)
    assert np.isnan(found.sel(free_parameter="beta")).all()


@pytest.mark.parametrize("n_phi", [1, 36])
def test_one_angle_and_many(n_phi, tmp_path):
    write_png(diagnostics_figure(make_fit_result(n_phi)), tmp_path / "figure.png")


def test_the_map_is_symmetric_about_zero_and_gaps_are_no_data(tmp_path):
    table = make_diagnostics(np.linspace(-80.0, 82.0, 4))
    table["by_lag_and_age"][3:9, 4:] = np.nan
    figure = diagnostics_figure(make_fit_result(diagnostics=table))
    low, high = figure.axes[5].collections[0].get_clim()
    assert -low == high > 0
    write_png(figure, tmp_path / "gaps.png")


def test_residuals_that_vanish_are_drawn(tmp_path):
    table = make_diagnostics(np.linspace(-80.0, 82.0, 4))
    zero = xr.zeros_like(table[["by_lag", "by_age", "by_lag_and_age"]])
    write_png(diagnostics_figure(make_fit_result(diagnostics=table.assign(zero.data_vars))), tmp_path / "zero.png")


def test_edges_lie_between():
    assert edges(np.array([1.0, 2.0, 4.0])).tolist() == [0.5, 1.5, 3.0, 5.0]
    assert log_edges(np.array([1.0, 100.0])) == pytest.approx([0.1, 10.0, 1000.0])
    assert log_edges(np.array([2.0]))[0] < 2.0 < log_edges(np.array([2.0]))[1]


def test_expected_counts_are_a_gaussian():
    bins = np.linspace(-6, 6, 122)
    for sd in (1.0, 1.2):
        expected = expected_counts(bins, 1000.0, sd)
        assert expected.sum() == pytest.approx(1000.0, rel=1e-5)
        assert moments(bins, expected) == pytest.approx((0.0, sd), abs=1e-3)
    assert np.isnan(moments(bins, np.zeros(121))).all()
