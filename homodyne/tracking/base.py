"""What a tracker is, and the one that keeps nothing.

A run's folder is the record: ``result.nc``, ``config.yaml``, ``fit.log``, ``figures/``. A tracker copies it to where
it can be searched. It does so after the fit, from the folder alone, so that a fit never waits for a server, and a
run recorded later (``homodyne-import-run``) is the same as one recorded at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Unrecorded(RuntimeError):
    """The store could not be reached or refused the record; the run's folder is complete all the same."""


class Tracker(Protocol):
    """Records finished runs."""

    def prepare(self) -> str | None:
        """Check the store before the fit, quickly. Returns a warning when it cannot be reached.

        Raises:
            InputError: a local store that cannot be written.
        """

    def record(self, run_dir: Path) -> str:
        """Record the run in ``run_dir``; returns where it is found.

        Raises:
            Unrecorded: the store could not be reached or refused.
        """

    def attach(self, sweep: Path, files: Sequence[Path]) -> None:
        """Keep files that belong to a whole sweep with the record of the sweep.

        Raises:
            Unrecorded: the store could not be reached or refused, or holds no record of the sweep.
        """


class NullTracker:
    """Leaves the result in the run's folder. Takes the settings of any tracker and ignores them."""

    def __init__(self, **settings: Any) -> None:
        del settings

    def prepare(self) -> str | None:
        """Nothing to check."""
        return None

    def record(self, run_dir: Path) -> str:
        """The run's folder, as it is."""
        return str(run_dir)

    def attach(self, sweep: Path, files: Sequence[Path]) -> None:
        """They are in the sweep's folder."""
