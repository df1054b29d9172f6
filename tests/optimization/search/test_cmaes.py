"""CMA-ES: it leaves local optima, never makes a fit worse, moves only what is free, and is the same every time."""

import dataclasses

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.optimization.search import CmaesNlsq, Optimum, State, StratifiedLS, get_strategy, search
from tests.optimization.search.landscapes import landscape, parameter

NAMES = ("x", "y")
PLANE = [parameter(n, -5.0, 5.0) for n in NAMES]
BEST = np.array([1.3, -2.2])


def egg_box(theta):
    """A bowl full of waves: a hundred local optima, the global one at BEST, of cost 1."""
    d = theta - BEST
    return 1 + 0.5 * d @ d + 2 * np.sum(1 - np.cos(2 * np.pi * d))


def funnels(theta):
    """Deceptive: a wide bowl of cost 1 around (-2, 0), a narrower one of cost 0.1 around (3, 3)."""
    return min(1 + 0.05 * np.sum((theta - [-2, 0]) ** 2), 0.1 + 0.5 * np.sum((theta - 3) ** 2))


def test_it_leaves_the_local_optimum_of_the_given_start():
    made = landscape(egg_box, PLANE, start={"x": -3.6, "y": 3.9})
    local = search(StratifiedLS(), made).best
    assert np.linalg.norm(local.theta - BEST) > 2
    state = search(CmaesNlsq(), made)
    np.testing.assert_allclose(state.best.theta, BEST, atol=1e-5)
    assert state.best.origin.startswith("CMA-ES, run ")
    assert state.found[0].origin == "given by the user"  # the record keeps all
    assert state.found[0].cost == pytest.approx(local.cost)


def test_it_finds_what_lies_outside_of_the_search_ranges():
    """Local fits begin where truth is likely; CMA-ES looks everywhere within the bounds."""
    near = [dataclasses.replace(p, search=(-3.0, 0.0)) for p in PLANE]
    made = landscape(funnels, near)
    local = search(StratifiedLS(), made)
    assert local.best.cost == pytest.approx(1.0)
    assert local.agreeing == local.descents
    state = search(CmaesNlsq(), made)
    np.testing.assert_allclose(state.best.theta, [3, 3], atol=1e-4)


@pytest.mark.parametrize("start", [{}, {"x": BEST[0] + 0.1, "y": BEST[1] - 0.1}])
def test_it_is_never_worse_than_the_local_fit(start):
    """Coarse costs that point to the wrong place: the local fit, which sees the true ones, wins."""
    searched = [dataclasses.replace(p, search=(p.lower, p.upper)) for p in PLANE]
    made = landscape(egg_box, searched, start, coarse=lambda theta: float(np.sum((theta - 4.5) ** 2)))
    local, state = search(StratifiedLS(), made).best, search(CmaesNlsq(restarts=1), made)
    assert state.best.cost <= local.cost
    if start:
        np.testing.assert_allclose(state.best.theta, BEST, atol=1e-5)
        assert state.best.origin == "given by the user"


def test_runs_end_when_two_agree(caplog):
    made = landscape(lambda theta: 1 + (theta - BEST) @ (theta - BEST), PLANE)
    with caplog.at_level("INFO", logger="homodyne"):
        state = search(CmaesNlsq(), made)
    assert [o.origin for o in state.found] == [
        "defaults of the model for x, y", "CMA-ES, run 1", "CMA-ES, run 2",
    ]  # fmt: skip
    lines = [r.getMessage() for r in caplog.records]
    assert lines[0].startswith("Search: local fit from the given start (1 points compared")
    for n in (1, 2):
        assert lines[n].startswith(f"Search: CMA-ES run {n}, ")
        assert "generations: an optimum no better than the best one so far (" in lines[n]


def test_runs_end_with_the_last_restart_and_double_the_population():
    """Where every run ends in another optimum no two agree."""
    sizes, ends = [], iter(range(10))
    made = landscape(egg_box, PLANE)
    compare = made.coarse

    def counted(points):
        sizes.append(len(points))
        return compare(points)

    made = dataclasses.replace(
        made, coarse=counted, refine=lambda theta, origin: Optimum(theta, 2.0 + next(ends), origin)
    )
    state = search(CmaesNlsq(population=5, restarts=2), made)
    assert [o.origin for o in state.found[1:]] == ["CMA-ES, run 1", "CMA-ES, run 2", "CMA-ES, run 3"]
    assert list(dict.fromkeys(sizes)) == [5, 10, 20]


def test_fixed_values_stay_and_bounds_hold():
    seen = []

    def cost(theta):
        seen.append(theta)
        return 1 + np.sum((theta - [9.0, 0.0, 0.3]) ** 2)  # beyond the bound of x

    three = [*PLANE, parameter("z", 0.0, 1.0)]
    state = search(CmaesNlsq(), landscape(cost, three, fixed={"y": 1.5}))
    points = np.array(seen)
    assert np.all(points[:, 1] == 1.5)
    assert np.all(np.abs(points[:, 0]) <= 5)
    assert np.all((points[:, 2] >= 0) & (points[:, 2] <= 1))
    np.testing.assert_allclose(state.best.theta, [5.0, 1.5, 0.3], atol=1e-5)


def test_one_free_parameter_and_none():
    made = landscape(egg_box, PLANE, fixed={"y": BEST[1]}, start={"x": -4.0})
    np.testing.assert_allclose(search(CmaesNlsq(), made).best.theta, BEST, atol=1e-5)
    state = search(CmaesNlsq(), landscape(egg_box, PLANE, fixed={"x": 1.0, "y": 1.0}))
    assert state.done
    assert [o.origin for o in state.found] == ["given by the user"]


def test_points_that_are_not_feasible_do_no_harm():
    made = landscape(egg_box, PLANE, start={"x": -3.6, "y": -3.9}, feasible=lambda theta: theta[1] < -0.5)
    np.testing.assert_allclose(search(CmaesNlsq(), made).best.theta, BEST, atol=1e-5)


def evolved(strategy, made, state):
    """Where a first run ends, before the local fit."""
    return strategy._evolve(made, state, 0)[0]


def test_a_parameter_that_spans_decades_is_found_on_its_scale():
    """1e-7 in a range of 1: on a linear scale no population would come near."""
    rate = parameter("rate", 1e-10, 1.0, scale=1e-3)

    def cost(theta):
        return 1 + (np.log10(theta[0]) + 7) ** 2 + (theta[1] - 2) ** 2

    start = np.array([0.5, 0.0])
    found = evolved(CmaesNlsq(), landscape(cost, [rate, PLANE[1]]), State((Optimum(start, cost(start), "start"),)))
    assert np.log10(found[0]) == pytest.approx(-7, abs=0.2)
    assert found[1] == pytest.approx(2, abs=0.2)


def test_the_same_every_time_and_different_by_seed():
    made = landscape(egg_box, PLANE, start={"x": -3.6, "y": 3.9})
    begun, _ = CmaesNlsq().step(made, State())
    first, again, other = (evolved(CmaesNlsq(seed=seed), made, begun) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 1}, r"strategy\.population=1 must be at least 4"),
        ({"population": -3}, r"strategy\.population=-3 must be at least 4"),
        ({"restarts": -1}, r"strategy\.restarts=-1 must not be negative"),
        (
            {"starts": 5},
            r"strategy\.starts=5 is not a setting of cmaes_nlsq; leave it out; it has population, restarts, seed",
        ),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        get_strategy("cmaes_nlsq", **settings)
