"""A lock between processes on one file."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = 120.0) -> Iterator[None]:
    """Hold the lock on ``path`` (made when missing, never removed); it falls when its holder dies.

    Raises:
        TimeoutError: another process held it for ``timeout_s``.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + timeout_s
        while not _acquire(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has held {path} for {timeout_s:g} s; remove it if none runs")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
