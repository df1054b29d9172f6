"""How a command ended: exit codes, and the list of jobs that a sweep leaves for the process that started it."""

from __future__ import annotations

import enum
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

JOBS = "HOMODYNE_JOBS"


class Outcome(enum.IntEnum):
    """Exit codes. The worst job decides for a sweep: error, then not converged, then not recorded."""

    OK = 0
    ERROR = 1
    NOT_CONVERGED = 2
    NOT_RECORDED = 3


class Job(NamedTuple):
    """One fit of a command: how it ended, and its folder."""

    outcome: Outcome
    run_dir: Path


_WORST_FIRST = (Outcome.ERROR, Outcome.NOT_CONVERGED, Outcome.NOT_RECORDED, Outcome.OK)


class BelowError(logging.Filter):
    """Keeps errors off stdout; they go to stderr."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True for records below ERROR."""
        return record.levelno < logging.ERROR


def report(outcome: Outcome, run_dir: Path) -> None:
    """Append one job's outcome where the starting process looks for it (one short line: atomic on POSIX)."""
    target = os.environ.get(JOBS)
    if target is None:
        return
    line = json.dumps({"outcome": int(outcome), "run_dir": str(run_dir)}) + "\n"
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@contextmanager
def collected() -> Iterator[list[Job]]:
    """Collect all jobs started inside, in this process or its workers; filled on leaving.

    Also lets Hydra raise its errors instead of printing them, so that they can be explained.
    """
    jobs: list[Job] = []
    with tempfile.TemporaryDirectory(prefix="homodyne-") as folder:
        target = Path(folder) / "jobs"
        with _environment({JOBS: str(target), "HYDRA_FULL_ERROR": "1"}):
            try:
                yield jobs
            finally:
                if target.exists():
                    found = (json.loads(line) for line in target.read_text().splitlines())
                    jobs += [Job(Outcome(job["outcome"]), Path(job["run_dir"])) for job in found]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that decides the exit code; OK when no job ran (``--help``, ``--cfg``)."""
    seen = set(outcomes)
    return next((o for o in _WORST_FIRST if o in seen), Outcome.OK)
