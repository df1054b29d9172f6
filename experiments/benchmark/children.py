"""Processes that measure, and what is known about the machine they run on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Failed(RuntimeError):
    """A measurement that gave no number, with the reason."""


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def run(
    command: Sequence[str], timeout_s: float, cwd: Path | None = None, cache: Path | None = None
) -> tuple[str, float]:
    """Output and wall seconds of a command; what it writes to stderr is shown as it comes.

    Args:
        cache: where compiled code is kept; without it every command compiles anew.

    Raises:
        Failed: exit code not zero, or too slow.
    """
    last: deque[str] = deque(maxlen=60)
    own = {"JAX_ENABLE_COMPILATION_CACHE": "false"} if cache is None else {"XDG_CACHE_HOME": str(cache)}
    began = time.perf_counter()
    child = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **own}
    )

    def show() -> None:
        for line in child.stderr or ():
            last.append(line.rstrip())
            say(line.rstrip())

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    killer = threading.Timer(timeout_s, child.kill)
    killer.start()
    try:
        output = child.stdout.read() if child.stdout else ""
        code = child.wait()
    finally:
        in_time = killer.is_alive()
        killer.cancel()
        child.kill()
    seconds = time.perf_counter() - began
    thread.join()
    if not in_time:
        raise Failed(f"no result in {timeout_s:g} s")
    if code != 0:
        # a crash of compiled code ends with its stack, one "@ address" a line
        told = [line.strip() for line in last if line.strip() and not line.strip().startswith(("@", "***"))]
        reason = told[-1] if told else "no message"
        raise Failed(f"exit code {code}: {reason}")
    return output, seconds


def worker(*arguments: object, timeout_s: float, cache: Path | None = None) -> dict[str, Any]:
    """The JSON of one call of worker.py in a fresh process."""
    command = [sys.executable, str(HERE / "worker.py"), *map(str, arguments)]
    output, wall_s = run(command, timeout_s, cache=cache)
    return json.loads(output.splitlines()[-1]) | {"wall_s": wall_s}


def read_once(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def machine() -> dict[str, Any]:
    """Processor, cores, versions and load; nothing that names the machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value}
    flags = set(found.get("flags", "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": found.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "vector": next((name for name in ("avx512f", "avx2", "avx") if name in flags), "unknown"),
        "memory_gb": round(memory, 1),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("homodyne", "jax", "numpy")},
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "date": time.strftime("%Y-%m-%d"),
    }
