#!/usr/bin/env python3
"""A MLflow server on PostgreSQL that goes away while a fit runs and while it records: is anything lost?

    python experiments/mlflow_server/run.py --postgres /usr/lib/postgresql/15/bin --json experiments/mlflow_server/results.json

Starts a PostgreSQL of its own and ``mlflow server``, both on 127.0.0.1, in a temporary folder, and ends them. Started by root,
PostgreSQL runs as the user ``postgres``, for it refuses root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# some seconds of fitting, in which a server can be stopped
FIT = [
    "model=laminar_flow", "dataset=synthetic", "dataset.n_phi=20", "dataset.n_t=500", "strategy=hybrid_streaming", "plots=false",
    "tracking.experiment_name=server", "optimization.nlsq.xtol=1e-8",
]  # fmt: skip


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Postgres:
    """A database cluster of its own."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries, self.folder, self.port = binaries, folder, free_port()
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        folder.mkdir()
        if self.user:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "mlflow")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow")

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def version(self) -> str:
        command = [self.binaries / "postgres", "--version"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.user, str(self.binaries / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)


class Server:
    """``mlflow server`` in a process group of its own."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri, self.folder, self.port = uri, folder, free_port()
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", self.uri, "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        log = (self.folder / "server.log").open("a")
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.address}/health", timeout=2).read()
                return
            time.sleep(0.5)
        raise SystemExit("the MLflow server did not start: " + (self.folder / "server.log").read_text()[-2000:])

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def fit(work: Path, server: Server, name: str, when: str = "", act: Any = None) -> dict[str, Any]:
    """A fit by the command; ``act`` is called when the line ``when`` appears in its output."""
    run_dir = work / "outputs" / "runs" / name
    command = [
        sys.executable,
        "-m",
        "homodyne.train",
        *FIT,
        f"tracking.uri={server.address}",
        f"hydra.run.dir={run_dir}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    began, said = time.perf_counter(), []
    process = subprocess.Popen(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.rstrip())
        if act is not None and when in line:
            act()
            act = None
    code = process.wait()
    told = [
        line
        for line in said
        if "RECORDED" in line or "Recorded" in line or "homodyne-import-run" in line or "WARNING" in line
    ]
    return {
        "exit_code": code, "seconds": time.perf_counter() - began, "result_on_disk": (run_dir / "result.nc").is_file(),
        "acted": act is None, "told": [line.replace(str(work), "WORK")[:300] for line in told], "run_dir": str(run_dir),
    }  # fmt: skip


def imported(work: Path, found: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "homodyne.tracking.import_run", found["run_dir"]]
    ended = subprocess.run(
        command, cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    return {
        "exit_code": ended.returncode,
        "told": (ended.stdout + ended.stderr).replace(str(work), "WORK").strip()[-300:],
    }


def stored(server: Server) -> list[dict[str, Any]]:
    """What the server has of every run."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.address)
    experiment = client.get_experiment_by_name("server")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    return [
        {
            "run": Path(run.data.tags["run_dir"]).name, "status": run.info.status, "metrics": len(run.data.metrics),
            "parameters": len(run.data.params), "artifacts": sorted(a.path for a in client.list_artifacts(run.info.run_id)),
        }
        for run in runs
    ]  # fmt: skip


@contextlib.contextmanager
def services(binaries: Path, folder: Path) -> Iterator[tuple[Postgres, Server]]:
    postgres = Postgres(binaries, folder / "postgres")
    try:
        server = Server(postgres.uri, folder)
        try:
            yield postgres, server
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.stop()
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            postgres.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--postgres", type=Path, default=Path("/usr/lib/postgresql/15/bin"), help="folder of initdb and pg_ctl"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        work = folder / "work"
        work.mkdir()
        with services(args.postgres, folder) as (postgres, server):
            record: dict[str, Any] = {"postgres": postgres.version()}
            record["undisturbed"] = fit(work, server, "undisturbed")
            record["server stopped mid-fit"] = fit(work, server, "server_stopped", "Strategy:", server.stop)
            server.start()
            record["server stopped mid-fit"]["import"] = imported(work, record["server stopped mid-fit"])
            # the server answers, its database does not
            record["database stopped mid-fit"] = fit(work, server, "database_stopped", "Strategy:", postgres.stop)
            record["database stopped mid-fit"]["import while it is away"] = imported(
                work, record["database stopped mid-fit"]
            )
            postgres.start()
            record["database stopped mid-fit"]["import"] = imported(work, record["database stopped mid-fit"])
            record["stored"] = stored(server)
        for found in record.values():
            if isinstance(found, dict):
                found.pop("run_dir", None)
    whole = {json.dumps({k: v for k, v in run.items() if k != "run"}) for run in record["stored"]}
    record["nothing_lost"] = len(record["stored"]) == 3 and len(whole) == 1
    print(json.dumps(record, indent=1))
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(not record["nothing_lost"])


if __name__ == "__main__":
    main()
