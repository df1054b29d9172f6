"""Clusters from settings to a fit: on this machine, in jobs of a batch system, at an address."""

import os
import signal
import stat
import sys

import pytest

from homodyne import cluster
from homodyne.data import Dataset
from homodyne.errors import InputError
from homodyne.result import FitResult
from tests.optimization.problems import problem
from tests.reference import Q
from tests.test_train import command, only_run  # noqa: F401


@pytest.fixture
def file(tmp_path):
    arrays, _, _ = problem("static", n_t=40, n_phi=2)
    path = tmp_path / "static.nc"
    Dataset.from_arrays(arrays.c2, [0.0, 60.0], arrays.t, Q, sigma=0.005).to_netcdf(path)
    return path


def test_a_fit_from_settings(command, file, tmp_path):  # noqa: F811
    ended = command(
        "strategy=distributed", "cluster.n_workers=1", "cluster.dashboard=127.0.0.1:0", f"dataset.path={file}", "model=static",
        "optimization.covariance=iid", "model.start={D0: 1.7e4, alpha: -1.57, D_offset: 3.05}", "tracking=none", "plots=false",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "[INFO] Strategy: distributed (n=1.56K pts" in ended.out
    assert "[INFO] Cluster: 1 worker, dashboard http://127.0.0.1:" in ended.out
    assert "distributed.scheduler" not in ended.out + ended.err
    record = FitResult.load(only_run(tmp_path) / "result.nc").provenance["cluster"]
    assert (record["workers"], record["threads"], record["workers_lost"]) == (1, 1, 0)


def test_a_cluster_that_nothing_uses_is_refused(command, file):  # noqa: F811
    ended = command(f"dataset.path={file}", "model=static", "cluster=slurm", "tracking=none")
    assert ended.code == 1
    assert (
        "[ERROR] cluster='slurm' is for strategy=distributed; set strategy=distributed, or leave it out\n" in ended.err
    )


SBATCH = """#!{python}
# a batch system that starts a job at once, on this machine
import pathlib, subprocess, sys
here = pathlib.Path(__file__).parent
script = pathlib.Path(sys.argv[-1]).read_text()
(here / "script").write_text(script)
log = open(here / "log", "w")
job = subprocess.Popen(["sh", str(here / "script")], stdout=log, stderr=log, start_new_session=True)
print("Submitted batch job", job.pid)
"""
SCANCEL = """#!{python}
import os, signal, sys
os.killpg(int(sys.argv[-1]), signal.SIGTERM)
"""


@pytest.mark.filterwarnings("ignore")
def test_jobs_of_slurm(tmp_path, monkeypatch):
    """The script that SLURM would get, run by a stand-in for sbatch: its workers come, alone in their processes."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(python=sys.executable))
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    settings = {"queue": "xpcs", "account": "flow", "interface": "lo", "directives": ["--exclusive"]}
    with cluster.slurm(1, 1, prologue=["export MARK=here"], dashboard="127.0.0.1:0", **settings) as client:
        client.wait_for_workers(1, timeout=60)
        seen = client.submit(lambda: (os.environ["NPROC"], os.environ["MARK"])).result()
        (worker,) = client.scheduler_info()["workers"].values()
    assert seen == ("1", "here")
    assert worker["nthreads"] == 1
    assert worker["memory_limit"] == pytest.approx(1.03 * 2**30, rel=0.02)
    script = (tmp_path / "script").read_text()
    for line in ("#SBATCH -p xpcs", "#SBATCH -A flow", "#SBATCH --exclusive", "#SBATCH -t 01:00:00"):
        assert line in script


def test_interrupts_stay_ours(monkeypatch):
    """dask_jobqueue sets a handler of its own when it is imported, by which a fit would end without saving anything."""
    for name in [name for name in sys.modules if name.startswith("dask_jobqueue")]:
        monkeypatch.delitem(sys.modules, name)
    before = signal.getsignal(signal.SIGINT)
    imported = cluster._needed("dask_jobqueue")
    assert hasattr(imported, "SLURMCluster")
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_of_clusters(monkeypatch):
    with pytest.raises(InputError, match=r"cluster.address='tcp://127.0.0.1:9' has no scheduler of Dask"):  # noqa: SIM117
        with cluster.address("tcp://127.0.0.1:9", timeout_s=1):
            pass
    with pytest.raises(InputError, match=r"cluster.memory_limit_gb=0.2 is less than a worker needs, 0.5"):  # noqa: SIM117
        with cluster.local(1, 0.2):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"""cluster='distributed' is a package.*pip install "homodyne\[cluster\]"""):  # noqa: SIM117
        with cluster.local():
            pass
