"""Many starts: settings, and the basin that few points miss."""

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.optimization.search import Multistart, StratifiedLS, get_strategy, search
from tests.optimization.search.landscapes import landscape, parameter

PLANE = [parameter("x", -5.0, 5.0, search=(-5.0, 5.0)), parameter("y", -5.0, 5.0, search=(-5.0, 5.0))]
HOLE = np.array([3.1, 2.7])


def needle(theta):
    """A bowl of least cost 1 at the origin, and a hole of cost 0 so narrow that one point in 500 falls into it."""
    return min(1 + 0.1 * theta @ theta, 40 * np.sum((theta - HOLE) ** 2))


def test_more_points_find_what_few_miss():
    made = landscape(needle, PLANE)
    few = search(StratifiedLS(), landscape(needle, PLANE, start={"x": 0.5, "y": 0.5}))
    assert few.best.cost == pytest.approx(1.0)
    for sampler in ("sobol", "lhs"):
        state = search(Multistart(starts=4096, descents=64, sampler=sampler), made)
        np.testing.assert_allclose(state.best.theta, HOLE, atol=1e-4)
        assert state.done
        assert state.descents == 64


def test_the_users_start_competes_and_can_win():
    """A hole that no point falls into, but the user knows."""

    def cost(theta):
        return min(1 + 0.1 * theta @ theta, 4e6 * np.sum((theta - HOLE) ** 2))

    at = dict(zip("xy", HOLE + 1e-4, strict=True))
    state = search(Multistart(256, 8), landscape(cost, PLANE, start=at))
    assert state.found[0].origin == state.best.origin == "given by the user"
    np.testing.assert_allclose(state.best.theta, HOLE, atol=1e-4)
    assert {o.origin for o in state.found[1:]} == {"found from the data"}


def test_the_users_start_competes_and_can_lose():
    state = search(Multistart(4096, 64), landscape(needle, PLANE, start={"x": -1.0, "y": 0.0}))
    assert state.found[0].cost == pytest.approx(1.0)
    np.testing.assert_allclose(state.best.theta, HOLE, atol=1e-4)


def test_its_line_in_the_log(caplog):
    with caplog.at_level("INFO", logger="homodyne"):
        search(Multistart(64, 4), landscape(lambda theta: 1 + theta @ theta, PLANE))
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith(
        "Search: 4 of 4 descents from different points end in the best optimum (64 points compared, "
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"starts": 0}, r"strategy\.starts=0 must be at least 1"),
        ({"descents": 0}, r"strategy\.descents=0 must be at least 1"),
        ({"sampler": "grid"}, r"strategy\.sampler='grid' is unknown; choose one of sobol, lhs"),
        (
            {"restarts": 2},
            r"strategy\.restarts=2 is not a setting of multistart; leave it out; it has starts, descents, sampler",
        ),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        get_strategy("multistart", **settings)
