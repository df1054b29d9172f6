"""Eight processes meet a store that does not exist yet: one database, one experiment, one parent, nothing lost."""

import subprocess
import sys
from pathlib import Path

from homodyne.tracking import MlflowTracker, run_folder
from tests.factories import make_fit_result

JOBS = 8
# MLflow is loaded once; the eight then begin at the same time, each with nothing but its own folder
SCRIPT = """
import os, sys
from pathlib import Path
import mlflow, xarray
from homodyne.tracking import MlflowTracker

outputs, folders = Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]]
children = []
for folder in folders:
    pid = os.fork()
    if not pid:
        try:
            MlflowTracker(outputs, experiment_name="race").record(folder)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""


def test_a_fresh_store_met_by_eight_processes_at_once(tmp_path):
    sweep = tmp_path / "outputs" / "sweeps" / "one"
    folders = [sweep / str(n) for n in range(JOBS)]
    for folder in folders:
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text(f"[model.scaling=auto, dataset.seed={folder.name}]")
        make_fit_result().save(folder / run_folder.RESULT)
        (folder / run_folder.CONFIG).write_text("{dataset: {}, tracking: {}}")
    (sweep / "multirun.yaml").write_text("{hydra: {overrides: {task: [model.scaling=auto]}}}")
    outputs = tmp_path / "outputs"
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(outputs), *map(str, folders)], capture_output=True, text=True, timeout=300,
        env={"PYTHONPATH": str(Path(run_folder.__file__).parents[2]), "PATH": ""},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    client = MlflowTracker(outputs).store.client()
    (experiment,) = [e for e in client.search_experiments() if e.name == "race"]
    runs = client.search_runs([experiment.experiment_id])
    jobs = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(jobs) == JOBS
    assert len(runs) == JOBS + 1
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {r.info.run_id for r in runs} - {
        r.info.run_id for r in jobs
    }
    assert {run.info.status for run in jobs} == {"FINISHED"}
    assert all(len(run.data.metrics) > 50 for run in jobs)
