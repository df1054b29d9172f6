"""Coordinates of a search: every parameter between 0 and 1, on the scale on which it varies, and back."""

import jax
import numpy as np
import pytest

from homodyne.models import get_model
from homodyne.optimization.search.coordinates import Coordinates, scale_ratio
from homodyne.parameters import Parameter, with_bounds

LINEAR, LOG, ASINH = 0, 1, 2
PARAMETERS = {
    "linear": Parameter("a", "", 0.0, -2.0, 2.0, 1.0),
    "log": Parameter("b", "", 1.0, 1e-8, 1.0, 1e-3),
    "asinh": Parameter("c", "", 0.0, -1e5, 1e6, 1e2),
    "positive within two decades": Parameter("d", "", 20.0, 10.0, 900.0, 1.0),
    "from zero, far beyond the scale": Parameter("e", "", 1.0, 0.0, 1e6, 1.0),
    "from zero, near the scale": Parameter("f", "", 0.5, 0.0, 1.0, 1.0),
    "negative, far beyond the scale": Parameter("g", "", -5.0, -1e6, -1.0, 1.0),
}
KINDS = (LINEAR, LOG, ASINH, LINEAR, ASINH, LINEAR, ASINH)
MODELS = [get_model(name).parameters for name in ("static", "laminar_flow", "heterodyne", "kww")]
ALL = pytest.mark.parametrize(
    "parameters", [tuple(PARAMETERS.values()), *MODELS], ids=lambda p: p[0].name + str(len(p))
)


def grid(parameters, n=101):
    """Unit points (n, p) from one corner of the box to the other."""
    return np.repeat(np.linspace(0, 1, n)[:, None], len(parameters), axis=1)


@pytest.mark.parametrize(("case", "kind"), list(zip(PARAMETERS, KINDS, strict=True)))
def test_bounds_decide_the_scale(case, kind):
    assert Coordinates.of([PARAMETERS[case]]).kind.tolist() == [kind]


@ALL
def test_the_corners_of_the_box_are_the_bounds(parameters):
    corners = np.asarray(
        Coordinates.of(parameters).from_unit(np.array([np.zeros(len(parameters)), np.ones(len(parameters))]))
    )
    for side, found in zip(("lower", "upper"), corners, strict=True):
        np.testing.assert_allclose(found, [getattr(p, side) for p in parameters], rtol=1e-12, atol=1e-12)


@ALL
def test_there_and_back(parameters):
    coordinates, unit = Coordinates.of(parameters), grid(parameters)
    np.testing.assert_allclose(coordinates.to_unit(np.asarray(coordinates.from_unit(unit))), unit, atol=1e-12)


@ALL
def test_values_rise_with_the_coordinates_within_the_bounds(parameters):
    values = np.asarray(Coordinates.of(parameters).from_unit(grid(parameters)))
    assert np.all(np.diff(values, axis=0) > 0)
    low, high = (np.array([getattr(p, side) for p in parameters]) for side in ("lower", "upper"))
    inside = values[1:-1]
    assert np.all((inside > low) & (inside < high))


def test_scales_are_those_of_their_names():
    p = PARAMETERS
    middle = np.asarray(Coordinates.of(list(p.values())).from_unit(np.full(len(p), 0.5)))
    assert middle[0] == pytest.approx(0.0)  # of -2 and 2
    assert middle[1] == pytest.approx(1e-4)  # the geometric mean of 1e-8 and 1
    ends = np.arcsinh(np.array([-1e5, 1e6]) / 1e2)
    assert middle[2] == pytest.approx(1e2 * np.sinh(ends.mean()))


@ALL
def test_derivatives_are_finite_and_right(parameters):
    """JAX goes through both branches of a choice: what is not taken must not spoil the derivative."""
    coordinates, step = Coordinates.of(parameters), 1e-6
    jacobian = jax.jit(jax.jacobian(coordinates.from_unit))
    for unit in (0.0, 0.3, 1.0):
        u = np.full(len(parameters), unit)
        slope = np.asarray(jacobian(u))
        assert np.all(np.isfinite(slope))
        assert np.all(slope[~np.eye(len(u), dtype=bool)] == 0)
        low, high = (np.asarray(coordinates.from_unit(u + s)) for s in (-step, step))
        np.testing.assert_allclose(np.diag(slope), (high - low) / (2 * step), rtol=1e-6)


def test_the_scale_ratio_is_that_of_the_widths():
    a, b, c = parameters = (
        Parameter("a", "", 0.0, -1.0, 1.0, 1.0), Parameter("b", "", 1e4, 0.0, 2e4, 1.0), Parameter("c", "", 0.0, 0.0, 0.5, 1.0)
    )  # fmt: skip
    assert scale_ratio(parameters) == pytest.approx(2e4 / 0.5)
    assert scale_ratio((a, b)) == pytest.approx(1e4)
    assert scale_ratio((a, c)) == pytest.approx(4.0)
    assert scale_ratio((c,)) == scale_ratio(()) == 1.0


def test_user_bounds_change_the_ratio():
    flow = get_model("laminar_flow").parameters
    assert scale_ratio(flow) == pytest.approx((1e6 - 1.0) / 2.0)  # of D0 and of gamma_dot_offset
    assert scale_ratio(with_bounds(flow, {"gamma_dot_offset": (-1e-3, 1e-3)})) == pytest.approx((1e6 - 1.0) / 2e-3)
    assert scale_ratio(with_bounds(flow, {"D0": (1.0, 2.0), "D_offset": (0.0, 50.0)})) == pytest.approx(180.0)
