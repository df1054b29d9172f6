"""What a whitened fit would take: how many frames are whitened together, and from where on it is not done."""

from __future__ import annotations

import dataclasses

from homodyne.optimization.nlsq.request import Request

GB = 2**30
#: Up to so many frames are whitened together; more in blocks of at most ``BLOCK``.
LONGEST, BLOCK = 1024, 512
# Bytes per pair of frames and sector at work: the matrices held at the same time, with their temporaries.
_BYTES = 120


@dataclasses.dataclass(frozen=True)
class Plan:
    """``longest``: most frames of a block. ``too_large``: why it is not done, or None."""

    longest: int
    n_t: int
    too_large: str | None

    @property
    def blocks(self) -> int:
        """How many."""
        return -(-self.n_t // self.longest)


def plan(request: Request) -> Plan:
    """Blocks for the data of a request."""
    n_t = len(request.source.t)
    gb, limit = n_t**2 * _BYTES / GB, request.decision.threshold_gb
    too_large = (
        None if gb <= limit else f"{n_t} frames need {gb:.3g} GB, which is above the threshold of {limit:.3g} GB"
    )
    return Plan(n_t if n_t <= LONGEST else BLOCK, n_t, too_large)
