"""First-order steps: downhill, within the bounds, nothing fixed moved, never worse than where they began."""

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.models import get_model
from homodyne.optimization.search import WarmUp
from homodyne.optimization.search.coarse import CoarseCost
from homodyne.optimization.search.coordinates import Coordinates
from homodyne.optimization.source import subset
from tests.optimization.problems import problem
from tests.reference import STATIC

MODEL = get_model("static")
TRUE = np.array(list(STATIC.values()))
FREE = np.ones(3, dtype=bool)
FAR = np.array([2e3, -0.3, 2000.0])


@pytest.fixture(scope="module")
def coarse():
    source, _, _ = problem("static", n_t=24, n_phi=3)
    return CoarseCost(MODEL, subset(source, 24), lambda points: points[:, 0] < 9e5)


def cost(coarse, theta):
    return coarse(theta[None, :])[0]


@pytest.mark.parametrize(
    ("optimizer", "arguments", "steps"),
    [
        ("adam", {"learning_rate": 0.02}, 60),
        ("sgd", {"learning_rate": 0.001, "momentum": 0.9}, 60),
        ("lbfgs", {}, 8),  # it asks for the cost itself
    ],
)
def test_steps_go_down(coarse, optimizer, arguments, steps):
    theta = WarmUp(optimizer, arguments, steps).run(coarse, MODEL.parameters, FREE, FAR)
    assert cost(coarse, theta) < 0.3 * cost(coarse, FAR)
    assert np.all(Coordinates.of(MODEL.parameters).to_unit(theta) >= 0)
    assert np.all(Coordinates.of(MODEL.parameters).to_unit(theta) <= 1)


def test_more_steps_are_better_than_one(coarse):
    one, many = (WarmUp(steps=n).run(coarse, MODEL.parameters, FREE, FAR) for n in (1, 40))
    assert cost(coarse, many) < cost(coarse, one) < cost(coarse, FAR)


def test_what_is_fixed_stays_to_the_last_bit(coarse):
    free = np.array([True, False, True])
    theta = WarmUp(steps=20).run(coarse, MODEL.parameters, free, FAR)
    assert theta[1] == FAR[1]
    assert cost(coarse, theta) < cost(coarse, FAR)


@pytest.mark.parametrize("learning_rate", [5.0, 1e6])
def test_steps_that_go_astray_end_where_they_began(coarse, learning_rate):
    theta = WarmUp("sgd", {"learning_rate": learning_rate}, 10).run(coarse, MODEL.parameters, FREE, TRUE)
    assert cost(coarse, theta) <= cost(coarse, TRUE)
    low, high = (np.array([getattr(p, side) for p in MODEL.parameters]) for side in ("lower", "upper"))
    assert np.all((theta >= low) & (theta <= high))


def test_an_unknown_optimizer_is_named_with_those_of_optax():
    with pytest.raises(
        InputError, match=r"optimization\.optax\.name='adm' is not an optimizer of optax; choose one of .*adam"
    ) as e:
        WarmUp("adm")
    known = e.value.remedy.removeprefix("choose one of ").split(", ")
    assert {"adam", "adamw", "sgd", "rmsprop", "lbfgs"} <= set(known)
    assert not {"chain", "apply_updates", "cosine_decay_schedule", "clip"} & set(known)


def test_wrong_arguments_are_named_with_the_right_ones():
    message = r"optimization\.optax\.arguments=\{'rate': 0\.1\} does not fit sgd: .*'rate'.*; it takes learning_rate, momentum"
    with pytest.raises(InputError, match=message):
        WarmUp("sgd", {"rate": 0.1})
    with pytest.raises(InputError, match=r"does not fit adam: .*missing.*learning_rate"):
        WarmUp("adam", {})


def test_no_steps_are_refused():
    with pytest.raises(InputError, match=r"optimization\.optax\.steps=0 must be at least 1"):
        WarmUp(steps=0)
