"""Locations are absolute, checks are quick, a new database survives many processes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from homodyne.errors import InputError
from homodyne.tracking.base import Unrecorded
from homodyne.tracking.lock import locked
from homodyne.tracking.store import Store


def test_default_locations_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store.locate(None, None, Path("outputs"))
    assert store.uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert store.artifacts == f"file://{tmp_path}/outputs/artifacts"


def test_relative_databases_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store.locate("sqlite:///shared/fits.db", None, Path("outputs"))
    assert store.uri == f"sqlite:///{tmp_path}/shared/fits.db"
    assert store.artifacts == f"file://{tmp_path}/shared/artifacts"


def test_other_schemes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"tracking\.uri='file:///x' is not a store of MLflow; give sqlite"):
        Store.locate("file:///x", None, tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "outputs").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"tracking\.uri=.* cannot be written"):
        Store.locate(None, None, tmp_path / "outputs").check()


def test_a_dead_server_is_noticed_quickly(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = Store.locate(f"http://127.0.0.1:{port}", None, tmp_path)
    started = time.monotonic()
    problem = store.check()
    assert problem is not None
    assert f"no MLflow server answers at http://127.0.0.1:{port}" in problem
    with pytest.raises(Unrecorded, match="no MLflow server answers"):
        store.client()
    assert time.monotonic() - started < 8.0


def test_the_lock_keeps_others_out(tmp_path):
    lock = tmp_path / "lock"
    hold = f"import time; from pathlib import Path; from homodyne.tracking.lock import locked\nwith locked(Path({str(lock)!r})): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TimeoutError, match="has held"), locked(lock, timeout_s=0.2):
            pass
        holder.kill()
    with locked(lock, timeout_s=5.0):  # it fell with its holder
        pass


def test_a_fresh_database_met_by_two_processes_at_once(tmp_path):
    code = (
        "from pathlib import Path; from homodyne.tracking.mlflow import MlflowTracker\n"
        f"t = MlflowTracker(Path({str(tmp_path)!r}), experiment_name='e')\n"
        "c = t.store.client(); print(t._experiment(c))"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {job.communicate(timeout=120)[0].strip() for job in jobs}
    assert [job.returncode for job in jobs] == [0, 0]
    assert len(answers) == 1
