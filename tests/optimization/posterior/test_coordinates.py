"""Bounds, priors and whitening of the coordinates that are sampled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.optimization.posterior.coordinates import make_coordinates
from homodyne.optimization.posterior.metric import iid_metric
from homodyne.optimization.posterior.priors import Prior, make_priors
from homodyne.parameters import Parameter

ONE = (Parameter("a", "", 3.0, 1.0, 11.0, 1.0),)


def of_one(prior, best=3.0, information=4.0):
    metric = iid_metric(np.array([[information]]), 1.0)
    return make_coordinates(ONE, (prior,), np.array([best]), metric)


@pytest.mark.parametrize(
    ("prior", "density"),
    [
        (Prior(), lambda a: np.ones_like(a)),
        (Prior("log_uniform"), lambda a: 1 / a),
        (Prior("normal", 4.0, 2.0), lambda a: np.exp(-0.5 * ((a - 4.0) / 2.0) ** 2)),
    ],
)
def test_the_prior_over_z_is_the_prior_over_the_parameter(prior, density):
    """Mean and variance by quadrature over z equal those by quadrature over the parameter."""
    found = of_one(prior)
    z = np.linspace(-60, 60, 200_001)
    theta = np.asarray(jax.vmap(found.theta)(jnp.asarray(z[:, None])))[:, 0]
    weight = np.exp(np.asarray(jax.vmap(found.log_prior)(jnp.asarray(z[:, None]))))
    a = np.linspace(1.0, 11.0, 200_001)
    for power in (1, 2):
        expected = np.trapezoid(density(a) * a**power, a) / np.trapezoid(density(a), a)
        assert np.trapezoid(weight * theta**power, z) / np.trapezoid(weight, z) == pytest.approx(expected, rel=1e-4)


def test_the_scale_is_the_error_where_that_is_narrow_and_the_prior_where_it_is_not():
    narrow, wide = of_one(Prior(), information=1e6), of_one(Prior(), information=1e-12)
    step = narrow.theta(jnp.array([1.0])) - narrow.theta(jnp.array([0.0]))
    assert float(step[0]) == pytest.approx(1e-3, rel=1e-6)
    assert float(wide.root[0, 0]) == pytest.approx(10.0 / np.sqrt(12), rel=1e-6)


def test_a_straight_valley_stays_straight():
    """Two parameters known only in their sum: a step along the valley does not change it, but near a bound."""
    pair = tuple(Parameter(name, "", 300.0, lower, 1e6, 1.0) for name, lower in (("a", 1.0), ("b", -1e6)))
    metric = iid_metric(np.array([[1.0, 1.0], [1.0, 1.0 + 1e-4]]), 1.0)
    found = make_coordinates(pair, (Prior(), Prior()), np.array([500.0, -100.0]), metric)
    ends = [np.asarray(found.theta(jnp.array(z))) for z in ((0.0, 2.0), (0.0, -2.0))]
    assert abs(ends[0][0] - ends[1][0]) > 100
    for end in ends:
        assert end.sum() == pytest.approx(400.0, abs=0.2)


@pytest.mark.parametrize("best", [1.0, 11.0])
def test_a_center_on_its_bound_is_moved_inside(best):
    found = of_one(Prior(), best=best)
    assert 1.0 < float(found.theta(jnp.zeros(1))[0]) < 11.0
    assert float(found.slope()[0]) > 0.01


def test_the_center_is_the_fit():
    assert float(of_one(Prior(), best=1.1).theta(jnp.zeros(1))[0]) == pytest.approx(1.1, rel=1e-9)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"b": Prior()}, "not a parameter"),
        ({"a": {"kind": "cauchy"}}, "unknown kind"),
        ({"a": {"kind": "normal", "mean": 2.0}}, "positive sd"),
        ({"a": {"kind": "normal", "mean": 2.0, "sd": -1.0}}, "positive sd"),
        ({"a": {"width": 2.0}}, "unknown key 'width'"),
        ({"a": {"kind": "uniform", "mean": 2.0}}, "neither mean nor sd"),
    ],
)
def test_bad_priors_are_named(given, problem):
    with pytest.raises(InputError, match=problem):
        make_priors(given, ONE)


def test_log_uniform_needs_a_positive_bound():
    with pytest.raises(InputError, match="above zero"):
        make_priors({"a": Prior("log_uniform")}, (Parameter("a", "", 0.0, -1.0, 1.0, 1.0),))
