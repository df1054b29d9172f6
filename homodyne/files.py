"""Writing files: whole or not at all, in folders that were proved writable first."""

from __future__ import annotations

import os
from pathlib import Path

from homodyne.errors import InputError


def write_whole(target: Path, text: str) -> None:
    """Write text so that the file appears complete or not at all."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, target)


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
