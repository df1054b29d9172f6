"""The exit code of a sweep is that of its worst job, wherever the jobs ran."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from homodyne.config.outcome import JOBS, Outcome, collected, report, worst


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], 0),
        ([Outcome.OK, Outcome.OK], 0),
        ([Outcome.OK, Outcome.NOT_RECORDED], 3),
        ([Outcome.NOT_RECORDED, Outcome.NOT_CONVERGED], 2),
        ([Outcome.NOT_CONVERGED, Outcome.ERROR, Outcome.OK], 1),
    ],
)
def test_worst(outcomes, expected):
    assert int(worst(outcomes)) == expected


def test_outcomes_of_this_and_other_processes_are_collected():
    with collected() as jobs:
        report(Outcome.OK, Path("a"))
        code = (
            "from pathlib import Path; from homodyne.config.outcome import *; report(Outcome.NOT_CONVERGED, Path('b'))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert not jobs
    assert jobs == [(Outcome.OK, Path("a")), (Outcome.NOT_CONVERGED, Path("b"))]
    assert JOBS not in os.environ


def test_without_a_collector_nothing_is_written():
    report(Outcome.OK, Path("a"))
