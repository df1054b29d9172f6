"""What the log says while a fit passes over all points: how far a pass is, what it found, when the fit will end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from homodyne.optimization.trust_region import Info, Tolerances

log = logging.getLogger("homodyne")

_EVERY_S = 15.0  # between two lines inside a pass
# By how much a Gauss-Newton step shrinks in a pass, as long as the fit has not shown it: a cautious guess, 100 is common.
_TYPICAL_GAIN = 30.0
_LEAST_GAIN = 1.2  # a fit whose steps shrink less has no end in sight


class Progress:
    """The log lines of the passes over all points.

    Args:
        n_points: points of a pass, before masking; the first pass tells how many are valid.
        tolerances: when the fit ends.
        clock: seconds.
    """

    def __init__(
        self,
        n_points: int,
        tolerances: Tolerances,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._expected = n_points
        self._clock = clock
        self._passes = 0
        self.enter(tolerances)
        self.begin()

    def enter(self, tolerances: Tolerances, after: int = 0, note: str = "") -> None:
        """Another stage begins.

        Args:
            tolerances: when it ends. after: passes expected after it.
            note: what sets its passes apart, " in float32", say.
        """
        self._tolerances, self._after, self._note = tolerances, after, note
        self._before = self._passes
        self._steps: list[float] = []

    def begin(self) -> None:
        """A pass over the data begins."""
        self._points = 0
        self._began = self._told = self._clock()

    def advance(self, n_points: int) -> None:
        """So many more points of the pass are summed; logged from time to time."""
        self._points += n_points
        now = self._clock()
        if now - self._told < _EVERY_S:
            return
        self._told = now
        rate = max(self._points, 1) / (now - self._began)
        left = max(0, self._expected - self._points) / rate
        log.info(
            "Pass %d: %.0f %% of %s points, %.3g M points/s, pass ends in %s",
            self._passes + 1, 100 * min(1.0, self._points / self._expected), _count(self._expected), rate / 1e6,
            duration(left),
        )  # fmt: skip

    def end(self, info: Info, from_checkpoint: bool) -> None:
        """A pass is finished, or was found in a checkpoint: log it."""
        self._passes += 1
        self._expected = info.points or self._expected
        if info.accepted:
            self._steps.append(info.step_norm)
        found = f"chi2/N = {2 * info.cost / max(info.points, 1):.6f}, step {info.step_norm:.1e} standard errors"
        if from_checkpoint:
            how = f"from the checkpoint, {info.points} points"
        else:
            how = f"{info.points} points at {info.points / max(info.seconds, 1e-9) / 1e6:.1f} M points/s"
        rejected = "" if info.accepted else " (rejected)"
        log.info("Pass %d%s: %s, %s%s%s", self._passes, self._note, how, found, rejected, self._forecast(info))

    def _forecast(self, info: Info) -> str:
        """When the fit will end, as the end of a sentence; nothing where it has ended."""
        more = self._passes_left(info.points)
        if more is None:
            return "; end not in sight"
        more += self._after
        if more == 0:
            return ""
        return f"; about {more} more pass{'' if more == 1 else 'es'}, {duration(more * info.seconds)}"

    def _passes_left(self, points: int) -> int | None:
        """Passes until the step is negligible, if it goes on shrinking as it did last; None where it does not shrink."""
        allowed = self._tolerances.max_passes - (self._passes - self._before)
        step = self._steps[-1] if self._steps else math.inf
        negligible = max(self._tolerances.xtol, math.sqrt(self._tolerances.rtol_cost * points))
        if step <= negligible or allowed <= 0:
            return 0
        gain = _TYPICAL_GAIN if len(self._steps) < 2 else self._steps[-2] / step
        if not (math.isfinite(step) and gain >= _LEAST_GAIN):
            return None
        return min(allowed, max(1, math.ceil(math.log(step / negligible) / math.log(gain))))


def duration(seconds: float) -> str:
    """Seconds as people say them: 12 s, 4 min, 2.5 h."""
    if seconds < 99.5:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def _count(n: int) -> str:
    """1.0e9."""
    digits, power = f"{n:.1e}".split("e")
    return f"{digits}e{int(power)}"
