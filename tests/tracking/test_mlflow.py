"""What is read back from MLflow is what was in the run's folder."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from experiments import compare
from homodyne.errors import InputError
from homodyne.result import Status
from homodyne.tracking import MlflowTracker, Unrecorded
from homodyne.tracking.import_run import main as import_main
from homodyne.tracking.mlflow import batches
from homodyne.tracking.run_folder import RunFolder
from tests.factories import make_fit_result


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """One database for this file: making one takes seconds."""
    return tmp_path_factory.mktemp("work") / "outputs"


@pytest.fixture
def tracker(outputs) -> MlflowTracker:
    return MlflowTracker(outputs, experiment_name="shear", tags={"sample": "silica"})


def run_of(tracker: MlflowTracker, folder: Path):
    recorded = RunFolder.read(folder).recorded()
    assert recorded is not None
    return tracker.store.client().get_run(recorded["run_id"])


def test_everything_arrives(tracker, outputs, run_folder, caplog):
    folder = run_folder(outputs / "runs" / "a")
    with caplog.at_level(logging.INFO):
        assert tracker.prepare() is None
        where = tracker.record(folder)
    assert f"sqlite:///{outputs}/mlflow.db (experiment shear, run " in where
    assert not caplog.records  # MLflow's own chatter stays out of the user's log
    result, run = make_fit_result(), run_of(tracker, folder)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["theta.D0"] == pytest.approx(result.theta["D0"], rel=1e-15)
    assert run.data.metrics["stderr.D0"] == result.stderr["D0"]
    assert run.data.metrics["stderr_iid.D0"] == pytest.approx(result.stderr_by("iid")["D0"])
    assert run.data.metrics["chi2_expected"] == pytest.approx(1.01)
    assert run.data.tags["mlflow.note.content"] == result.findings[0]
    assert run.data.params["model.scaling"] == "individual"
    assert run.data.params["dataset.phi"] == "[0, [80, -80]]"
    assert run.data.params["decision.reason"] == result.decision.reason
    assert run.data.params["provenance.dataset.path"] == "demo_results.hdf"
    assert {k: run.data.tags[k] for k in ("model", "dataset", "status", "sample")} == {
        "model": "laminar_flow", "dataset": "run42_results.hdf", "status": "converged", "sample": "silica",
    }  # fmt: skip
    assert run.info.artifact_uri.startswith(f"file://{outputs}/artifacts/")
    client = tracker.store.client()
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == {
        "config.yaml",
        "result.nc",
        "fit.log",
        "figures",
    }
    assert [f.path for f in client.list_artifacts(run.info.run_id, "figures")] == ["figures/memory.png"]
    cost = client.get_metric_history(run.info.run_id, "pass.cost")
    assert [m.step for m in cost] == list(range(13))
    assert [m.value for m in cost] == pytest.approx(result.history["cost"].values.tolist())
    assert len(client.get_metric_history(run.info.run_id, "memory.rss_gb")) == result.memory.series_gb.size
    rate = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "curve.J")}
    assert rate[299] == pytest.approx(float(result.curve_table["J"][299]))


def test_infinite_errors_are_noted_not_stored(tracker, outputs, run_folder):
    folder = run_folder(outputs / "runs" / "b", undetermined=("alpha",), status=Status.NOT_IDENTIFIABLE)
    run = run_of_recorded(tracker, folder)
    assert "stderr.alpha" not in run.data.metrics
    assert run.data.tags["not_finite"] == "stderr.alpha"
    assert run.data.params["undetermined"] == "alpha"
    assert run.data.metrics["n_undetermined"] == 1.0
    assert run.data.tags["status"] == "not_identifiable"
    assert run.data.metrics["converged"] == 0.0
    assert run.info.status == "FINISHED"


def run_of_recorded(tracker: MlflowTracker, folder: Path):
    tracker.record(folder)
    return run_of(tracker, folder)


def test_jobs_of_a_sweep_share_one_parent(tracker, outputs, run_folder):
    sweep = outputs / "sweeps" / "day" / "time"
    jobs = [run_folder(sweep / f"{n}_model.scaling={s}", scaling=s) for n, s in enumerate(("individual", "auto"))]
    given = ["dataset.q=0.0054", "model.scaling=individual,auto"]
    (sweep / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": {"task": given}}}))
    for job, scaling in zip(jobs, ("individual", "auto"), strict=True):
        (job / ".hydra").mkdir()
        (job / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([given[0], f"model.scaling={scaling}"]))
    runs = [run_of_recorded(tracker, job) for job in jobs]
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs}
    assert len(parents) == 1
    parent = tracker.store.client().get_run(parents.pop())
    assert parent.info.run_name == "sweep-scaling-time"
    assert [run.info.run_name for run in runs] == ["scaling=individual", "scaling=auto"]
    assert parent.info.status == "FINISHED"


def test_a_run_made_offline_is_imported_once(outputs, run_folder, capsys):
    folder = run_folder(outputs / "runs" / "offline")
    assert import_main([str(folder)]) == 0
    assert "experiment shear" in capsys.readouterr().out
    assert import_main([str(folder)]) == 1
    assert "was recorded before, at sqlite:///" in capsys.readouterr().err
    assert import_main([str(folder), "--again"]) == 0


def test_a_folder_without_a_result_is_refused(tracker, tmp_path):
    with pytest.raises(InputError, match=r"holds no result\.nc; give the folder of a finished fit"):
        tracker.record(tmp_path)


def test_a_dead_server_leaves_the_folder_as_it_is(tmp_path, run_folder):
    folder = run_folder(tmp_path / "run")
    tracker = MlflowTracker(tmp_path / "outputs", uri="http://127.0.0.1:9")
    assert "no MLflow server answers" in (tracker.prepare() or "")
    with pytest.raises(Unrecorded, match="no MLflow server answers"):
        tracker.record(folder)
    assert RunFolder.read(folder).recorded() is None


def test_batches():
    assert [list(b) for b in batches(range(5), 2)] == [[0, 1], [2, 3], [4]]


def test_comparison_table(tracker, outputs, run_folder, tmp_path, capsys):
    ours = MlflowTracker(outputs, experiment_name="compared", run_name="first")
    ours.record(run_folder(outputs / "runs" / "c1", scaling="individual"))
    bound = {**make_fit_result().at_bound, "alpha": True}
    replaced = {"at_bound": bound, "undetermined": ("beta",), "status": Status.MAX_PASSES}
    ours.record(run_folder(outputs / "runs" / "c2", scaling="auto", **replaced))
    ours.record(run_folder(outputs / "runs" / "c3", scaling="constant", status=Status.BORDER))
    arguments = ["--uri", tracker.store.uri, "--out", str(tmp_path / "table")]
    assert compare.main([*arguments, "--experiment", "compared"]) == 0
    shown = capsys.readouterr().out
    assert "individual" in shown
    assert "max_passes" in shown
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("run,model,scaling,strategy,dataset,status,D0,alpha")
    assert "8024 +- 41" in lines[1]
    assert "phi0,errors,chi2,expected" in lines[0]
    assert ",speckle,1.0021,1.01," in lines[1]
    assert ",-0.4012 (at bound)," in lines[2]
    assert ",-0.2006 +- undetermined," in lines[2]
    assert ",8024 (no error)," in lines[3]
    assert (tmp_path / "table.md").read_text().count("\n") == 5
    assert compare.main([*arguments, "--experiment", "compared", "--tag", "scaling=auto"]) == 0
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 2
    assert compare.main([*arguments, "--experiment", "nowhere"]) == 1
    assert "--experiment='nowhere' is not recorded" in capsys.readouterr().err
