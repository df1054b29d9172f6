"""A client of Dask as passes use it: tasks, a tree of sums, and what happened to workers meanwhile."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from homodyne.errors import InputError

log = logging.getLogger("homodyne")

Part = TypeVar("Part")
PREFIX = "homodyne"
_RETRIES = 2  # of a task that raises: a file that is not there for a moment


class Cluster:
    """The workers behind a ``dask.distributed.Client``, from the beginning of a fit on.

    Args:
        client: of ``dask.distributed``, synchronous.

    Raises:
        InputError: not such a client.
    """

    def __init__(self, client: Any) -> None:
        if not all(hasattr(client, name) for name in ("submit", "get_events", "scheduler_info")):
            raise InputError(
                "client", type(client).__name__, "is not a client of dask.distributed",
                "give client=dask.distributed.Client(...)",
            )  # fmt: skip
        self._client = client
        self._began = max((stamp for stamp, _ in self._events()), default=0.0)
        self._tasks = self._told = 0

    def tell(self) -> None:
        """How many workers there are. None yet is no error: batch systems start them later, clusters that adapt for tasks."""
        workers = len(self._workers())
        waiting = "" if workers else ": the passes wait for the first one"
        link = self._client.dashboard_link or "none"
        log.info("Cluster: %s%s, dashboard %s", _count(workers, "worker"), waiting, link)

    def prepare(self, function: Callable[[bytes], Any], setup: bytes) -> None:
        """Run ``function(setup)`` on every worker there is: on one first, whose compiled code the others find on disk."""
        first: Any = None
        futures = []
        for n, address in enumerate(self._workers()):
            key = f"{PREFIX}_prepare-{uuid.uuid4().hex}-{n}"
            arguments = (setup,) if first is None else (setup, first)
            future = self._client.submit(
                _after, function, *arguments, key=key, workers=[address], allow_other_workers=True, pure=False
            )
            first = future if first is None else first
            futures.append(future)
        for future in futures:
            self._result(future)

    def reduced(
        self,
        function: Callable[[Any], Part],
        arguments: Sequence[Any],
        add_up: Callable[[list[Part]], Part],
        fan_in: int,
        name: str,
        sizes: Sequence[int],
        advance: Callable[[int], None] | None = None,
    ) -> Part:
        """``add_up`` of ``function`` of every argument, by a tree on the workers; only its root comes here.

        Args:
            fan_in: parts that are added at a time, neighbors in their order. name: of the tasks, new for every call.
            sizes: of the tasks, for ``advance``, which is called as they end.
        """
        from distributed import as_completed

        stem = f"{name}-{uuid.uuid4().hex[:8]}"
        leaves = [
            self._client.submit(function, a, key=f"{PREFIX}_sum-{stem}-{n}", retries=_RETRIES, pure=False)
            for n, a in enumerate(arguments)
        ]
        self._tasks += len(leaves)
        level, depth, every = list(leaves), 0, list(leaves)
        while len(level) > 1:
            depth += 1
            groups = [level[n : n + fan_in] for n in range(0, len(level), fan_in)]
            level = [
                self._client.submit(add_up, group, key=f"{PREFIX}_add-{stem}-{depth}-{n}", pure=False)
                for n, group in enumerate(groups)
            ]
            every += level
        size_of = dict(zip((leaf.key for leaf in leaves), sizes, strict=True))
        try:
            for future in as_completed(leaves):
                if future.status == "error":
                    break
                if advance is not None:
                    advance(size_of[future.key])
            found = self._result(level[0])
        except BaseException:
            self._client.cancel(every)
            raise
        self._tell_losses()
        return found

    def _tell_losses(self) -> None:
        """A line where workers were lost in a pass."""
        record = self.record()
        if record["workers_lost"] > self._told:
            self._told = record["workers_lost"]
            log.warning(
                "Cluster: %s lost so far, %s done again, %s now; the sums are the same",
                _count(self._told, "worker"), _count(record["tasks_repeated"], "task"), record["workers"],
            )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Workers now, tasks so far, workers lost since the fit began, and the tasks that had to be done again."""
        lost, again = 0, 0
        for stamp, event in self._events():
            if stamp <= self._began or event.get("action") != "remove-worker":
                continue
            lost += not event.get("expected", False)
            keys = (*event.get("processing-tasks", ()), *event.get("lost-computed-tasks", ()))
            again += sum(str(key).startswith(PREFIX) for key in keys)
        workers = self._workers()
        return {
            "workers": len(workers),
            "threads": sum(int(w.get("nthreads", 1)) for w in workers.values()),
            "tasks": self._tasks,
            "workers_lost": lost,
            "tasks_repeated": again,
        }

    def _workers(self) -> dict[str, Any]:
        return dict(self._client.scheduler_info()["workers"])

    def _events(self) -> list[tuple[float, dict[str, Any]]]:
        return [(stamp, event) for stamp, event in self._client.get_events("all") if isinstance(event, dict)]

    def _result(self, future: Any) -> Any:
        """The result of a task.

        Raises:
            InputError: as the task did; or every worker that tried died.
        """
        from distributed.scheduler import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise InputError(
                "client", self._client.scheduler.address, f"lost {error.allowed_failures + 1} workers over the same task",
                "give them more memory (cluster.memory_limit_gb), and look into their logs",
            ) from error  # fmt: skip
        except ModuleNotFoundError as error:
            raise InputError(
                "client", self._client.scheduler.address, f"has workers without {error.name}",
                "install the same packages everywhere",
            ) from error  # fmt: skip


def _after(function: Callable[[bytes], Any], setup: bytes, first: Any = None) -> Any:
    """``function(setup)``, once ``first`` has ended."""
    return function(setup)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
