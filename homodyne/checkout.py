"""Which state of the source code runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
UNKNOWN = "unknown: not run from a git checkout"


def commit(package: Path = PACKAGE) -> str:
    """Commit of the checkout that holds ``package``, with ``-dirty`` where files differ from it; else ``UNKNOWN``.

    An installed package has none: the repository around a virtual environment is not the source of this code.
    """
    if not (package.parent / ".git").exists():
        return UNKNOWN
    command = ["git", "-C", str(package.parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return answer.stdout.strip() if answer.returncode == 0 else UNKNOWN
