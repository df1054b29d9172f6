"""Starts from the data: where candidates lie, and that the truth is found among them."""

import dataclasses

import numpy as np
import pytest

from homodyne.models import get_model
from homodyne.optimization.source import all_frames, subset
from homodyne.optimization.start import candidates, rank, small_view
from homodyne.parameters import with_bounds
from tests.optimization.problems import problem
from tests.reference import STATIC

STATIC_MODEL, FLOW_MODEL = get_model("static"), get_model("laminar_flow")
TRUE = np.array(list(STATIC.values()))


def test_candidates_fill_the_search_ranges_and_nothing_else():
    points = candidates(FLOW_MODEL.parameters, {}, n=256)
    assert points.shape == (256, 7)
    for p, column in zip(FLOW_MODEL.parameters, points.T, strict=True):
        if p.search is None:
            assert np.all(column == p.start)
            continue
        low, high = p.search
        assert low <= column.min() < column.max() <= high
        middle = np.sqrt(low * high) if low > 0 else 0.5 * (low + high)
        assert 0.45 < np.mean(column < middle) < 0.55  # evenly, on a log scale where the range is positive


def test_candidates_are_the_same_every_time():
    np.testing.assert_array_equal(candidates(FLOW_MODEL.parameters, {}, 64), candidates(FLOW_MODEL.parameters, {}, 64))


def test_known_values_are_kept():
    points = candidates(FLOW_MODEL.parameters, {"D0": 123.0, "beta": 0.25}, n=64)
    assert np.all(points[:, 0] == 123.0)
    assert np.all(points[:, 4] == 0.25)
    assert len(np.unique(points[:, 3])) > 32


def test_user_bounds_limit_the_search():
    parameters = with_bounds(FLOW_MODEL.parameters, {"D0": (2e3, 3e3), "phi0": (-5.0, 5.0), "alpha": (1.0, 1.5)})
    points = candidates(parameters, {}, n=64)
    assert np.all((points[:, 0] >= 2e3) & (points[:, 0] <= 3e3))
    assert np.all(np.abs(points[:, 6]) <= 5.0)
    assert np.all(points[:, 1] == 1.0)  # the range that is searched ends below the bounds: their nearest edge


def test_everything_known_is_one_point():
    np.testing.assert_array_equal(candidates(STATIC_MODEL.parameters, dict(STATIC)), TRUE[None, :])


def test_small_view_takes_frames_from_first_to_last():
    source, _, _ = problem("static", n_t=60, n_phi=2)
    view = small_view(subset(source, 60))
    assert view.n_frames == 40
    assert (view.frames[0], view.frames[-1]) == (0, 59)
    i, j = np.triu_indices(40, k=1)
    np.testing.assert_array_equal(view.held[1][i, j], source.c2[1][np.ix_(view.frames, view.frames)][i, j])


def test_small_view_keeps_sigma_per_point():
    source, _, _ = problem("static", n_t=60, n_phi=2)
    sigma = np.random.default_rng(0).uniform(1, 2, source.c2.shape)
    view = small_view(subset(dataclasses.replace(source, sigma_points=sigma), 60))
    i, j = np.triu_indices(40, k=1)
    np.testing.assert_array_equal(view.held_sigma[0][i, j], sigma[0][np.ix_(view.frames, view.frames)][i, j])


@pytest.mark.parametrize("spoil", ["nothing", "an angle without points", "holes"])
def test_the_truth_ranks_first(spoil):
    source, _, _ = problem("static", n_t=40, n_phi=5)
    c2 = source.c2.copy()
    if spoil == "an angle without points":
        c2[1] = np.nan
    if spoil == "holes":
        c2[np.random.default_rng(0).random(c2.shape) < 0.3] = np.nan
    view = small_view(subset(dataclasses.replace(source, c2=c2), 40))
    points = candidates(STATIC_MODEL.parameters, {}, n=128)
    ranked = rank(STATIC_MODEL, view, np.vstack([points, TRUE]))
    assert ranked.shape == (129, 3)
    np.testing.assert_array_equal(ranked[0], TRUE)


def test_a_point_at_which_the_model_overflows_ranks_last():
    source, _, _ = problem("static", n_t=40, n_phi=5)
    growing = np.array([1.0, -0.5, -1e9])
    ranked = rank(STATIC_MODEL, small_view(subset(source, 40)), np.vstack([growing, TRUE, 0.5 * TRUE]))
    np.testing.assert_array_equal(ranked[[0, 2]], [TRUE, growing])


def test_a_streamed_view_cannot_be_compared_on():
    source, _, _ = problem("static", n_t=40, n_phi=5)
    with pytest.raises(AssertionError):
        small_view(all_frames(source))
