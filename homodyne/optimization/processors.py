"""How many threads sum."""

from __future__ import annotations

import os


def n_workers() -> int:
    """Threads that sum: one a processor that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))
