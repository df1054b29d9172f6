"""Several q in one fit: the transport coefficient depends on q by a power law, all else is common.

    D(q, t) = (D0 t**alpha + D_offset) (q / q_ref)**q_exponent

q_exponent = 0 is Brownian motion, where D does not depend on q. Where a structure factor rises as q**a, D(q) ~ 1 / S(q)
falls (de Gennes narrowing): q_exponent = -a. Decay rates in proportion to q, as many gels show them, are q_exponent = -1.
q_ref is the geometric mean of the measured q, so that D0 is the coefficient in the middle of the data, hardly correlated
with the exponent.
"""

from __future__ import annotations

import dataclasses

import jax

from homodyne.models.base import Channel, Geometry, Model
from homodyne.models.laminar_flow import laminar_flow
from homodyne.models.static import DECAY_CHANNEL, DIFFUSION, decay_exponent, static
from homodyne.parameters import Parameter

Q_EXPONENT = Parameter(
    "q_exponent", "", 0.0, -4.0, 4.0, 1.0, "exponent of the transport coefficient's dependence on q", (-2.0, 2.0)
)
_N_RATE = len(DIFFUSION)


def joint_decay_exponent(theta: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    """q**2 (q / q_ref)**q_exponent A(t), dimensionless; theta = (D0, alpha, D_offset, q_exponent)."""
    power = (geometry.q / geometry.q_ref) ** theta[_N_RATE]
    return power * decay_exponent(theta[:_N_RATE], t, geometry)


JOINT_DECAY = Channel(
    DECAY_CHANNEL.name, (*DECAY_CHANNEL.parameters, Q_EXPONENT.name), joint_decay_exponent, exponential=True
)


def static_joint_q() -> Model:
    """s = exp(-q**2 (q / q_ref)**q_exponent (A(t2) - A(t1))): ``static`` at several q; J and A are those at q_ref."""
    return _joint(static())


def laminar_flow_joint_q(convention: str = "physical") -> Model:
    """``laminar_flow`` at several q, with D(q) as above; the shear phase, proportional to q already, is unchanged.

    Raises:
        InputError: unknown convention.
    """
    return _joint(laminar_flow(convention))


def _joint(model: Model) -> Model:
    """The model with one parameter more and D(q) in its decay."""
    channels = tuple(JOINT_DECAY if c is DECAY_CHANNEL else c for c in model.channels)
    return dataclasses.replace(
        model,
        name=f"{model.name}_joint_q",
        parameters=(*model.parameters, Q_EXPONENT),
        channels=channels,
        needs_several_q=True,
    )
