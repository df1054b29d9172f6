"""Finished runs as MLflow runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from homodyne.files import write_whole
from homodyne.tracking import flatten
from homodyne.tracking import posterior as sampled
from homodyne.tracking.base import Unrecorded
from homodyne.tracking.lock import locked
from homodyne.tracking.run_folder import RunFolder
from homodyne.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

Item = TypeVar("Item")
PARENT = "mlflow_parent.json"
# Limits of one log_batch call.
METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100


class MlflowTracker:
    """Records runs in one MLflow experiment.

    Args:
        outputs: absolute folder of the local database ``mlflow.db`` and of ``artifacts``.
        uri: server or database, None for the local one; artifacts: location of the artifacts.
        experiment_name, run_name, tags: as MLflow shows them; without a name a run is called after what was
            swept, or after its dataset, model and scaling.
    """

    def __init__(
        self,
        outputs: str | Path,
        uri: str | None = None,
        artifacts: str | None = None,
        experiment_name: str = "homodyne",
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.store = Store.locate(uri, artifacts, Path(outputs))
        self.experiment_name = experiment_name
        self.run_name = run_name
        self.tags = dict(tags or {})

    def prepare(self) -> str | None:
        """Check the store, without loading MLflow; a warning where a server does not answer."""
        return self.store.check()

    def record(self, run_dir: Path) -> str:
        """Record the finished run in ``run_dir`` and remember there that it was.

        Raises:
            Unrecorded: the store could not be reached or refused; nothing but an incomplete run marked FAILED is left.
        """
        folder = RunFolder.read(run_dir)
        client = self.store.client()
        from mlflow.exceptions import MlflowException

        try:
            run_id = self._record(client, folder)
        except (MlflowException, OSError) as error:
            raise Unrecorded(f"MLflow at {self.store.uri} refused the record: {error}") from error
        folder.mark_recorded(self.store.uri, run_id)
        return f"{self.store.uri} (experiment {self.experiment_name}, run {run_id})"

    def attach(self, sweep: Path, files: Sequence[Path]) -> None:
        """Keep files with the parent run of the sweep in ``sweep``.

        Raises:
            Unrecorded: the store could not be reached or refused, or no job of the sweep is recorded in it.
        """
        note = sweep / PARENT
        known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
        if known.get("uri") != self.store.uri:
            raise Unrecorded(f"{self.store.uri} holds no record of {sweep}")
        client = self.store.client()
        from mlflow.exceptions import MlflowException

        try:
            for file in files:
                client.log_artifact(known["run_id"], str(file))
        except (MlflowException, OSError) as error:
            raise Unrecorded(f"MLflow at {self.store.uri} refused {file.name}: {error}") from error

    def _record(self, client: MlflowClient, folder: RunFolder) -> str:
        experiment = self._experiment(client)
        result, started_ms = folder.result, _started_ms(folder)
        tags = flatten.tags(folder.settings, result) | self.tags | {"run_dir": str(folder.path.absolute())}
        if folder.sweep is not None:
            tags["mlflow.parentRunId"] = self._parent(client, experiment, folder.sweep, folder.swept())
            tags["overrides"] = flatten.shorten(" ".join(folder.overrides()))
        if folder.posterior is not None:
            tags["posterior"] = folder.posterior.status
        tags["mlflow.source.name"] = "homodyne.train"
        if commit := flatten.commit(result):
            tags["mlflow.source.git.commit"] = commit
        if text := flatten.note(result, folder.posterior):
            tags["mlflow.note.content"] = text
        name = self.run_name or flatten.run_name(tags, folder.swept())
        run_id = client.create_run(experiment, start_time=started_ms, tags=tags, run_name=name).info.run_id
        finished = False
        try:
            _log_numbers(client, run_id, folder, started_ms)
            for file, target in folder.artifacts():
                client.log_artifact(run_id, str(file), target)
            finished = True
        finally:
            seconds = flatten.fit_seconds(result) + (folder.posterior.seconds if folder.posterior else 0.0)
            end_ms = started_ms + round(1000 * seconds)
            # the process ended well even where the fit did not converge: that is what the tag status says
            client.set_terminated(run_id, "FINISHED" if finished else "FAILED", end_ms)
        return run_id

    def _experiment(self, client: MlflowClient) -> str:
        """Id of the experiment, made under the lock when it is new."""
        from mlflow.exceptions import MlflowException

        with locked(self.store.lock):
            found = client.get_experiment_by_name(self.experiment_name)
            if found is None:
                try:
                    return client.create_experiment(self.experiment_name, self.store.artifacts)
                except MlflowException:
                    # someone else's process on another machine was faster
                    found = client.get_experiment_by_name(self.experiment_name)
                    if found is None:
                        raise
        return str(found.experiment_id)

    def _parent(self, client: MlflowClient, experiment: str, sweep: Path, swept: Sequence[str]) -> str:
        """Id of the sweep's run: the first job to finish makes it, all others find it."""
        note = sweep / PARENT
        with locked(sweep / f".{PARENT}.lock"):
            known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
            if known.get("uri") == self.store.uri and known.get("experiment") == experiment:
                return str(known["run_id"])
            keys = "-".join(override.partition("=")[0].rpartition(".")[2] for override in swept)
            name = f"sweep-{keys or sweep.parent.name}-{sweep.name}"
            tags = {"sweep": "true", "run_dir": str(sweep.absolute())}
            run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
            client.set_terminated(run_id, "FINISHED")
            write_whole(note, json.dumps({"uri": self.store.uri, "experiment": experiment, "run_id": run_id}))
        return str(run_id)


def _started_ms(folder: RunFolder) -> int:
    """Start of the fit: when its result appeared, less its duration."""
    seconds = (folder.path / "result.nc").stat().st_mtime - flatten.fit_seconds(folder.result)
    return round(1000 * seconds)


def _log_numbers(client: MlflowClient, run_id: str, folder: RunFolder, started_ms: int) -> None:
    from mlflow.entities import Metric, Param

    of_posterior = folder.posterior
    found = flatten.metrics(folder.result) | ({} if of_posterior is None else sampled.metrics(of_posterior))
    single, dropped = flatten.split_finite(found)
    now_ms = round(1000 * time.time())
    rows: list[Metric] = [Metric(name, value, now_ms, 0) for name, value in single.items()]
    for curve in flatten.series(folder.result):
        finite = np.isfinite(curve.values)
        if not finite.all():
            dropped.append(f"{curve.name} at {int((~finite).sum())} steps")
        times = started_ms + np.round(1000 * curve.seconds).astype(int)
        rows += [
            Metric(curve.name, float(v), int(ms), int(step))
            for v, ms, step in zip(curve.values[finite], times[finite], curve.steps[finite], strict=True)
        ]
    for batch in batches(rows, METRICS_PER_CALL):
        client.log_batch(run_id, metrics=batch)
    texts = flatten.parameters(folder.settings, folder.result)
    texts |= {} if of_posterior is None else sampled.parameters(of_posterior)
    params = [Param(name, value) for name, value in texts.items()]
    for batch_of_params in batches(params, PARAMS_PER_CALL):
        client.log_batch(run_id, params=batch_of_params)
    if dropped:
        client.set_tag(run_id, "not_finite", flatten.shorten(", ".join(dropped)))


def batches(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive lists of at most ``size`` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
