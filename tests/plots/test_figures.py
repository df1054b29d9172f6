"""Every figure has units on its axes, says how its colors were chosen, and leaves no global state behind."""

import dataclasses

import matplotlib
import matplotlib._pylab_helpers
import matplotlib.image
import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.plots import history_figure, map_figures, memory_figure, save_figures
from homodyne.plots.history import FLOOR, excess_cost
from homodyne.plots.maps import chi2_texts, data_limits, residual, residual_reach
from homodyne.result import Status
from tests.factories import make_fit_result, make_history, make_maps, make_memory
from tests.plots.reading import texts


def test_save_figures_names_pages_and_leaves_no_partial_file(tmp_path):
    paths = save_figures(make_fit_result(7), make_maps(7, 20), tmp_path / "figures")
    assert [p.name for p in paths] == [
        "c2_maps_01.png", "c2_maps_02.png", "curves.png", "diagnostics.png", "convergence.png", "memory.png",
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == sorted(p.name for p in paths)
    for path in paths:
        height, width = matplotlib.image.imread(path).shape[:2]
        assert 400 < width < 2500
        assert 400 < height < 2500


def test_save_figures_refuses_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "figures").write_text("")
    with pytest.raises(InputError, match="folder="):
        save_figures(make_fit_result(2), [], tmp_path / "figures")


def test_pages_are_even():
    assert [len(f.axes) for f in map_figures(make_maps(7, 12))] == [3 * 4 + 2, 3 * 3 + 2]
    assert map_figures([]) == []


def test_data_and_model_share_one_stated_range_over_all_pages():
    maps = make_maps(8, 60)
    off_diagonal = np.concatenate([m.data[~np.eye(60, dtype=bool)] for m in maps])
    expected = tuple(np.percentile(off_diagonal, [0.1, 99.9]))
    assert data_limits(maps) == pytest.approx(expected)
    for figure in map_figures(maps):
        images = [a.images[0] for a in figure.axes if a.images and a.get_aspect() != "auto"]
        columns = len(images) // 3
        for image in images[: 2 * columns]:
            assert image.get_clim() == pytest.approx(expected)
        for image in images[2 * columns :]:
            low, high = image.get_clim()
            assert low == -high
            assert high >= 3.0
        assert "0.1–99.9 % of the data" in texts(figure)


def test_outliers_and_masked_frames_do_not_move_the_range():
    clean = make_maps(1, 80)[0]
    data = clean.data.copy()
    data[3, 5] = data[5, 3] = 1e6
    data[10, :] = data[:, 10] = np.nan
    low, high = data_limits([dataclasses.replace(clean, data=data)])
    assert low == pytest.approx(data_limits([clean])[0], abs=2e-3)
    assert high < 1.4


def test_a_model_outside_the_data_colors_is_marked():
    m = make_maps(1, 40)[0]
    assert "outside colors" not in texts(map_figures([m])[0])
    assert "100 % outside colors" in texts(map_figures([dataclasses.replace(m, model=m.model + 5.0)])[0])


def test_all_nan_angle_still_draws(tmp_path):
    m = make_maps(1, 20)[0]
    empty = dataclasses.replace(m, data=np.full((20, 20), np.nan))
    assert data_limits([empty]) == (0.0, 1.0)
    assert residual_reach([empty]) == 3.0
    save_figures(make_fit_result(1), [empty], tmp_path)


def test_residual_is_in_units_of_the_noise():
    values = residual(make_maps(1, 200, noise=0.02)[0])
    assert np.nanstd(values) == pytest.approx(1.0, abs=0.02)


def test_map_axes_have_units_and_chi2():
    result = make_fit_result(2, chi2_per_angle=np.array([1.234, 1.5]))
    words = texts(map_figures(make_maps(2, 20), chi2_texts(result))[0])
    assert "t_2$ [s]" in words
    assert "1.23 (noise 1.01)" in words
    without = make_fit_result(2, diagnostics=result.diagnostics.drop_vars("chi2_expected"))
    assert "noise" not in "".join(chi2_texts(without).values())


def test_excess_cost_compares_a_stage_with_itself():
    history = make_history(n_subset=5, n_full=3)
    excess = excess_cost(history)
    for inside in (slice(0, 5), slice(5, 8)):
        cost = history["cost"].values[inside]
        assert excess[inside] == pytest.approx(cost / cost.min() - 1.0)
    assert excess[4] == 0.0 < FLOOR


def test_history_figure_tells_stages_and_rejected_trials():
    words = texts(history_figure(make_fit_result(10, status=Status.MAX_PASSES)))
    for part in ("max_passes", "subset: 44.9 k points", "full: 0.449 M points", "rejected trial", "standard errors"):
        assert part in words


def test_history_draws_the_passes_of_every_optimum():
    history = make_history(n_subset=2, n_full=6)
    stage = history["stage"].values.astype("<U6")
    stage[-3:] = "full_2"
    figure = history_figure(make_fit_result(2, history=history.assign(stage=("pass", stage))))
    (legend,) = figure.legends
    assert any(text.get_text().startswith("full, second optimum: ") for text in legend.get_texts())
    step = [line for line in figure.axes[1].lines if line.get_linestyle() == "--"]
    assert sorted(x for line in step for x in line.get_xdata()) == list(range(1, 9))


def test_history_with_one_stage_one_pass_and_nan_cost():
    history = make_history(n_subset=0, n_full=3)
    history["cost"][1] = np.nan
    history_figure(make_fit_result(2, history=history))
    words = texts(history_figure(make_fit_result(2, history=make_history(n_subset=0, n_full=1))))
    assert "subset" not in words


@pytest.mark.parametrize(("threshold", "off_scale"), [(47.0, True), (1.5, False)])
def test_memory_figure_shows_the_threshold_on_or_off_scale(threshold, off_scale):
    figure = memory_figure(make_fit_result(2, memory=make_memory(threshold)))
    assert ("off this scale" in texts(figure)) == off_scale
    assert figure.axes[0].get_ylim()[0] == 0.0
    assert (figure.axes[0].get_ylim()[1] > threshold) != off_scale
    for part in ("predicted peak, 1.00 GB", "2^{30}", f"{threshold:.1f} GB", "[s]"):
        assert part in texts(figure)


def test_memory_of_a_fit_too_short_to_be_sampled():
    empty = dataclasses.replace(make_memory(), series_seconds=np.array([]), series_gb=np.array([]))
    memory_figure(make_fit_result(2, memory=empty))


def test_drawing_leaves_no_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    save_figures(make_fit_result(2), make_maps(2, 12), tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert matplotlib._pylab_helpers.Gcf.figs == {}
