"""What a fit would take, before it runs: strategy, blocks, memory and time, the latter from a pass over a few sectors."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from homodyne.optimization.nlsq.beginning import subset_size
from homodyne.optimization.nlsq.hybrid_streaming import plan_for, streamed_pass
from homodyne.optimization.nlsq.memory import detect_total_system_memory
from homodyne.optimization.nlsq.progress import duration
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.nlsq.select import memory_tips, predicted_peak_gb
from homodyne.optimization.nlsq.stratified_ls import full_batch_pass
from homodyne.optimization.source import BlockSource, View, all_frames
from homodyne.optimization.whitened.limits import excluded, predicted_seconds
from homodyne.optimization.whitened.limits import plan as whitened_plan
from homodyne.result import Decision

# Passes over all points that fits of well-determined parameters take from where the search ends; measured 3 to 5.
_PASSES = 4
_ENOUGH = 2_000_000  # points from which the time of a pass is measured, sector by sector


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a fit would take.

    Attributes:
        decision: the strategy and why. predicted_peak_gb: of memory. available_gb: to this process.
        blocks: panels that a pass reads, their largest number of points ``decision.block_points``; 1 for full batch.
        subset_frames: frames on which the optimum is looked for.
        seconds_per_pass: extrapolated from a pass over the first ``sectors``, read from where the data are. passes: expected.
        tips: what would change the memory.
        not_whitened: why weights stay uniform, "" where they do not. whitening_seconds: what whitening takes, 0 without.
    """

    decision: Decision
    predicted_peak_gb: float
    available_gb: float
    blocks: int
    subset_frames: int
    seconds_per_pass: float
    sectors: int
    passes: int
    tips: tuple[str, ...]
    not_whitened: str = ""
    whitening_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Expected time of the passes over all points."""
        return self.passes * self.seconds_per_pass

    def lines(self) -> list[str]:
        """The forecast as the log shows it."""
        rate = self.decision.n_points / self.seconds_per_pass / 1e6
        return [
            *self.decision.log_lines,
            f"Memory: about {self.predicted_peak_gb:.2f} GB at the peak, without the errors; {self.available_gb:.1f} GB available, "
            f"threshold {self.decision.threshold_gb:.1f} GB",
            *self.tips,
            f"Blocks: {self.blocks} a pass; the optimum is looked for on {self.subset_frames} frames first",
            f"Time: about {duration(self.seconds_per_pass)} a pass ({rate:.0f} M points/s, measured on {self.sectors} of the "
            f"sectors), about {self.passes} passes: {duration(self.seconds)}, and the search, compilation and errors",
            self._weighting,
            *(["Time: by the threads of this process; workers of a cluster divide it"] if self._on_a_cluster else []),
        ]

    @property
    def _weighting(self) -> str:
        if self.not_whitened:
            return f"Weighting: uniform, {self.not_whitened}"
        return f"Weighting: whitened, where the data tell the noise of speckle: about {duration(self.whitening_seconds)} more"

    @property
    def _on_a_cluster(self) -> bool:
        return self.decision.passes == "distributed"


def forecast(request: Request) -> Forecast:
    """Measure a pass over the first sectors and extrapolate; nothing is fitted.

    Raises:
        InputError: a sector has no data, or what a request raises.
    """
    decision, view = request.decision, all_frames(request.source)
    plan = plan_for(view, decision.block_points)
    n_phi = len(np.asarray(request.source.phi))
    streamed = decision.passes != "stratified_ls"
    count = min(n_phi, -(-_ENOUGH * n_phi // max(1, request.n_points)))
    one = View(_Sectors(request.source, count), np.arange(len(request.source.t)))
    if streamed:
        run_pass = streamed_pass(request.model, one, request.min_lag, decision.block_points)
    else:
        run_pass = full_batch_pass(request.model, one, request.min_lag)
    theta = np.array([request.start.get(p.name, request.fixed.get(p.name, p.start)) for p in request.parameters])
    reference = np.tile([0.0, 1.0], (count, 1))
    run_pass(theta, reference)  # what remains to be compiled, and the file's first read
    began = time.perf_counter()
    run_pass(theta, reference)
    seconds = (time.perf_counter() - began) * n_phi / count
    against = excluded(request, whitened_plan(request)) if request.weighting != "uniform" else "as asked for"
    return Forecast(
        decision,
        predicted_peak_gb(decision),
        detect_total_system_memory(),
        n_phi * len(plan.panels) if streamed else 1,
        min(subset_size(request), len(request.source.t)),
        seconds,
        count,
        min(_PASSES, request.options.max_passes),
        tuple(memory_tips(decision, n_phi)),
        against or "",
        0.0 if against else predicted_seconds(request),
    )


class _Sectors:
    """The first sectors of a source."""

    def __init__(self, source: BlockSource, count: int) -> None:
        self._source, self._count = source, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    @property
    def phi(self) -> np.ndarray:
        return np.asarray(self._source.phi)[: self._count]

    @property
    def q(self) -> float | np.ndarray:
        q = self._source.q
        return q if np.ndim(q) == 0 else np.asarray(q)[: self._count]

    @property
    def sigma(self) -> np.ndarray:
        return np.asarray(self._source.sigma)[: self._count]
