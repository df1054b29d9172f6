"""What a strategy is: it looks for the optimum on a few frames of the data, step by step, state in, state and info out."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from homodyne.optimization.search.coarse import CoarseCost
from homodyne.parameters import Parameter, pack

log = logging.getLogger("homodyne")

# Two optima whose costs on the subset differ by less than this, relatively, are equally good: refining stops at a tenth.
_AS_GOOD = 1e-3
# Costs on the subset that differ by less than this may change their order on all points.
UNDECIDED = 1e-2
_MAX_CONTENDERS = 3


@dataclasses.dataclass(frozen=True)
class Optimum:
    """A local optimum on the subset: where (p,), half the weighted sum of squares there, and how it was found."""

    theta: np.ndarray
    cost: float
    origin: str

    def as_good_as(self, other: Optimum) -> bool:
        """Whether the cost is that of the other one or lower, within what refining leaves."""
        return self.cost <= other.cost * (1 + _AS_GOOD)


@dataclasses.dataclass(frozen=True)
class Landscape:
    """The problem on a few frames of the data, as strategies see it.

    Attributes:
        parameters: of the model, with their bounds, p of them.
        start, fixed: the user's values by name.
        coarse: points (n, p) -> costs (n,), cheap, for comparing thousands of points.
        feasible: points (n, p) -> (n,) bool.
        warm: what first-order steps make of a point, the point itself where none are wanted.
        descend: local least-squares fit from a point on the coarse frames, warmed, -> theta, cost; tells basins apart.
        refine: the same on the whole subset, -> optimum with the given origin; bounds hold, fixed values stay.
        cost: theta (p,) -> cost on the whole subset, comparable with that of ``refine``.
    """

    parameters: tuple[Parameter, ...]
    start: Mapping[str, float]
    fixed: Mapping[str, float]
    coarse: CoarseCost
    feasible: Callable[[np.ndarray], np.ndarray]
    warm: Callable[[np.ndarray], np.ndarray]
    descend: Callable[[np.ndarray], tuple[np.ndarray, float]]
    refine: Callable[[np.ndarray, str], Optimum]
    cost: Callable[[np.ndarray], float]

    @property
    def searched(self) -> list[int]:
        """Positions of the parameters that are free."""
        return [i for i, p in enumerate(self.parameters) if p.name not in self.fixed]

    @property
    def given(self) -> np.ndarray | None:
        """The start (p,), where nothing has to be looked for: what is missing has a default that needs no search."""
        known = {**self.start, **self.fixed}
        if any(p.search for p in self.parameters if p.name not in known):
            return None
        return pack({p.name: known.get(p.name, p.start) for p in self.parameters}, self.parameters)

    def contenders(self, found: Sequence[Optimum]) -> list[Optimum]:
        """The best optimum, and others that all points may prefer: nearly its cost, and a rise of it in between.

        Of those that are one and the same, the one that was found first, the user's own, is the best.
        """
        ranked = sorted(found, key=lambda optimum: optimum.cost)
        good = (o for o in found if o.as_good_as(ranked[0]))
        best = next(o for o in good if o is ranked[0] or self.same_valley(o, ranked[0]))
        others = [o for o in ranked if o is not best]
        kept = [best]
        for optimum in others:
            near = optimum.cost <= best.cost * (1 + UNDECIDED)
            if near and len(kept) < _MAX_CONTENDERS and not any(self.same_valley(optimum, other) for other in kept):
                kept.append(optimum)
        return kept

    def same_valley(self, a: Optimum, b: Optimum) -> bool:
        """Whether no cost between two optima exceeds theirs: then they are points of one valley, not two optima."""
        highest = max(a.cost, b.cost) * (1 + _AS_GOOD)
        between = np.array([a.theta + part * (b.theta - a.theta) for part in (0.25, 0.5, 0.75)])
        return bool(np.all(self.feasible(between)) and all(self.cost(theta) <= highest for theta in between))


@dataclasses.dataclass(frozen=True)
class State:
    """Where a search stands.

    Attributes:
        found: local optima so far, in the order in which they were found.
        agreeing, descents: how many of the descents from many points ended in the best optimum of the coarse frames.
        done: whether the strategy has nothing left to do.
        memory: what the strategy needs for its next step, its own business.
    """

    found: tuple[Optimum, ...] = ()
    agreeing: int = 0
    descents: int = 0
    done: bool = False
    memory: Any = None

    @property
    def best(self) -> Optimum:
        """The optimum of least cost."""
        return min(self.found, key=lambda optimum: optimum.cost)


@dataclasses.dataclass(frozen=True)
class Info:
    """One step, for the log: what was done, and how many points it compared."""

    text: str
    evaluations: int


class Strategy(Protocol):
    """How the optimum is looked for, and how passes over all points are summed.

    Attributes:
        name: as the user writes it.
        passes: ``auto`` (by memory), ``stratified_ls``, ``hybrid_streaming`` or ``distributed``.
    """

    @property
    def name(self) -> str: ...
    @property
    def passes(self) -> str: ...

    def step(self, landscape: Landscape, state: State) -> tuple[State, Info]:
        """One step: local fits, or a global search that ends in some. The first one is given an empty state."""
        ...


def settings(strategy: Strategy) -> dict[str, Any]:
    """Name, passes and settings, for the record; a strategy of one's own need not be a dataclass."""
    made: Any = strategy
    own = dataclasses.asdict(made) if dataclasses.is_dataclass(type(made)) else dict(getattr(made, "__dict__", {}))
    return {**own, "name": strategy.name, "passes": strategy.passes}


def search(strategy: Strategy, landscape: Landscape) -> State:
    """Step until the strategy is done, a line in the log each."""
    state = State()
    while not state.done:
        began = time.perf_counter()
        state, info = strategy.step(landscape, state)
        if info.text:
            log.info(
                "Search: %s (%d points compared, %.1f s)", info.text, info.evaluations, time.perf_counter() - began
            )
    return state
