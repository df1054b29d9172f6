"""Where MLflow keeps its records: absolute locations, quick checks, and a database that is made once."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import urllib.parse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from homodyne.errors import InputError
from homodyne.files import require_writable
from homodyne.tracking.base import Unrecorded
from homodyne.tracking.lock import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_TIMEOUT_S = 3.0
SQLITE = "sqlite:///"
# Before the import of mlflow: telemetry is on by default, and a dead server blocks for minutes with default retries.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
}
NOISY = ("mlflow", "alembic", "sqlalchemy")


@dataclasses.dataclass(frozen=True)
class Store:
    """One MLflow store.

    Attributes:
        uri: ``sqlite:////absolute/path`` or ``http(s)://host:port``.
        artifacts: absolute ``file://`` location for the database; None where a server decides.
        lock: file that serializes what must not happen twice (new database, new experiment, new parent run).
    """

    uri: str
    artifacts: str | None
    lock: Path

    @classmethod
    def locate(cls, uri: str | None, artifacts: str | None, outputs: Path) -> Store:
        """The store of a ``tracking.uri``; without one the database below ``outputs``.

        Raises:
            InputError: a scheme other than sqlite or http(s).
        """
        outputs = outputs.absolute()
        lock = outputs / ".mlflow.lock"
        if uri is None:
            uri = f"{SQLITE}{outputs / 'mlflow.db'}"
        elif uri.startswith(SQLITE):
            database = Path(uri.removeprefix(SQLITE)).absolute()
            uri, lock = f"{SQLITE}{database}", database.with_name(f".{database.name}.lock")
        elif not uri.startswith(("http://", "https://")):
            raise InputError(
                "tracking.uri", uri, "is not a store of MLflow", "give sqlite:////path/mlflow.db or http://host:port"
            )
        if artifacts is not None and "://" not in artifacts:
            artifacts = Path(artifacts).absolute().as_uri()
        if artifacts is None and uri.startswith(SQLITE):
            artifacts = (Path(uri.removeprefix(SQLITE)).parent / "artifacts").as_uri()
        return cls(uri, artifacts, lock)

    @property
    def is_server(self) -> bool:
        """Whether another process answers."""
        return not self.uri.startswith(SQLITE)

    def check(self) -> str | None:
        """Why the store cannot be used now, or None; takes 3 s at most.

        Raises:
            InputError: the folder of the database cannot be written.
        """
        if self.is_server:
            return self._unreachable()
        folder = Path(self.uri.removeprefix(SQLITE)).parent
        require_writable(folder, "tracking.uri")
        return None

    def _unreachable(self) -> str | None:
        address = urllib.parse.urlsplit(self.uri)
        port = address.port or (443 if address.scheme == "https" else 80)
        try:
            socket.create_connection((address.hostname or "", port), timeout=PROBE_TIMEOUT_S).close()
        except OSError as error:
            return f"no MLflow server answers at {self.uri} ({error})"
        return None

    def client(self) -> MlflowClient:
        """A client whose database exists and has its tables.

        Raises:
            Unrecorded: no server answers, or it has no database; another process holds the lock for too long.
        """
        problem = self.check()
        if problem is not None:
            raise Unrecorded(problem)
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        os.environ.update(ENVIRONMENT)
        with warnings.catch_warnings():
            # MLflow's own use of its dependencies is nothing a user could act upon
            warnings.simplefilter("ignore", DeprecationWarning)
            # before the lock: many jobs may load it at a time
            import mlflow

            for name in NOISY:
                logging.getLogger(name).setLevel(logging.ERROR)
            try:
                with locked(self.lock):
                    # this makes the tables of a new database; two processes doing so at once spoil it for good
                    client = mlflow.MlflowClient(tracking_uri=self.uri)
                    client.search_experiments(max_results=1)
            except (mlflow.exceptions.MlflowException, OSError) as error:
                raise Unrecorded(f"MLflow at {self.uri} cannot be used ({error})") from error
        return client
