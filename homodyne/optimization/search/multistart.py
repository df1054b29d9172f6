"""Local fits from many starts."""

from __future__ import annotations

import dataclasses

from homodyne.errors import InputError
from homodyne.optimization.search.base import Info, Landscape, State
from homodyne.optimization.search.candidates import SAMPLERS
from homodyne.optimization.search.local import agreement, from_given, from_many


@dataclasses.dataclass(frozen=True)
class Multistart:
    """Many quasi-random points compared on a few frames, the best ones refined; optima that are nearly as good compete on all points.

    Attributes:
        starts: points that are compared. descents: how many of them are followed to their optimum.
        sampler: ``sobol`` or ``lhs``.
    """

    starts: int = 2048
    descents: int = 32
    sampler: str = "sobol"
    name: str = dataclasses.field(default="multistart", init=False)
    passes: str = dataclasses.field(default="auto", init=False)

    def __post_init__(self) -> None:
        for field in ("starts", "descents"):
            if getattr(self, field) < 1:
                raise InputError(f"strategy.{field}", getattr(self, field), "must be at least 1", "leave it out")
        if self.sampler not in SAMPLERS:
            raise InputError("strategy.sampler", self.sampler, "is unknown", f"choose one of {', '.join(SAMPLERS)}")

    def step(self, landscape: Landscape, state: State) -> tuple[State, Info]:
        """The one step. The user's own complete start competes with the points."""
        own = () if landscape.given is None else (from_given(landscape),)
        state = from_many(landscape, self.starts, self.descents, self.sampler, use_start=not own)
        state = dataclasses.replace(state, found=(*own, *state.found), done=True)
        return state, Info(agreement(state), self.starts)
