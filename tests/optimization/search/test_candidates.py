"""Points from which a search sets out: where they lie, evenly, the same every time."""

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.models import get_model
from homodyne.optimization.search.candidates import SAMPLERS, candidates
from homodyne.parameters import with_bounds
from tests.reference import STATIC

STATIC_MODEL, FLOW_MODEL = get_model("static"), get_model("laminar_flow")
TRUE = np.array(list(STATIC.values()))
EVERY_SAMPLER = pytest.mark.parametrize("sampler", SAMPLERS)


@EVERY_SAMPLER
def test_candidates_fill_the_search_ranges_and_nothing_else(sampler):
    points = candidates(FLOW_MODEL.parameters, {}, 256, sampler)
    assert points.shape == (256, 7)
    for p, column in zip(FLOW_MODEL.parameters, points.T, strict=True):
        if p.search is None:
            assert np.all(column == p.start)
            continue
        low, high = p.search
        assert low <= column.min() < column.max() <= high
        middle = np.sqrt(low * high) if low > 0 else 0.5 * (low + high)
        assert 0.45 < np.mean(column < middle) < 0.55  # evenly, on a log scale where the range is positive


@EVERY_SAMPLER
@pytest.mark.parametrize("n", [1, 2, 100, 128])
def test_as_many_as_asked_for(sampler, n):
    points = candidates(STATIC_MODEL.parameters, {}, n, sampler)
    assert points.shape == (n, 3)
    assert len(np.unique(points[:, 0])) == n


@EVERY_SAMPLER
def test_each_part_of_a_range_has_its_point(sampler):
    """Stratified, which independent random points are not: one point in each of 64 equal parts, in every direction."""
    points = candidates(STATIC_MODEL.parameters, {}, 64, sampler)
    for p, column, move in zip(STATIC_MODEL.parameters[:2], points.T[:2], (np.log, np.asarray), strict=True):
        low, high = move(p.search)
        parts = np.floor(64 * (move(column) - low) / (high - low)).astype(int)
        assert sorted(parts) == list(range(64))


@EVERY_SAMPLER
def test_candidates_are_the_same_every_time(sampler):
    first, again = (candidates(FLOW_MODEL.parameters, {}, 64, sampler) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, candidates(FLOW_MODEL.parameters, {}, 64, sampler, seed=1))


def test_an_unknown_sampler_is_refused():
    with pytest.raises(InputError, match=r"strategy\.sampler='halton' is unknown; choose one of sobol, lhs"):
        candidates(STATIC_MODEL.parameters, {}, 8, "halton")


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
    np.testing.assert_array_equal(candidates(STATIC_MODEL.parameters, dict(STATIC), 8), TRUE[None, :])
