"""The curves with their errors, whatever of them is known."""

import dataclasses

import numpy as np
import pytest

from homodyne.plots import curves_figure
from homodyne.plots.canvas import write_png
from homodyne.plots.curves import rates_and_integrals, undetermined
from homodyne.result import Status
from tests.factories import make_curves, make_fit_result
from tests.plots.reading import texts


def only(table, first_letters):
    return table[[n for n in table.data_vars if str(n).startswith(first_letters)]]


def test_rates_find_their_integrals_by_unit_in_any_order():
    table = make_curves()
    assert rates_and_integrals(table) == [("J", "A"), ("gamma_dot", "G")]
    assert rates_and_integrals(table[list(table.data_vars)[::-1]]) == [("gamma_dot", "G"), ("J", "A")]
    assert rates_and_integrals(only(table, ("J", "A"))) == [("J", "A")]
    assert rates_and_integrals(only(table, ("J",))) == [("J", "")]


def test_not_determined_means_an_error_above_a_quarter_or_none():
    values = np.array([1.0, -1.0, 1.0, 1.0, 0.0])
    stderr = np.array([0.2, 0.3, np.inf, np.nan, 0.1])
    assert undetermined(values, stderr).tolist() == [False, True, True, True, True]


def test_both_rates_have_bands_units_and_the_other_errors():
    figure = curves_figure(make_fit_result())
    assert len(figure.axes) == 6
    words = texts(figure)
    for part in (
        "fit, errors: speckle",
        "95 % band",
        "jackknife",
        "iid",
        "Å$^2$ s$^{-1}$",
        "$t$ [s]",
        "not determined",
    ):
        assert part in words
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    assert "NOT CONVERGED (max_passes)" in texts(curves_figure(make_fit_result(status=Status.MAX_PASSES)))


def test_the_inner_band_is_one_standard_error_and_the_outer_two(tmp_path):
    result = make_fit_result()
    axis = curves_figure(result).axes[0]
    inner, outer = (band.get_paths()[0].vertices[:, 1] for band in axis.collections)
    first = float(result.curve_table["J"][1])
    assert inner.max() == pytest.approx(1.05 * first, rel=1e-4)
    assert outer.max() == pytest.approx((1.0 + 1.96 * 0.05) * first, rel=1e-4)


def test_a_static_model_has_one_column():
    assert len(curves_figure(make_fit_result(curve_table=only(make_curves(), ("J", "A")))).axes) == 3
    assert len(curves_figure(make_fit_result(curve_table=only(make_curves(), ("J",)))).axes) == 2


def test_errors_of_one_kind_are_enough():
    result = make_fit_result(3)
    table = result.curve_table
    table = table[[n for n in table.data_vars if "_speckle" not in str(n) and "_jackknife" not in str(n)]]
    iid = dataclasses.replace(
        result, uncertainties={"iid": result.uncertainties["iid"]}, covariance_method="iid", curve_table=table
    )
    words = texts(curves_figure(iid))
    assert "fit, errors: iid" in words
    assert "jackknife" not in words


@pytest.mark.parametrize("error", [np.inf, np.nan])
def test_a_curve_that_is_open_is_gray_all_over(error, tmp_path):
    table = make_curves()
    for name in [n for n in table.data_vars if str(n).startswith("gamma_dot_stderr")]:
        table[name] = ("t", np.full(table.sizes["t"], error))
    figure = curves_figure(make_fit_result(curve_table=table))
    left, right = figure.axes[0], figure.axes[1]
    assert (len(left.patches), len(right.patches)) == (0, 1)
    write_png(figure, tmp_path / "open.png")


def test_a_rate_that_changes_its_sign_has_a_linear_axis(tmp_path):
    table = make_curves()
    table["gamma_dot"] = table["gamma_dot"] - 2e-3
    table["gamma_dot"].attrs["units"] = "s^-1"
    figure = curves_figure(make_fit_result(curve_table=table))
    assert [axis.get_yscale() for axis in figure.axes[:2]] == ["log", "linear"]
    assert len(figure.axes[1].patches) == 1
    write_png(figure, tmp_path / "signs.png")
