"""Models: what c2 looks like for given parameters. Arrays in, arrays out; no files here."""

from homodyne.errors import InputError
from homodyne.models.base import Channel, Geometry, Model, Phase, Rate
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
    "laminar_flow",
    "static",
]

MODELS = ("static", "laminar_flow")


def get_model(name: str, convention: str = "physical") -> Model:
    """The built-in model of that name.

    ``static`` has no shear, so it is the same in every convention; the convention is checked all the same.

    Raises:
        InputError: unknown model or convention.
    """
    if convention not in CONVENTIONS:
        raise InputError("model.convention", convention, "is unknown", f"choose one of {', '.join(CONVENTIONS)}")
    if name == "static":
        return static()
    if name == "laminar_flow":
        return laminar_flow(convention)
    raise InputError(
        "model", name, "is unknown", f"choose one of {', '.join(MODELS)}, or pass a homodyne.Model of your own"
    )
