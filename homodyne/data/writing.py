"""Writing without half-written files: everything goes to a temporary name and is renamed when complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homodyne.errors import InputError


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there on success, remove it on any failure.

    Raises:
        InputError: the folder does not exist or cannot be written.
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise InputError("path", str(target), "cannot be written: its folder does not exist", f"create {folder}")
    if not os.access(folder, os.W_OK):
        raise InputError("path", str(target), "cannot be written: its folder is read-only", "choose another folder")
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
