"""Shards side by side in processes that are started anew when they die; finished ones are on disk and not repeated."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from homodyne.errors import InputError
from homodyne.models import MODELS, get_model
from homodyne.optimization.posterior.nuts import Draws, draw
from homodyne.optimization.posterior.target import Shard
from homodyne.optimization.posterior.worker import read_draws, write_payload

log = logging.getLogger("homodyne")

_STARTS = 3  # of a worker for one shard


def draw_shards(
    shards: Sequence[Shard], folder: Path, n_workers: int, settings: dict[str, Any]
) -> tuple[list[Draws], list[float]]:
    """Draws of every shard, and the largest memory of each worker [GB].

    Args:
        folder: where shards and their draws lie; the same shards with the same settings are found there again.
        settings: of ``nuts.draw``, but for seed and label, which follow from the shard.

    Raises:
        InputError: a worker died three times.
    """
    model = shards[0].misfit.model
    if model.name not in MODELS or get_model(model.name, model.convention) != model:
        log.info("Shards of a model of your own run one after the other in this process")
        draws = [
            draw(shard, **{**settings, "seed": settings["seed"] + i}, label=f"Shard {i + 1} of {len(shards)}")
            for i, shard in enumerate(shards)
        ]
        return draws, []
    pool = _Pool(folder, len(shards), settings)
    with ThreadPoolExecutor(min(n_workers, len(shards))) as threads:
        try:
            found = list(threads.map(pool.run, range(len(shards)), shards))
        except BaseException:
            pool.stop()
            raise
    return [draws for draws, _ in found], [peak for _, peak in found]


class _Pool:
    """Workers that are running, so that they can be stopped."""

    def __init__(self, folder: Path, n: int, settings: dict[str, Any]) -> None:
        self._folder, self._n, self._settings = folder, n, settings
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock, self._stopped = threading.Lock(), False

    def run(self, i: int, shard: Shard) -> tuple[Draws, float]:
        label = f"Shard {i + 1} of {self._n}"
        payload = self._folder / f"shard_{i:03d}.npz"
        # by what is in it: other data or settings have another name
        digest = write_payload(payload, shard, {**self._settings, "seed": self._settings["seed"] + i, "label": label})
        result = self._folder / f"draws_{i:03d}_{digest}.npz"
        if result.exists():
            log.info("%s: found in %s", label, self._folder)
            return read_draws(result)
        for start in range(_STARTS):
            code = self._start(payload, result, i)
            if code == 0:
                log.info("%s: done", label)
                return read_draws(result)
            if self._stopped:
                break
            log.warning("%s: its worker ended with %d, start %d of %d", label, code, start + 1, _STARTS)
        raise InputError(
            "n_workers", label, f"died {_STARTS} times; its last words are in {self._log(i)}",
            "use fewer workers if memory was short, or method='nuts'",
        )  # fmt: skip

    def _log(self, i: int) -> Path:
        return self._folder / f"shard_{i:03d}.log"

    def _start(self, payload: Path, result: Path, i: int) -> int:
        # one processor each: chains of a shard one after the other
        environment = {**os.environ, "NPROC": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "homodyne.optimization.posterior.worker", str(payload), str(result)]
        with self._log(i).open("wb") as words:
            with self._lock:
                if self._stopped:
                    return -1
                process = subprocess.Popen(command, stdout=words, stderr=words, env=environment, start_new_session=True)
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)

    def stop(self) -> None:
        """End all workers."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()
