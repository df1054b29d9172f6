"""How many threads sum."""

from __future__ import annotations

from homodyne.machine import granted_processors


def n_workers() -> int:
    """Threads that sum: one a processor that this process was granted (affinity, cgroup quota, batch system, NPROC)."""
    return granted_processors()
