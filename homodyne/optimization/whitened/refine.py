"""From a pilot fit to a whitened one: weights from the pilot, Gauss-Newton steps in their metric, weights once more."""

from __future__ import annotations

import dataclasses
import logging
import time

import numpy as np

from homodyne.optimization.nlsq.problem import problem
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.normal import Linearization, linearize
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.source import BlockSource
from homodyne.optimization.trust_region import Info, State, Tolerances, minimize
from homodyne.optimization.uncertainty.noise import SpeckleNoise, usable_contrast
from homodyne.optimization.uncertainty.repetitions import LEAST_REPETITIONS
from homodyne.optimization.whitened.passes import Light, Noise, noise_pass, whitened_pass
from homodyne.result import Status

log = logging.getLogger("homodyne")

#: Added to Sigma's diagonal, in units of the contrast. The predicted errors are smallest at 0 wherever the noise is that of
#: speckle, and at 0.03 hardly larger (experiments/whitened); an underestimated shot noise does no harm then.
RIDGE = 0.03
#: Times the weights are made anew from the whitened fit.
REWEIGHTINGS = 1
# Steps end below these parts of a standard error, before and after the weights are made anew. The first ones only give weights, in
# single precision, whose rounding of the cost is that large.
_FIRST, _LAST = Tolerances(xtol=0.3, max_passes=12, rounding=1e-5), Tolerances(xtol=1e-2, max_passes=40)


@dataclasses.dataclass(frozen=True)
class Refined:
    """A whitened fit.

    Attributes:
        state: how the loop ended; ``state.at`` is the linearization in the whitened metric, sigma = 1.
        noise: what speckle does to the scores of every sector. light: data, and what the weights were made of.
        passes, seconds: what it took. repeated: linearizations with the data of every repetition alone.
    """

    state: State
    noise: list[Noise]
    light: Light
    passes: int
    seconds: float
    repeated: tuple[Linearization, ...] = ()


def refine(
    request: Request,
    scaling: Scaling,
    pilot: State,
    noise: SpeckleNoise,
    longest: int,
    ridge: float = RIDGE,
) -> Refined:
    """The whitened fit that begins at a pilot.

    Args:
        noise: at the pilot. longest: frames of a block.
    """
    began, passes, state = time.perf_counter(), 0, pilot
    light = Light(request.source, request.model, request.min_lag, noise, ridge, longest, request.free, "float32")
    for n in range(REWEIGHTINGS + 1):
        if n:
            light = dataclasses.replace(light, noise=_with_contrast(light.noise, state.at.scaling), dtype="float64")
        loop = _Loop(light, scaling, state.theta, state.at.scaling)
        infos: list[Info] = []
        state = minimize(
            problem(request, loop.evaluate), state.theta, _LAST if n == REWEIGHTINGS else _FIRST, infos.append, damping=0.0,
        )  # fmt: skip
        if state.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        passes += len(infos)
        log.info(
            "Whitened fit, weights %d of %d: %d passes, %s, step %.2g standard errors",
            n + 1, REWEIGHTINGS + 1, len(infos), state.status, infos[-1].step_norm,
        )  # fmt: skip
    found = noise_pass(dataclasses.replace(light, dtype="float32"), loop.pilot, state.theta, state.at.scaling)
    repeated = _repeated(request, loop, state)
    return Refined(state, found, light, passes + 1, time.perf_counter() - began, repeated)


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The reduced problem with one set of weights, those of ``pilot``; residuals against ``pairs``."""

    light: Light
    scaling: Scaling
    pilot: np.ndarray
    pairs: np.ndarray

    def evaluate(self, theta: np.ndarray, source: BlockSource | None = None) -> Linearization:
        """In the whitened metric; of the same or of other data."""
        light = self.light if source is None else dataclasses.replace(self.light, source=source)
        sums = whitened_pass(light, self.pilot, theta, self.pairs)
        return linearize(sums, self.scaling, np.ones(len(sums.counts)))


def _with_contrast(noise: SpeckleNoise, pairs: np.ndarray) -> SpeckleNoise:
    """The same light with the contrasts of another fit."""
    return dataclasses.replace(noise, contrast=usable_contrast(pairs[:, 0] / pairs[:, 1]), offset=pairs[:, 1])


def _repeated(request: Request, loop: _Loop, state: State) -> tuple[Linearization, ...]:
    """The same at the solution with the data of one repetition each."""
    n = len(getattr(request.source, "attrs", {}).get("repetitions", ()))
    if n < LEAST_REPETITIONS:
        return ()
    return tuple(loop.evaluate(state.theta, source) for source in request.source.repetitions())  # type: ignore[attr-defined]
