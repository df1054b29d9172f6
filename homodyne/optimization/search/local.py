"""Local fits: from the user's start, or from the best of many quasi-random points."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.errors import InputError
from homodyne.optimization.search.base import Info, Landscape, Optimum, State
from homodyne.optimization.search.candidates import candidates

# The cost has several basins, and the best of a thousand points need not lie in the deepest.
COMPARED, DESCENTS = 1024, 16
# Optima of the coarse frames that are refined: these frames alone do not decide between those that are nearly equal.
_REFINED = 3
_SAME = 1e-3


@dataclasses.dataclass(frozen=True)
class StratifiedLS:
    """All data in memory, dense Jacobian, QR. A complete start is followed as it is; what is missing is looked for."""

    name: str = dataclasses.field(default="stratified_ls", init=False)
    passes: str = dataclasses.field(default="stratified_ls", init=False)

    def step(self, landscape: Landscape, state: State) -> tuple[State, Info]:
        """The one step: a local fit."""
        return local_step(landscape)


@dataclasses.dataclass(frozen=True)
class HybridStreaming:
    """Sums over blocks. A complete start is followed as it is; what is missing is looked for."""

    name: str = dataclasses.field(default="hybrid_streaming", init=False)
    passes: str = dataclasses.field(default="hybrid_streaming", init=False)

    def step(self, landscape: Landscape, state: State) -> tuple[State, Info]:
        """The one step: a local fit."""
        return local_step(landscape)


@dataclasses.dataclass(frozen=True)
class Distributed:
    """Sums over blocks on the workers of a cluster. A complete start is followed as it is; what is missing is looked for."""

    name: str = dataclasses.field(default="distributed", init=False)
    passes: str = dataclasses.field(default="distributed", init=False)

    def step(self, landscape: Landscape, state: State) -> tuple[State, Info]:
        """The one step: a local fit, here and on a few frames."""
        return local_step(landscape)


def local_step(landscape: Landscape) -> tuple[State, Info]:
    """A fit from the given start; without one, fits from the best of many points."""
    if landscape.given is not None:
        return State((from_given(landscape),), done=True), Info("", 1)
    state = dataclasses.replace(from_many(landscape, COMPARED, DESCENTS), done=True)
    return state, Info(agreement(state), COMPARED)


def agreement(state: State) -> str:
    """How far descents from many points agree, for the log."""
    return f"{state.agreeing} of {state.descents} descents from different points end in the best optimum"


def from_given(landscape: Landscape) -> Optimum:
    """The local fit from the complete start.

    Raises:
        InputError: a rate has the wrong sign there.
    """
    theta = landscape.given
    assert theta is not None
    if not landscape.feasible(theta[None, :])[0]:
        raise infeasible({**landscape.start, **landscape.fixed})
    return landscape.refine(landscape.warm(theta), given_origin(landscape))


def from_many(
    landscape: Landscape, compared: int, descents: int, sampler: str = "sobol", use_start: bool = True
) -> State:
    """Optima reached from the best ``descents`` of ``compared`` points.

    All descend on the coarse frames; the lowest optima there, as far as they differ, are refined on the subset.

    Args:
        use_start: the user's values, where there are some, are kept in the points.

    Raises:
        InputError: no point gives the rates their sign.
    """
    known = {**landscape.start, **landscape.fixed} if use_start else dict(landscape.fixed)
    points = candidates(landscape.parameters, known, compared, sampler)
    points = points[landscape.feasible(points)]
    if not len(points):
        raise infeasible(known)
    order = np.argsort(landscape.coarse(points), kind="stable")[:descents]
    ended = sorted((landscape.descend(points[n]) for n in order), key=lambda end: end[1])
    costs = np.array([cost for _, cost in ended])
    different = [n for n in range(len(costs)) if n == 0 or costs[n] > costs[n - 1] * (1 + _SAME)]
    found = "found from the data"
    origin = f"given by the user, the rest {found}" if use_start and landscape.start else found
    refined = tuple(landscape.refine(ended[n][0], origin) for n in different[:_REFINED])
    return State(refined, agreeing=int(np.sum(costs <= costs[0] * (1 + _SAME))), descents=len(costs))


def given_origin(landscape: Landscape) -> str:
    """Where a start comes from that was not looked for in the data."""
    known = {**landscape.start, **landscape.fixed}
    missing = [p.name for p in landscape.parameters if p.name not in known]
    parts = (
        "given by the user" if known else "",
        f"defaults of the model for {', '.join(missing)}" if missing else "",
    )
    return ", ".join(part for part in parts if part)


def infeasible(values: dict[str, float]) -> InputError:
    """The error for values with which no fit can begin."""
    return InputError(
        "start",
        dict(values),
        "makes a rate that must be positive, J(t), zero or negative at some frame",
        "raise D_offset or D0 (start, fixed or bounds)",
    )
