"""Compiled code is kept on disk: a fit after the first one on a machine starts some seconds earlier."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

_LIMIT_BYTES = 256 * 2**20


def keep_compiled_code() -> None:
    """Let JAX keep compiled code below ``~/.cache/homodyne`` ($XDG_CACHE_HOME), at most 256 MB, the oldest deleted.

    Where the user has set JAX's own JAX_COMPILATION_CACHE_DIR, or the folder cannot be written, nothing is changed; JAX's
    JAX_ENABLE_COMPILATION_CACHE=false turns it off. The folder's name holds a hash of the processor: homes are shared
    by machines of which some could not run the code of others.
    """
    chosen = jax.config.values
    if chosen["jax_compilation_cache_dir"] or not chosen["jax_enable_compilation_cache"]:
        return
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _LIMIT_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def cache_folder() -> Path:
    """The folder for this processor.

    Raises:
        RuntimeError: there is no home.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    above = Path(base) if base and os.path.isabs(base) else Path.home() / ".cache"
    return above / "homodyne" / f"xla-{_processor()}"


def _processor() -> str:
    """Hash of the processor's kind and its instructions, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    text = "\n".join([platform.machine(), platform.processor(), *facts])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
