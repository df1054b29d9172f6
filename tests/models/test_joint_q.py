"""Models of several q: D(q) by a power law, everything else as at one q; one q is refused."""

import dataclasses

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.models import get_model, reference_q
from tests.reference import DT, FLOW, GAP, STATIC, Q, g1_squared

T = DT * np.arange(30)
Q_REF = 0.006


def scaled(theta, power):
    """The same sample as a measurement at one q sees it: D0 and D_offset multiplied."""
    return [power * v if n in ("D0", "D_offset") else v for n, v in theta.items()]


@pytest.mark.parametrize("exponent", [-1.3, -0.5, 0.0, 0.7])
@pytest.mark.parametrize(("name", "theta"), [("static_joint_q", STATIC), ("laminar_flow_joint_q", FLOW)])
def test_the_decay_at_every_q_is_that_of_the_scaled_coefficient(name, theta, exponent):
    model = get_model(name)
    for q in (0.0042, Q_REF, 0.0081):
        s = model.g1_squared({**theta, "q_exponent": exponent}, T, 25.0, q, GAP, q_ref=Q_REF)
        expected = g1_squared(scaled(theta, (q / Q_REF) ** exponent), T, 25.0, q)
        np.testing.assert_allclose(s, expected, rtol=0, atol=1e-10)
        # the field is that of the same light, signed where there is shear
        np.testing.assert_allclose(
            model.g1({**theta, "q_exponent": exponent}, T, 25.0, q, GAP, q_ref=Q_REF) ** 2, expected, rtol=0, atol=1e-10
        )


def test_the_convention_of_homodyne_2_holds_for_several_q_too():
    model = get_model("laminar_flow_joint_q", "homodyne-2")
    s = model.g1_squared({**FLOW, "q_exponent": 0.0}, T, 25.0, Q, GAP, q_ref=Q_REF)
    np.testing.assert_allclose(s, g1_squared(list(FLOW.values()), T, 25.0, convention="homodyne-2"), rtol=0, atol=1e-10)


def test_the_mean_q_is_geometric_and_has_three_digits():
    assert reference_q(np.array([0.0042, 0.0054, 0.0070, 0.0070])) == 0.00541  # every q counts once
    assert reference_q(np.array([0.004, 0.009])) == 0.006
    assert np.isnan(reference_q(0.0054))
    assert np.isnan(reference_q(np.array([0.0054, 0.0054, 0.0054001])))


def test_one_q_is_refused_with_the_way_out():
    for name, alone in (("static_joint_q", "static"), ("laminar_flow_joint_q", "laminar_flow")):
        with pytest.raises(
            InputError, match=rf"q=0\.0054 is one q and {name} needs several.*dataset\.q=\[q1,q2\].*{alone}$"
        ):
            get_model(name).geometry(0.0, Q, GAP, DT)


def test_equal_models_are_one_compilation():
    assert get_model("laminar_flow_joint_q") == get_model("laminar_flow_joint_q")
    assert hash(get_model("static_joint_q")) == hash(get_model("static_joint_q"))
    assert dataclasses.replace(get_model("static_joint_q"), name="x") != get_model("static_joint_q")
