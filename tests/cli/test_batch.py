"""Many files, one fit each: what is printed, left behind, recorded, resumed, and what happens to files that are broken."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from homodyne.cli import batch
from homodyne.config.batch import file_folder, quoted
from homodyne.data import Dataset, write_apsu
from homodyne.simulate import two_time
from tests.factories import make_fit_result
from tests.test_train import command, recorded_runs  # noqa: F401

DT, FRAMES, PHI = 0.1, 40, np.array([0.0, 60.0])
RATES = {"cold": 1.0e4, "it's warm": 1.4e4, "hot": 2.0e4}
TIMES = {"cold": "09:00", "it's warm": "10:30", "hot": "12:00"}


def write(folder, name):
    c2 = two_time(
        "static", {"D0": RATES[name], "alpha": 0.0, "D_offset": 0.0}, PHI, DT * np.arange(FRAMES), 0.0054, noise=0.003
    )
    write_apsu(
        folder / f"{name}.hdf", c2, q=np.array([0.0054]), phi=PHI, cells=[(0, 0), (0, 1)], frame_time_s=DT,
        attrs={"start_time": f"2026-11-24T{TIMES[name]}:00"},
    )  # fmt: skip


ARGUMENTS = (
    "+experiment=batch", "dataset.glob='data/*.hdf'", "batch.name=series", "model=static", "model.fixed={alpha: 0, D_offset: 0}",
    "model.start={D0: 1e4}", "optimization.covariance=iid", "plots=false", "dataset.sigma=0.003",
)  # fmt: skip


def rows(tmp_path):
    with (tmp_path / "outputs" / "batch" / "series" / "batch.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_batch_with_a_broken_file_and_its_second_start(tmp_path):
    """In processes of their own, as real fits in a sweep leave threads and handlers behind."""

    def start():
        return subprocess.run(
            [sys.executable, "-m", "homodyne.train", *ARGUMENTS], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env={**os.environ, "PYTHONPATH": str(Path(batch.__file__).parents[2])},
        )  # fmt: skip

    (tmp_path / "data").mkdir()
    for name in ("cold", "it's warm"):
        write(tmp_path / "data", name)
    (tmp_path / "data" / "hot.hdf").write_text("broken")
    ended = start()
    assert ended.returncode == 1, ended.stderr
    assert "[ERROR] dataset.path='" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "[INFO] Batch: 1 of 3 files failed; the same command tries them again" in ended.stdout
    assert f"[INFO]   {tmp_path / 'data' / 'hot.hdf'}: dataset.path=" in ended.stdout
    assert [(r["file"], r["status"]) for r in rows(tmp_path)] == [
        ("cold.hdf", "converged"), ("it's warm.hdf", "converged"), ("hot.hdf", "failed"),
    ]  # fmt: skip
    assert "is in no known format" in rows(tmp_path)[2]["problem"]
    runs = recorded_runs(tmp_path)
    assert sorted(r.info.run_name for r in runs if "mlflow.parentRunId" in r.data.tags) == ["cold.hdf", "it's warm.hdf"]
    assert len({r.data.tags.get("mlflow.parentRunId") for r in runs}) == 2  # None of the parent, and the parent
    # mended, and started again: only the third is fitted
    write(tmp_path / "data", "hot")
    ended = start()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Batch: done before, with the same settings") == 2
    assert ended.stdout.count("Model: static") == 1
    found = rows(tmp_path)
    assert [float(r["start [h]"]) for r in found] == [0.0, 1.5, 3.0]
    for row, rate in zip(found, RATES.values(), strict=True):
        assert float(row["D0"]) == pytest.approx(rate, abs=5 * float(row["D0_stderr"]))
    assert len(recorded_runs(tmp_path)) == 4
    # once more from the folder
    assert batch.main([str(tmp_path / "outputs" / "batch" / "series")]) == 0


def test_any_error_stays_with_its_file(command, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "data").mkdir()
    for name in ("cold", "hot"):
        write(tmp_path / "data", name)

    def fit(dataset, model, **arguments):
        if "cold" in str(dataset.path):
            raise ZeroDivisionError("a defect")
        return make_fit_result()

    monkeypatch.setattr("homodyne.fitting.fit", fit)
    ended = command(*ARGUMENTS, "tracking=none")
    assert ended.code == 1
    assert "cold.hdf: stopped by an unexpected error: ZeroDivisionError: a defect" in ended.out
    assert [r["status"] for r in rows(tmp_path)] == ["converged", "failed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+experiment=batch"], "[ERROR] dataset.glob=None is missing; set dataset.glob='/data/*.hdf'"),
        (["+experiment=batch", "dataset.glob=none_*.hdf"], "[ERROR] dataset.path='none_*.hdf' matches no file"),
        (["+experiment=batch", "dataset.glob=x", "dataset.path=y"], "[ERROR] dataset.path='y' is what a batch chooses"),
        (["dataset.glob=x", "dataset.path=y"], "[ERROR] dataset.glob='x' is for a batch of fits, one a file; add +experiment"),
    ],
)  # fmt: skip
def test_what_is_no_batch(command, tmp_path, arguments, message):  # noqa: F811
    ended = command(*arguments)
    assert ended.code == 1
    assert ended.err.startswith(message)
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("text", ["plain", "it's", "a\\", "a\\'b", "x,y [1]=$", "ä b"])
def test_paths_survive_the_grammar_of_hydra(text):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([f"key={quoted(text)}"])
    assert override.value() == text


def test_folders_tell_files_and_settings_apart():
    names = {file_folder(*x) for x in (("/a/x.hdf", ""), ("/b/x.hdf", ""), ("/a/x.hdf", "model=static"))}
    assert len(names) == 3
    assert all(name.startswith("x.hdf-") for name in names)


class Run:
    """A run folder as far as placing needs it."""

    def __init__(self, path, conditions, against=None):
        self.settings = {"dataset": {"path": path}, "batch": {"against": against}}
        self.result = make_fit_result(provenance={"dataset": {"conditions": conditions}})


def test_what_fits_are_drawn_against():
    time = {"start_time": "2026-11-24T09:00:00"}
    runs = [Run("/b.hdf", {"temperature": 300.0, **time}), Run("/a.hdf", {"temperature": 310.0, **time})]
    assert [batch.placed(runs)[0], *(f.file for f in batch.placed(runs)[1])] == ["temperature", "b.hdf", "a.hdf"]
    runs = [Run("/b.hdf", {"temperature": 300.0}), Run("/a.hdf", {"temperature": 300.0})]
    assert [batch.placed(runs)[0], *(f.x for f in batch.placed(runs)[1])] == ["order", 1.0, 2.0]
    assert batch.placed([Run("/a", {"temperature": 1.0}, "temperature")])[0] == "temperature"
    with pytest.raises(batch.InputError, match=r"batch.against='humidity' is in no file; choose one of order, temp"):
        batch.placed([Run("/a", {"temperature": 1.0}, "humidity")])


def test_conditions_are_in_the_fingerprint(tmp_path):
    write(tmp_path, "cold")
    assert Dataset.open(tmp_path / "cold.hdf").fingerprint()["conditions"] == {"start_time": "2026-11-24T09:00:00"}


def test_the_figure_has_every_free_parameter():
    from homodyne.plots.batch import Fitted, batch_figure

    fits = [Fitted(f"{n}.hdf", 280.0 + n, make_fit_result()) for n in range(3)]
    figure = batch_figure(fits, "temperature")
    labels = [axis.get_ylabel() for axis in figure.axes if axis.axison]
    assert [label.split(" ")[0] for label in labels] == [*Fitted.free(fits), r"$\chi^2$/N"]
    assert {axis.get_xlabel() for axis in figure.axes if axis.axison} == {"temperature"}


def test_a_folder_without_a_batch(tmp_path, capsys):
    assert batch.main([str(tmp_path)]) == 1
    assert "holds no finished fit of a batch" in capsys.readouterr().err
