"""From a pilot fit to a whitened one: weights from the pilot, Gauss-Newton steps in their metric, weights once more."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from homodyne.optimization.nlsq.problem import problem
from homodyne.optimization.nlsq.progress import Progress
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.normal import Linearization
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.trust_region import Info, State, Tolerances, minimize
from homodyne.optimization.uncertainty.noise import SpeckleNoise, usable_contrast
from homodyne.optimization.uncertainty.repetitions import LEAST_REPETITIONS
from homodyne.optimization.whitened.limits import plan
from homodyne.optimization.whitened.loop import Loop
from homodyne.optimization.whitened.passes import Light, Noise, noise_pass
from homodyne.result import Status

#: Added to Sigma's diagonal, in units of the contrast. The predicted errors are smallest at 0 wherever the noise is that of
#: speckle, and at 0.03 hardly larger (experiments/whitened); an underestimated shot noise does no harm then.
RIDGE = 0.03
#: Times the weights are made anew from the whitened fit.
REWEIGHTINGS = 1
# Steps end below these parts of a standard error, before and after the weights are made anew: the first ones only give weights.
_FIRST, _LAST = Tolerances(xtol=0.3, max_passes=12), Tolerances(xtol=1e-2, max_passes=40)
# Passes that are expected after the first weights.
_EXPECTED = 2


@dataclasses.dataclass(frozen=True)
class Refined:
    """A whitened fit.

    Attributes:
        state: how the loop ended; ``state.at`` is the linearization in the whitened metric, sigma = 1.
        noise: what speckle does to the scores of every sector. loop: the last weights.
        passes, seconds: what it took. repeated: linearizations with the data of every repetition alone.
    """

    state: State
    noise: list[Noise]
    loop: Loop
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
    progress = Progress(request.n_points, _FIRST)

    def report(info: Info) -> None:
        nonlocal passes
        passes += 1
        progress.end(info, False)

    light = Light(
        request.source, request.model, request.min_lag, noise, ridge, longest, request.free, plan(request).at_once
    )
    for n in range(REWEIGHTINGS + 1):
        if n:
            light = dataclasses.replace(light, noise=_with_contrast(light.noise, state.at.scaling))
        last = n == REWEIGHTINGS
        tolerances = _LAST if last else _FIRST
        progress.enter(tolerances, _EXPECTED if not last else 0, f", whitened, weights {n + 1} of {REWEIGHTINGS + 1}")
        loop = Loop(light, scaling, state.theta, state.at.scaling, progress)
        state = minimize(problem(request, loop.evaluate), state.theta, tolerances, report, damping=0.0)
        if state.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
    progress.begin()
    found = noise_pass(light, loop.pilot, state.theta, state.at.scaling, progress.advance)
    repeated = _repeated(request, loop, state)
    return Refined(state, found, loop, passes + 1, time.perf_counter() - began, repeated)


def _with_contrast(noise: SpeckleNoise, pairs: np.ndarray) -> SpeckleNoise:
    """The same light with the contrasts of another fit."""
    return dataclasses.replace(noise, contrast=usable_contrast(pairs[:, 0] / pairs[:, 1]), offset=pairs[:, 1])


def _repeated(request: Request, loop: Loop, state: State) -> tuple[Linearization, ...]:
    """The same at the solution with the data of one repetition each."""
    n = len(getattr(request.source, "attrs", {}).get("repetitions", ()))
    if n < LEAST_REPETITIONS:
        return ()
    return tuple(loop.evaluate(state.theta, source) for source in request.source.repetitions())  # type: ignore[attr-defined]
