"""The default: local fits from many points, and a global search only where they do not agree."""

from __future__ import annotations

import dataclasses

from homodyne.optimization.search.base import Info, Landscape, State
from homodyne.optimization.search.cmaes import CmaesNlsq
from homodyne.optimization.search.coordinates import scale_ratio
from homodyne.optimization.search.local import COMPARED, DESCENTS, agreement, from_given, from_many

#: Ratio of the widths of the bounds beyond which a global search scales parameters, see ``coordinates.scale_ratio``.
SCALE_RATIO = 1000.0
# The share of descents in the best optimum that makes it unlikely that all have missed a better one.
_AGREE = 0.5


@dataclasses.dataclass(frozen=True)
class Auto:
    """Memory decides how passes are summed; CMA-ES joins in where scales differ and local fits disagree.

    Attributes:
        force: CMA-ES wherever the widths of the bounds differ by more than a factor of 1000, whatever local fits find.
    """

    force: bool = False
    name: str = dataclasses.field(default="auto", init=False)
    passes: str = dataclasses.field(default="auto", init=False)

    def step(self, landscape: Landscape, state: State) -> tuple[State, Info]:
        """First local fits, the user's start among them; then CMA-ES, run by run, if it is needed."""
        if state.found:
            return CmaesNlsq().run(landscape, state)
        own = () if landscape.given is None else (from_given(landscape),)
        if not any(landscape.parameters[i].search for i in landscape.searched):
            return State(own, done=True), Info("", 1)
        state = from_many(landscape, COMPARED, DESCENTS, use_start=not own)
        state = dataclasses.replace(state, found=(*own, *state.found))
        ratio = scale_ratio([landscape.parameters[i] for i in landscape.searched])
        needed = ratio > SCALE_RATIO and (self.force or state.agreeing < _AGREE * state.descents)
        text = f"{agreement(state)}; scale ratio {ratio:.1e}: "
        text += "CMA-ES looks for a better one" if needed else "CMA-ES is not needed"
        return dataclasses.replace(state, done=not needed), Info(text, COMPARED)
