"""Models: what c2 looks like for given parameters. Arrays in, arrays out; no files here."""

from homodyne.errors import InputError
from homodyne.models.base import Channel, Geometry, Model, Phase, Rate, reference_q
from homodyne.models.heterodyne import heterodyne
from homodyne.models.joint_q import laminar_flow_joint_q, static_joint_q
from homodyne.models.kww import kww
from homodyne.models.laminar_flow import CONVENTIONS, laminar_flow
from homodyne.models.static import static

__all__ = [
    "CONVENTIONS",
    "MODELS",
    "Channel",
    "Geometry",
    "Model",
    "Phase",
    "Rate",
    "get_model",
    "heterodyne",
    "kww",
    "laminar_flow",
    "laminar_flow_joint_q",
    "reference_q",
    "static",
    "static_joint_q",
]

_WITHOUT_CONVENTION = {"static": static, "static_joint_q": static_joint_q, "heterodyne": heterodyne, "kww": kww}
_WITH_CONVENTION = {"laminar_flow": laminar_flow, "laminar_flow_joint_q": laminar_flow_joint_q}
MODELS = ("static", "laminar_flow", "static_joint_q", "laminar_flow_joint_q", "heterodyne", "kww")


def get_model(name: str, convention: str = "physical") -> Model:
    """The built-in model of that name.

    Only laminar flow has the shear factor in which conventions differ: the others are the same in every
    convention, which is checked all the same.

    Raises:
        InputError: unknown model or convention.
    """
    if convention not in CONVENTIONS:
        raise InputError("model.convention", convention, "is unknown", f"choose one of {', '.join(CONVENTIONS)}")
    if name in _WITH_CONVENTION:
        return _WITH_CONVENTION[name](convention)
    if name in _WITHOUT_CONVENTION:
        return _WITHOUT_CONVENTION[name]()
    raise InputError(
        "model", name, "is unknown", f"choose one of {', '.join(MODELS)}, or pass a homodyne.Model of your own"
    )
