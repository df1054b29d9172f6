"""Writing files: whole or not at all, in folders that were proved writable first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from homodyne.errors import InputError


def write_whole(target: Path, content: str | bytes) -> None:
    """Write text or bytes so that the file appears complete or not at all, even when the machine stops."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        raise


def save_whole(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """A file that ``write`` makes under the name it is given; it appears complete or not at all.

    Raises:
        InputError: the folder does not exist or is not writable.
    """
    target = Path(path)
    if not os.access(target.parent, os.W_OK):
        raise InputError(
            "path", str(target), "lies in a folder that is missing or not writable",
            "create the folder or choose another",
        )  # fmt: skip
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        write(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def require_writable(folder: Path, field: str) -> Path:
    """Make ``folder`` where it is missing and prove that files can be written there.

    Raises:
        InputError: the folder cannot be made or written; ``field`` is the setting that chose it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # os.access lies on network file systems and for root: write a byte instead.
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"\0")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            field, str(folder), f"cannot be written ({reason})", f"start from a folder you may write to, or set {field}"
        ) from error
    return folder
