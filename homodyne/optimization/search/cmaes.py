"""CMA-ES: a population that learns the shape of the cost, then a local fit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from homodyne.errors import InputError
from homodyne.optimization.search.base import Info, Landscape, State
from homodyne.optimization.search.coordinates import Coordinates
from homodyne.optimization.search.local import COMPARED, DESCENTS, agreement, from_given, from_many

# Generations without a relative improvement of this size end a run: the local fit that follows is faster.
_IMPROVEMENT, _PATIENCE = 1e-3, 15
_MAX_GENERATIONS = 400
_LEAST = 4  # points from which a population can learn a shape, and what one parameter takes
# Width of the first population in the unit box: a warm start is looked around from near, a restart from afar.
_NEAR, _FAR = 0.1, 0.3


@dataclasses.dataclass(frozen=True)
class CmaesNlsq:
    """CMA-ES on a few frames, in coordinates scaled by the bounds, then exact least squares on all points.

    The first run sets out from the best optimum that local fits found; every restart from a random point with twice the
    population, until two runs agree on the best optimum. All local fits compete with it.

    Attributes:
        population: of the first run; 0 takes 4 + 3 ln(p), as is usual.
        restarts: at most so many. seed: of the random numbers.
    """

    population: int = 0
    restarts: int = 4
    seed: int = 0
    name: str = dataclasses.field(default="cmaes_nlsq", init=False)
    passes: str = dataclasses.field(default="auto", init=False)

    def __post_init__(self) -> None:
        if self.population and self.population < _LEAST:
            raise InputError("strategy.population", self.population, f"must be at least {_LEAST}", "leave it out")
        if self.restarts < 0:
            raise InputError("strategy.restarts", self.restarts, "must not be negative", "leave it out")

    def step(self, landscape: Landscape, state: State) -> tuple[State, Info]:
        """Local fits first, then one run of CMA-ES a step; ``memory`` counts the runs."""
        if not state.found:
            return self._begin(landscape)
        return self.run(landscape, state)

    def _begin(self, landscape: Landscape) -> tuple[State, Info]:
        if landscape.given is not None:
            return State((from_given(landscape),)), Info("local fit from the given start", 1)
        state = from_many(landscape, COMPARED, DESCENTS)
        return state, Info(agreement(state), COMPARED)

    def run(self, landscape: Landscape, state: State) -> tuple[State, Info]:
        """One run, refined; done when two runs agree on the best optimum, or no restart is left."""
        runs = state.memory or 0
        if not landscape.searched:
            return dataclasses.replace(state, done=True), Info("", 0)
        theta, generations, evaluations = self._evolve(landscape, state, runs)
        optimum = landscape.refine(landscape.descend(theta)[0], f"CMA-ES, run {runs + 1}")
        before = state.best
        state = dataclasses.replace(state, found=(*state.found, optimum), memory=runs + 1)
        agree = sum(o.origin.startswith("CMA-ES") and o.as_good_as(state.best) for o in state.found)
        state = dataclasses.replace(state, done=agree >= 2 or runs >= self.restarts)
        relation = "no better than" if not optimum.cost < before.cost / 1.001 else "better than"
        text = f"CMA-ES run {runs + 1}, {generations} generations: an optimum {relation} the best one so far"
        return state, Info(text, evaluations)

    def _evolve(self, landscape: Landscape, state: State, runs: int) -> tuple[np.ndarray, int, int]:
        """The best point of one run, its generations and evaluations."""
        from cmaes import CMA

        searched = landscape.searched
        coordinates = Coordinates.of([landscape.parameters[i] for i in searched])
        dimension, rng = len(searched), np.random.default_rng([self.seed, runs])
        size = (self.population or 4 + int(3 * math.log(dimension))) * 2**runs
        near = np.clip(coordinates.to_unit(state.best.theta[searched]), 0.02, 0.98)
        optimizer = CMA(
            mean=near if runs == 0 else rng.uniform(0.1, 0.9, dimension),
            sigma=_NEAR if runs == 0 else _FAR,
            bounds=np.tile([0.0, 1.0], (dimension, 1)),
            population_size=size,
            seed=int(rng.integers(2**31)),
        )
        best, best_cost, last = state.best.theta, np.inf, 0
        patience = _PATIENCE + 10 * dimension // max(1, int(math.log2(optimizer.population_size)))
        for generation in range(1, _MAX_GENERATIONS + 1):
            unit = np.array([optimizer.ask() for _ in range(optimizer.population_size)])
            points = np.tile(state.best.theta, (len(unit), 1))
            points[:, searched] = np.asarray(coordinates.from_unit(unit))
            costs = landscape.coarse(points)
            optimizer.tell([(u, c if np.isfinite(c) else 1e300) for u, c in zip(unit, costs.tolist(), strict=True)])
            n = int(np.argmin(costs))
            if costs[n] < best_cost * (1 - _IMPROVEMENT):
                last = generation
            if costs[n] < best_cost:
                best, best_cost = points[n], float(costs[n])
            if generation - last > patience or optimizer.should_stop():
                break
        return best, generation, generation * optimizer.population_size
