"""From a pilot fit to a whitened one: weights from the pilot, Gauss-Newton steps in their metric, weights once more."""

from __future__ import annotations

import dataclasses
import logging
import time

import numpy as np

from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.normal import Linearization, linearize
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.source import BlockSource
from homodyne.optimization.trust_region import Info, Problem, State, Tolerances, minimize
from homodyne.optimization.uncertainty.noise import SpeckleNoise, usable_contrast
from homodyne.optimization.uncertainty.repetitions import LEAST_REPETITIONS
from homodyne.optimization.uncertainty.scores import Scores
from homodyne.optimization.uncertainty.traces import Nodes
from homodyne.optimization.whitened.passes import Light, whitened_pass
from homodyne.result import Status

log = logging.getLogger("homodyne")

#: Added to Sigma's diagonal, in units of the contrast. The predicted errors are smallest at 0 wherever the noise is that of
#: speckle, and at 0.03 hardly larger (experiments/whitened); an underestimated shot noise does no harm then.
RIDGE = 0.03
#: Times the weights are made anew from the whitened fit.
REWEIGHTINGS = 1
# Steps end below these parts of a standard error, before and after the weights are made anew.
_FIRST, _LAST = Tolerances(xtol=0.3, max_passes=12), Tolerances(xtol=1e-2, max_passes=40)


@dataclasses.dataclass(frozen=True)
class Refined:
    """A whitened fit.

    Attributes:
        theta: (p,). state: how the loop ended; ``state.at`` is the linearization in the whitened metric, sigma = 1.
        scores: what noise does to its scores; chi2 is not known there. noise: of the light.
        passes, seconds: what it took. repeated: linearizations with the data of every repetition alone.
    """

    state: State
    scores: Scores
    noise: SpeckleNoise
    passes: int
    seconds: float
    light: Light
    repeated: tuple[Linearization, ...] = ()

    @property
    def theta(self) -> np.ndarray:
        return self.state.theta

    @property
    def at(self) -> Linearization:
        return self.state.at


def refine(
    request: Request,
    problem: Problem,
    scaling: Scaling,
    pilot: State,
    noise: SpeckleNoise,
    longest: int,
    ridge: float = RIDGE,
) -> Refined:
    """The whitened fit that begins at a pilot.

    Args:
        problem: bounds and what is feasible; its ``evaluate`` is not used. noise: at the pilot.
    """
    began, passes = time.perf_counter(), 0
    light = Light(request.source, request.model, request.min_lag, noise, ridge, longest, request.free)
    state, scores = pilot, None
    for n in range(REWEIGHTINGS + 1):
        last = n == REWEIGHTINGS
        loop = _Loop(light, scaling, state.theta, state.at.scaling, last)
        infos: list[Info] = []
        state = minimize(
            dataclasses.replace(problem, evaluate=loop.evaluate, bend=None),
            state.theta, _LAST if last else _FIRST, infos.append, damping=0.0,
        )  # fmt: skip
        if state.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        passes += len(infos)
        log.info(
            "Whitened fit, weights %d of %d: %d passes, %s, step %.2g standard errors",
            n + 1, REWEIGHTINGS + 1, len(infos), state.status, infos[-1].step_norm,
        )  # fmt: skip
        if last:
            scores = loop.scores()
        else:
            light = dataclasses.replace(light, noise=_with_contrast(light.noise, state.at.scaling))
    assert scores is not None
    repeated = _repeated(request, light, loop, scaling, state)
    return Refined(state, scores, light.noise, passes, time.perf_counter() - began, light, repeated)


class _Loop:
    """The sums of one set of weights; those of the first point also hold what noise does, where that is wanted."""

    def __init__(self, light: Light, scaling: Scaling, theta: np.ndarray, pairs: np.ndarray, with_roots: bool) -> None:
        self.light, self.scaling, self.pilot, self.pairs = light, scaling, theta, pairs
        self.roots: list[np.ndarray] = []
        self._with_roots = with_roots

    def evaluate(self, theta: np.ndarray, source: BlockSource | None = None) -> Linearization:
        """The reduced problem in the whitened metric."""
        light = self.light if source is None else dataclasses.replace(self.light, source=source)
        wanted, self._with_roots = self._with_roots, False
        sums, roots = whitened_pass(light, self.pilot, theta, self.pairs, wanted)
        self.roots = roots or self.roots
        return linearize(sums, self.scaling, np.ones(len(sums.counts)))

    def scores(self) -> Scores:
        n = len(self.light.source.t)
        unknown = np.full(len(self.roots), np.nan)
        return Scores(self.roots, unknown, unknown, Nodes(np.arange(n), np.ones(n)))


def _with_contrast(noise: SpeckleNoise, pairs: np.ndarray) -> SpeckleNoise:
    """The same light with the contrasts of another fit."""
    return dataclasses.replace(noise, contrast=usable_contrast(pairs[:, 0] / pairs[:, 1]), offset=pairs[:, 1])


def _repeated(request: Request, light: Light, loop: _Loop, scaling: Scaling, state: State) -> tuple[Linearization, ...]:
    n = len(getattr(request.source, "attrs", {}).get("repetitions", ()))
    if n < LEAST_REPETITIONS:
        return ()
    return tuple(loop.evaluate(state.theta, source) for source in request.source.repetitions())  # type: ignore[attr-defined]
