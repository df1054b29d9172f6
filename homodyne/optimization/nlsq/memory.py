"""How much memory there is, and how much a fit takes. GB means 2**30 bytes throughout."""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np
import psutil

from homodyne.machine import GB, memory_limits
from homodyne.optimization.nlsq.options import NLSQOptions

# The interpreter with JAX, xarray and the compiled kernels, before any data. Measured: 0.40 where compiled code is on disk,
# 0.50 where it is compiled and written.
BASE_GB = 0.44
# c2 in both triangles: 8 in single precision, 16 in double, and 16 more where sigma is given for every point.
BYTES_PER_POINT = 16
# Rows of a chunk of the dense Jacobian (the same tile of every angle) at most, an upper limit to what all threads hold of it
# at a time, and its temporaries.
CHUNK_ROWS = 65_536
_CHUNK_COPIES = 4


def detect_total_system_memory() -> float:
    """Memory this process may use, in GB: the least of physical memory and every limit set on the process.

    Batch systems hand out part of a node, which the operating system's total does not show; so cgroup limits (v1, v2),
    SLURM_MEM_PER_NODE (MB) and RLIMIT_AS count too: see ``homodyne.machine``.
    """
    return min(memory_limits().values())


def get_adaptive_memory_threshold(memory_fraction: float = 0.75, memory_threshold_gb: float | None = None) -> float:
    """What a fit may use, in GB: ``memory_threshold_gb`` if given, else the fraction of ``detect_total_system_memory``."""
    options = NLSQOptions(memory_fraction=memory_fraction, memory_threshold_gb=memory_threshold_gb)
    if options.memory_threshold_gb is not None:
        return float(options.memory_threshold_gb)
    return options.memory_fraction * detect_total_system_memory()


def estimate_peak_memory_gb(n_points: int, n_params: int) -> float:
    """Predicted peak of the full-batch strategy in GB.

    Args:
        n_points: unordered pairs over all angles.
        n_params: columns of the dense Jacobian that are not zero at one point: physical parameters plus 2.
    """
    chunk = CHUNK_ROWS * _CHUNK_COPIES * 8 * (n_params + 1)
    return BASE_GB + (n_points * BYTES_PER_POINT + chunk) / GB


def release_free_memory() -> None:
    """Give back to the system what was freed, where the C library can (glibc).

    Compilation allocates and frees some 100 MB in pieces, which the allocator keeps otherwise.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


class MemoryMonitor:
    """Samples the resident set of this process in a thread; a context manager.

    Attributes:
        seconds, gb: the series so far.
    """

    def __init__(self, interval_s: float = 0.05) -> None:
        self._interval_s = interval_s
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []
        self.gb: list[float] = []

    def __enter__(self) -> MemoryMonitor:
        self._start = time.perf_counter()
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._sample()
            if len(self.gb) % 2000 == 0:  # long fits: half as often, so that the series stays short
                self._interval_s *= 2

    def _sample(self) -> None:
        self.seconds.append(time.perf_counter() - self._start)
        self.gb.append(self._process.memory_info().rss / GB)

    @property
    def peak_gb(self) -> float:
        """Largest sample so far."""
        return max(self.gb)

    def series(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds and GB as arrays of equal length."""
        n = min(len(self.seconds), len(self.gb))
        return np.array(self.seconds[:n]), np.array(self.gb[:n])
