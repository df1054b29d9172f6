"""The reduced problem of one set of weights, of a fit under way or of one that is finished."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.optimization.nlsq.progress import Progress
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.normal import Linearization, linearize
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.source import BlockSource
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.whitened.limits import plan
from homodyne.optimization.whitened.passes import Light, whitened_pass
from homodyne.result import FitResult

_OF_SECTORS = ("contrast", "offset", "nu", "pixels")


@dataclasses.dataclass(frozen=True)
class Loop:
    """Weights and what is fitted with them.

    Attributes:
        light: data, and what the weights are made of. scaling: the map of contrasts and offsets.
        pilot: theta of the weights, (p,). pairs: contrast and offset against which residuals are formed, (n_phi, 2).
        progress: of passes, for the log.
    """

    light: Light
    scaling: Scaling
    pilot: np.ndarray
    pairs: np.ndarray
    progress: Progress

    def evaluate(self, theta: np.ndarray, source: BlockSource | None = None) -> Linearization:
        """The reduced problem in the whitened metric, sigma = 1; of the same or of other data."""
        light = self.light if source is None else dataclasses.replace(self.light, source=source)
        self.progress.begin()
        sums = whitened_pass(light, self.pilot, theta, self.pairs, self.progress.advance)
        return linearize(sums, self.scaling, np.ones(len(sums.counts)))

    def record(self) -> dict[str, list[float]]:
        """``Weighting.made_of``."""
        of_sectors = {name: getattr(self.light.noise, name).tolist() for name in _OF_SECTORS}
        return {"theta": self.pilot.tolist(), **of_sectors}


def loop_of(request: Request, scaling: Scaling, result: FitResult, progress: Progress) -> Loop:
    """The last weights of a finished whitened fit, made again from its record."""
    record = result.weighting
    light = {name: np.array(record.made_of[name], dtype=float) for name in _OF_SECTORS}
    noise = SpeckleNoise(**light, counts_source="of the fit", pixels_source="of the fit")
    return Loop(
        Light(
            request.source,
            request.model,
            request.min_lag,
            noise,
            record.ridge,
            record.block_frames,
            request.free,
            plan(request).at_once,
        ),
        scaling,
        np.array(record.made_of["theta"], dtype=float),
        np.stack([result.contrast, result.offset], axis=1),
        progress,
    )
