"""Local fits, from the user's start or from many points, and which optima go on to all points."""

import dataclasses

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.optimization.search import HybridStreaming, Optimum, State, StratifiedLS, search
from homodyne.optimization.search.local import agreement, from_given, from_many
from tests.optimization.search.landscapes import landscape, parameter

X, Y = parameter("x", -2.0, 2.0, search=(-2.0, 2.0)), parameter("y", -3.0, 3.0)


def double_well(tilt=0.0, level=10.0):
    """(x**2 - 1)**2 + tilt x + level: wells near -1 and 1, a barrier of 1 between them; y at 0.5."""
    return lambda theta: (theta[0] ** 2 - 1) ** 2 + tilt * theta[0] + level + (theta[1] - 0.5) ** 2


def optimum_at(made, x, origin="test"):
    return made.refine(np.array([x, 0.0]), origin)


@pytest.mark.parametrize("strategy", [StratifiedLS(), HybridStreaming()])
def test_a_complete_start_is_followed_as_it_is(strategy):
    """Into its own well, though the other one is lower."""
    made = landscape(double_well(tilt=-0.5), [X, Y], start={"x": -0.4, "y": 2.0})
    state = search(strategy, made)
    (found,) = state.found
    assert found.theta[0] < 0
    assert found.theta[1] == pytest.approx(0.5, abs=1e-6)
    assert found.origin == "given by the user"
    assert found.cost == pytest.approx(made.cost(found.theta))
    assert strategy.passes == strategy.name


@pytest.mark.parametrize("strategy", [StratifiedLS(), HybridStreaming()])
def test_without_a_start_the_lower_well_is_found(strategy, caplog):
    with caplog.at_level("INFO", logger="homodyne"):
        state = search(strategy, landscape(double_well(tilt=-0.5), [X, Y]))
    assert state.best.theta[0] > 0
    assert state.best.origin == "found from the data"
    assert len(state.found) == 1 + (state.agreeing < state.descents)
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith(
        f"Search: {state.agreeing} of 16 descents from different points end in the best optimum (1024 points"
    )


@pytest.mark.parametrize(
    ("start", "fixed", "origin"),
    [
        ({"x": 1.0, "y": 0.0}, {}, "given by the user"),
        ({"x": 1.0}, {}, "given by the user, defaults of the model for y"),  # y needs no search
        ({}, {"x": 1.0}, "given by the user, defaults of the model for y"),
    ],
)
def test_what_needs_no_search_has_its_default(start, fixed, origin):
    made = landscape(double_well(), [X, Y], start, fixed)
    np.testing.assert_array_equal(made.given, [1.0, start.get("y", Y.start)])
    assert from_given(made).origin == origin


def test_a_missing_value_that_has_a_search_range_is_looked_for():
    made = landscape(double_well(), [X, Y], start={"y": 2.5})
    assert made.given is None
    state = from_many(made, 64, 4)
    assert {o.origin for o in state.found} == {"given by the user, the rest found from the data"}


def test_the_given_values_are_in_the_points_or_are_not():
    seen = []

    def descend(theta):
        seen.append(theta)
        return theta, 1.0

    made = landscape(double_well(), [X, Y], start={"x": 0.3}, fixed={"y": 1.5}, descend=descend)
    from_many(made, 32, 5)
    assert np.unique(seen, axis=0).tolist() == [[0.3, 1.5]]
    seen.clear()
    from_many(made, 32, 5, use_start=False)
    assert len(np.unique(np.array(seen)[:, 0])) == 5
    assert {y for _, y in seen} == {1.5}


def test_the_best_points_descend_and_the_lowest_different_ends_are_refined():
    """Ends by the sign of x and of y: four optima of costs 1, 2, 3, 4, of which three are refined."""
    seen, refined = [], []
    costs = {(1, 1): 1.0, (1, -1): 2.0, (-1, 1): 3.0, (-1, -1): 4.0}
    wide = [X, dataclasses.replace(Y, search=(-3.0, 3.0))]

    def descend(theta):
        seen.append(theta)
        end = tuple(np.sign(theta).astype(int).tolist())
        return np.array(end, dtype=float), costs[end] * (1 + 1e-5 * len(seen))

    def refine(theta, origin):
        refined.append(tuple(theta.astype(int).tolist()))
        return Optimum(theta, costs[refined[-1]], origin)

    made = dataclasses.replace(landscape(lambda t: float(np.abs(t).sum()), wide, descend=descend), refine=refine)
    state = from_many(made, 64, 20, "lhs")
    assert len(seen) == state.descents == 20
    compared = np.abs(np.array(seen)).sum(axis=1)
    assert np.all(np.diff(compared) >= 0)  # the best ones, best first
    assert refined == [(1, 1), (1, -1), (-1, 1)]
    assert state.agreeing == sum(np.all(theta > 0) for theta in seen)
    assert agreement(state) == f"{state.agreeing} of 20 descents from different points end in the best optimum"
    assert state.best.cost == 1.0


def test_the_warm_up_precedes_the_fit_from_the_given_start():
    made = landscape(double_well(), [X, Y], start={"x": -1.0, "y": 0.0}, warm=lambda theta: -theta)
    assert from_given(made).theta[0] > 0


def test_points_that_are_not_feasible_are_not_followed():
    seen = []

    def descend(theta):
        seen.append(theta)
        return theta, 1.0

    from_many(landscape(double_well(tilt=0.5), [X, Y], feasible=lambda theta: theta[0] > 0.1, descend=descend), 64, 8)
    assert len(seen) == 8
    assert np.all(np.array(seen)[:, 0] > 0.1)  # the lower well is on the other side


def test_no_feasible_point_is_an_error_with_the_values():
    made = landscape(double_well(), [X, Y], fixed={"y": 1.0}, feasible=lambda theta: False)
    with pytest.raises(
        InputError, match=r"start=\{'y': 1\.0\} makes a rate that must be positive, J\(t\), zero or negative"
    ):
        from_many(made, 64, 8)
    given = landscape(double_well(), [X, Y], start={"x": 0.1}, fixed={"y": 1.0}, feasible=lambda theta: False)
    with pytest.raises(InputError, match=r"start=\{'x': 0\.1, 'y': 1\.0\} makes a rate"):
        from_given(given)


def test_a_valley_is_one_and_wells_are_two():
    made = landscape(double_well(), [X, Y])
    left, right = optimum_at(made, -0.9), optimum_at(made, 0.9)
    assert left.cost == pytest.approx(right.cost)
    assert not made.same_valley(left, right)
    beside = dataclasses.replace(right, theta=right.theta + np.array([0.02, 0.0]))
    assert made.same_valley(right, dataclasses.replace(beside, cost=made.cost(beside.theta)))
    # a barrier of 1 counts little where the cost is ten thousand
    flat = landscape(double_well(level=1e4), [X, Y])
    assert flat.same_valley(optimum_at(flat, -0.9), optimum_at(flat, 0.9))


def test_what_cannot_be_passed_is_no_valley():
    valley = landscape(double_well(level=1e4), [X, Y], feasible=lambda theta: abs(theta[0]) > 0.6)
    assert not valley.same_valley(optimum_at(valley, -0.9), optimum_at(valley, 0.9))


@pytest.mark.parametrize(
    ("tilt", "sides"),
    [
        (0.0, 2),  # equal
        (0.04, 2),  # 0.8 % apart
        (0.08, 1),  # 1.6 %: all points will not turn this round
        (0.5, 1),
    ],
)
def test_wells_of_nearly_equal_cost_compete(tilt, sides):
    made = landscape(double_well(tilt), [X, Y])
    found = [optimum_at(made, x) for x in (0.9, -0.9, 0.8, -0.8)]
    kept = made.contenders(found)
    assert len(kept) == sides
    assert kept[0].cost == pytest.approx(min(o.cost for o in found))
    if tilt:
        assert kept[0].theta[0] < 0
    assert len({np.sign(o.theta[0]) for o in kept}) == sides


def test_of_one_and_the_same_optimum_the_first_is_kept():
    """The user's start is told to have led there, though another fit ended a thousandth of an error lower."""
    made = landscape(double_well(tilt=-0.5), [X, Y])
    right = optimum_at(made, 0.9, "found from the data")
    theta = right.theta + np.array([1e-3, 0.0])
    own = dataclasses.replace(right, theta=theta, cost=made.cost(theta), origin="given by the user")
    assert own.cost > right.cost
    assert made.contenders([own, right]) == [own]
    assert made.contenders([right, own]) == [right]
    # of another optimum it is not said, though it is as good
    even = landscape(double_well(tilt=1e-5), [X, Y])
    found = [optimum_at(even, 0.9), optimum_at(even, -0.9)]
    assert even.contenders(found)[0] is found[1]


def test_at_most_three_compete():
    waves = landscape(lambda theta: 10 + 1 - np.cos(2 * np.pi * theta[0]) + theta[1] ** 2, [X, Y])
    found = [optimum_at(waves, x) for x in (-1.9, -1.05, 0.05, 0.95, 1.9)]
    assert len(waves.contenders(found)) == 3


def test_the_best_of_a_state_is_the_least_cost():
    a, b = Optimum(np.zeros(2), 2.0, "a"), Optimum(np.ones(2), 1.0, "b")
    assert State((a, b)).best is b
    assert b.as_good_as(a)
    assert not a.as_good_as(b)
    assert Optimum(np.zeros(2), 1.0005, "c").as_good_as(b)  # within what refining leaves
