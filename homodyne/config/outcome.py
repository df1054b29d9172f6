"""How a command ended: exit codes, and the list of jobs that a sweep leaves for the process that started it."""

from __future__ import annotations

import enum
import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from homodyne.files import write_whole

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
    """Leave one job's outcome where the starting process looks for it: a file a job, which other machines can write too."""
    folder = os.environ.get(JOBS)
    if folder is None:
        return
    content = json.dumps({"at": time.time(), "outcome": int(outcome), "run_dir": str(run_dir)})
    write_whole(Path(folder) / f"{uuid.uuid4().hex}.json", content)


@contextmanager
def collected() -> Iterator[list[Job]]:
    """Collect all jobs started inside, in this process or its workers; filled on leaving.

    Also lets Hydra raise its errors instead of printing them, so that they can be explained.
    """
    jobs: list[Job] = []
    with _shared_folder() as folder, _environment({JOBS: str(folder), "HYDRA_FULL_ERROR": "1"}):
        try:
            yield jobs
        finally:
            found = [json.loads(file.read_text()) for file in folder.glob("*.json")]
            ordered = sorted(found, key=lambda job: job["at"])
            jobs += [Job(Outcome(job["outcome"]), Path(job["run_dir"])) for job in ordered]


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """A folder that lasts as long as the command: in the working directory, which jobs on other machines share, where possible."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix=".homodyne-", dir=here if os.access(here, os.W_OK) else None) as folder:
        yield Path(folder)


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
