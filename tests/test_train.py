"""The command: exit codes, messages, what is left on disk and in MLflow, sweeps."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from omegaconf import OmegaConf

from homodyne import train
from homodyne.machine import granted_processors
from homodyne.result import FitResult, Status
from homodyne.tracking import MlflowTracker, Unrecorded
from tests.factories import make_fit_result, make_maps

SMALL = [
    "model=static",
    "dataset=synthetic",
    "dataset.model=static",
    "dataset.n_phi=2",
    "dataset.n_t=40",
    "plots=false",
]


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(tmp_path, monkeypatch, capfd) -> Iterator[Callable[..., Ended]]:
    """Run the command in this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["homodyne.train", *arguments])
        code = train.main()
        return Ended(code, *capfd.readouterr())

    yield run
    for handler in logging.getLogger().handlers[:]:
        if type(handler) in (logging.FileHandler, logging.StreamHandler):
            logging.getLogger().removeHandler(handler)
            handler.close()


@pytest.fixture
def quick_fit(monkeypatch) -> Callable[..., None]:
    """Replace the fit by a finished one, whose scaling is the one asked for."""

    def replace(status: Callable[[str], Status] = lambda scaling: Status.CONVERGED) -> None:
        def fit(dataset, model, **arguments) -> FitResult:
            return make_fit_result(scaling=arguments["scaling"], status=status(arguments["scaling"]))

        monkeypatch.setattr("homodyne.fitting.fit", fit)
        monkeypatch.setattr("homodyne.fitting.fit_maps", lambda *given: make_maps(n_phi=1, n_t=20))

    return replace


def only_run(root: Path) -> Path:
    (config,) = root.glob("outputs/runs/*/*/config.yaml")
    return config.parent


def recorded_runs(root: Path):
    from homodyne.tracking.store import Store

    client = Store.locate(None, None, root / "outputs").client()
    return client.search_runs([e.experiment_id for e in client.search_experiments()])


def test_a_fit_from_settings_to_the_record(command, tmp_path):
    ended = command(*SMALL, "dataset.contrast_spread=0", "optimization.nlsq.anti_degeneracy.per_angle_mode=auto")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert "[INFO] Strategy: stratified_ls (n=1.56K pts" in ended.out
    assert "per_angle_mode replaces model.scaling=individual" in ended.out
    assert "[INFO] Status: converged" in ended.out
    folder = only_run(tmp_path)
    result = FitResult.load(folder / "result.nc")
    assert result.converged
    assert result.scaling == "auto"
    assert abs(result.theta["D0"] - 8e3) < 5 * result.stderr["D0"]
    assert "[INFO] Strategy: stratified_ls" in (folder / "fit.log").read_text()
    settings = OmegaConf.load(folder / "config.yaml")
    assert settings.dataset.n_t == 40
    (run,) = recorded_runs(tmp_path)
    assert run.data.metrics["theta.D0"] == result.theta["D0"]
    assert json.loads((folder / "recorded.json").read_text())["run_id"] == run.info.run_id


def test_not_converged_is_recorded_and_exits_with_2(command, quick_fit, tmp_path):
    quick_fit(lambda scaling: Status.MAX_PASSES)
    ended = command("dataset=synthetic", "dataset.n_t=20")
    assert ended.code == 2
    assert "[WARNING] Status: NOT CONVERGED (max_passes). The pass limit was reached first" in ended.out
    (run,) = recorded_runs(tmp_path)
    assert run.data.tags["status"] == "max_passes"
    assert {f.name for f in (only_run(tmp_path) / "figures").iterdir()} >= {"convergence.png", "memory.png"}


def test_without_tracking_the_folder_is_the_record(command, quick_fit, tmp_path):
    quick_fit()
    assert command("dataset=synthetic", "dataset.n_t=20", "tracking=none", "plots=false").code == 0
    assert (only_run(tmp_path) / "result.nc").is_file()
    assert not (tmp_path / "outputs" / "mlflow.db").exists()


def test_an_unreachable_server_costs_nothing_but_a_warning(command, quick_fit, tmp_path):
    quick_fit()
    started = time.monotonic()
    ended = command("dataset=synthetic", "dataset.n_t=20", "tracking.uri=http://127.0.0.1:9", "plots=false")
    assert time.monotonic() - started < 20
    assert ended.code == 3
    folder = only_run(tmp_path)
    assert "[WARNING] no MLflow server answers at http://127.0.0.1:9" in ended.out
    assert f"homodyne-import-run {folder}" in ended.out
    assert FitResult.load(folder / "result.nc").converged


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.scalng=auto"], "[ERROR] model.scalng='auto' is not a known key; did you mean model.scaling?\n"),
        (["+model.foo=3", "dataset.path=x"], "[ERROR] model.foo=3 is not a known key; known: name, file"),
        (["dataset.dt=abc"], "[ERROR] dataset.dt='abc' cannot be used"),
        (["dataset.path=x", "dataset.q=abc"], "[ERROR] dataset.q='abc' must be positive"),
        ([], "[ERROR] dataset.path=None is missing; set dataset.path=/path/to/file\n"),
        (["dataset.path=/no/such.hdf"], "[ERROR] dataset.path='/no/such.hdf' does not exist; check the path"),
        (["dataset.path=x", "model.start.DO=3"], "[ERROR] model.start['DO']=3.0 is not a parameter of this model"),
        (["dataset=synthetic", "tracking._target_=os.system"], "[ERROR] tracking._target_='os.system' names a target"),
        (["--config-dir", "nowhere"], "nowhere' not found"),
        (["dataset=synthetic", "hydra.run.dir=a_file/run"], "[ERROR] output folder='a_file"),
    ],
)
def test_errors_are_one_line_on_stderr_and_exit_with_1(command, tmp_path, arguments, message):
    (tmp_path / "a_file").write_text("")
    ended = command(*arguments)
    assert ended.code == 1
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err + ended.out
    assert not list(tmp_path.glob("outputs/**/result.nc"))
    assert not (tmp_path / "outputs" / "mlflow.db").exists()


def test_an_output_folder_that_cannot_be_made_is_noticed_before_data_are_read(command, tmp_path, monkeypatch):
    monkeypatch.setattr("homodyne.config.build.build_dataset", lambda settings: pytest.fail("data were opened"))
    (tmp_path / "outputs").write_text("a file in its place")
    ended = command("dataset=synthetic")
    assert ended.code == 1
    assert "cannot be written" in ended.err
    assert "Traceback" not in ended.err


def test_a_missing_gap_is_named_with_its_unit(command, tmp_path):
    import numpy as np

    from homodyne.data import Dataset

    c2 = np.full((1, 8, 8), 1.1)
    Dataset.from_arrays(c2, [0.0], 0.1 * np.arange(8), 0.01, sigma=0.1).to_netcdf(tmp_path / "x.nc")
    ended = command("dataset.path=x.nc", "model=laminar_flow")
    assert ended.code == 1
    assert (
        "[ERROR] dataset.gap_angstrom=None is missing and laminar_flow needs it; set dataset.gap_angstrom" in ended.err
    )


def test_a_folder_used_again_keeps_nothing_of_the_earlier_run(command, quick_fit, tmp_path, monkeypatch):
    quick_fit()
    again = ["dataset=synthetic", "dataset.n_t=20", "hydra.run.dir=here", "tracking=none", "plots=false"]
    assert command(*again).code == 0
    (tmp_path / "here" / "recorded.json").write_text('{"uri": "old", "run_id": "old"}')

    def broken(*given, **settings):
        raise ZeroDivisionError

    monkeypatch.setattr("homodyne.fitting.fit", broken)
    with pytest.raises(ZeroDivisionError):
        command(*again)
    assert not (tmp_path / "here" / "result.nc").exists()
    assert not (tmp_path / "here" / "recorded.json").exists()
    assert "ZeroDivisionError" in (tmp_path / "here" / "fit.log").read_text()


def test_a_sweep_records_each_job_under_one_parent(command, quick_fit, tmp_path):
    quick_fit(lambda scaling: Status.STALLED if scaling == "auto" else Status.CONVERGED)
    ended = command(
        "-m", "+experiment=laminar_flow", "dataset=synthetic", "dataset.n_t=20", "plots=false",
        "model.scaling=individual,auto,constant",
    )  # fmt: skip
    assert ended.code == 2
    names = sorted(p.parent.name for p in tmp_path.glob("outputs/sweeps/*/*/*/result.nc"))
    assert names == [
        f"{n}_dataset.n_t=20,model.scaling={s},plots=False" for n, s in enumerate(("individual", "auto", "constant"))
    ]
    jobs = [r for r in recorded_runs(tmp_path) if "mlflow.parentRunId" in r.data.tags]
    assert {r.data.tags["scaling"] for r in jobs} == {"individual", "auto", "constant"}
    (parent,) = {r.data.tags["mlflow.parentRunId"] for r in jobs}
    assert len(recorded_runs(tmp_path)) == 4
    # what belongs to the whole sweep is kept with the parent
    (sweep,) = tmp_path.glob("outputs/sweeps/*/*")
    tracker = MlflowTracker(tmp_path / "outputs")
    tracker.attach(sweep, [sweep / "multirun.yaml"])
    assert [file.path for file in tracker.store.client().list_artifacts(parent)] == ["multirun.yaml"]
    with pytest.raises(Unrecorded, match="holds no record of"):
        tracker.attach(tmp_path, [])


def test_an_interrupted_job_ends_its_sweep(command, quick_fit, tmp_path):
    quick_fit(lambda scaling: Status.INTERRUPTED if scaling == "auto" else Status.CONVERGED)
    ended = command(
        "-m", "dataset=synthetic", "dataset.n_t=20", "plots=false", "tracking=none",
        "model.scaling=individual,auto,constant",
    )  # fmt: skip
    assert ended.code == 2
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/*/result.nc"))) == 2
    assert ended.err == "[WARNING] The sweep ends here; its remaining jobs were not started\n"


@pytest.mark.parametrize("strategy", ["auto", "cmaes_nlsq"])
def test_a_plan_is_told_and_nothing_is_fitted_or_recorded(command, tmp_path, monkeypatch, strategy):
    monkeypatch.setattr("homodyne.fitting.fit", lambda *given, **settings: pytest.fail("a fit was started"))
    ended = command(*SMALL, "mode=plan", f"strategy={strategy}", "model.scaling=auto")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    told = [line.partition("[INFO] ")[2] for line in ended.out.splitlines()]
    name = "stratified_ls" if strategy == "auto" else strategy
    for n, begins in enumerate(
        (
            f"Strategy: {name} (n=1.56K pts, est. peak=", "Memory: about 0.", "Blocks: 1 a pass; ", "Time: about ",
            "Weighting: whitened, ",
        )
    ):  # fmt: skip
        assert told[n - 6].startswith(begins)
    assert told[-1] == "Plan only (mode=plan): nothing was fitted"
    assert any(line.startswith("Model: static, physical convention, scaling auto") for line in told)
    assert {p.name for p in tmp_path.glob("outputs/runs/*/*/*")} <= {"fit.log", ".hydra"}
    assert not list(tmp_path.glob("outputs/**/result.nc"))
    assert not (tmp_path / "outputs" / "mlflow.db").exists()


def test_a_plan_of_what_cannot_be_fitted_is_an_error(command):
    ended = command(*SMALL, "mode=plan", "optimization.nlsq.memory_threshold_gb=0.1")
    assert ended.code == 1
    assert "[ERROR] memory_threshold_gb=0.1 is less than one streamed block needs" in ended.err


def test_a_fit_from_settings_with_a_global_search(command, tmp_path):
    """Every line of the search is in the log, every optimum in the result."""
    ended = command(
        *SMALL, "strategy=cmaes_nlsq", "strategy.restarts=0", "model.fixed={D_offset: 0}", "model.start={D0: 1e4, alpha: -0.3}",
        "optimization.covariance=iid", "tracking=none",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "[INFO] Strategy: cmaes_nlsq (n=1.56K pts" in ended.out
    assert "passes by stratified_ls, chosen by the user)" in ended.out
    folder = only_run(tmp_path)
    log = (folder / "fit.log").read_text()
    assert "Search: local fit from the given start (1 points compared" in log
    assert "Search: CMA-ES run 1, " in log
    result = FitResult.load(folder / "result.nc")
    assert result.strategy == "cmaes_nlsq"
    assert set(result.optima["origin"].values.tolist()) == {"given by the user", "CMA-ES, run 1"}
    assert OmegaConf.load(folder / "config.yaml").strategy.restarts == 0


STREAMED = [*SMALL, "strategy=hybrid_streaming", "optimization.nlsq.subset_frames=16", "optimization.nlsq.xtol=1e-9"]


def signaled(monkeypatch, number, in_pass):
    """Send a real signal to this process in the given pass over all points."""
    from homodyne.optimization.nlsq import engine

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # tests that run in the background would not notice Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    real, passes = engine.block_pass, []

    def block_pass(*given):
        run_pass = real(*given)

        def run(theta, reference):
            passes.append(theta)
            if len(passes) == in_pass:
                os.kill(os.getpid(), number)
                time.sleep(10)
            return run_pass(theta, reference)

        return run

    monkeypatch.setattr(engine, "block_pass", block_pass)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_fit_is_saved_drawn_and_recorded_and_then_resumed(command, tmp_path, monkeypatch, number):
    before = signal.getsignal(signal.SIGTERM)
    arguments = [*STREAMED, "plots=true", "optimization.checkpoint=true"]
    with monkeypatch.context() as patch:
        signaled(patch, number, 2)
        ended = command(*arguments)
    assert ended.code == 2, ended.err
    assert "[WARNING] Interrupted after pass 1; what follows is the best result so far" in ended.out
    assert "[WARNING] Status: NOT CONVERGED (interrupted). Stopped by Ctrl-C or SIGTERM" in ended.out
    folder = only_run(tmp_path)
    assert FitResult.load(folder / "result.nc").status is Status.INTERRUPTED
    assert (folder / "figures" / "convergence.png").is_file()
    (run,) = recorded_runs(tmp_path)
    assert run.data.tags["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is before
    (path,) = (tmp_path / "outputs" / "checkpoints").iterdir()
    ended = command(*arguments)
    assert ended.code == 0, ended.err
    assert f"[INFO] Checkpoint: {path}" in ended.out
    assert "[INFO] Pass 1: from the checkpoint, " in ended.out
    assert not path.exists()


def test_a_second_sigterm_does_not_cut_the_saving_short(command, tmp_path, monkeypatch):
    signaled(monkeypatch, signal.SIGTERM, 2)
    real = train._tell

    def tell(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        real(*given)

    monkeypatch.setattr(train, "_tell", tell)
    assert command(*STREAMED, "tracking=none").code == 2
    assert (only_run(tmp_path) / "result.nc").is_file()


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_an_interruption_in_the_first_pass_leaves_no_result(command, tmp_path, monkeypatch, number, name):
    signaled(monkeypatch, number, 1)
    ended = command(*STREAMED)
    assert ended.code == 1
    assert ended.err == f"[ERROR] fit='{name}' was interrupted; start it again; nothing was recorded\n"
    assert not list(tmp_path.glob("outputs/**/result.nc"))


def test_bad_input_in_one_job_does_not_stop_the_others(command, quick_fit, tmp_path):
    quick_fit()
    ended = command(
        "-m", "dataset=synthetic", "dataset.n_t=20", "plots=false", "tracking=none", "model.scaling=wrong,auto"
    )
    assert ended.code == 1
    assert "[ERROR] model.scaling='wrong' is not one of the choices" in ended.err
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/*/result.nc"))) == 1


def test_a_sweep_in_parallel_processes(tmp_path):
    arguments = [
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "xla=hpc",
        *SMALL,
        "optimization.nlsq.subset_frames=16",
        "optimization.nlsq.max_passes=1,50",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "homodyne.train", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(train.__file__).parents[1])},
    )  # fmt: skip
    runs = recorded_runs(tmp_path)
    jobs = {r.data.tags["status"]: r for r in runs if "mlflow.parentRunId" in r.data.tags}
    assert set(jobs) == {"converged", "max_passes"}, ended.stderr
    assert len({r.data.tags["mlflow.parentRunId"] for r in jobs.values()}) == 1
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    # the two share the processors
    logs = [path.read_text() for path in tmp_path.glob("outputs/sweeps/*/*/*/fit.log")]
    assert len(logs) == 2
    assert all(f"NPROC={max(1, granted_processors() // 2)}" in log for log in logs)


def test_a_sweep_of_submitted_jobs(tmp_path):
    """The launcher of SLURM with its executor for one machine: jobs that share nothing but the working directory."""
    arguments = ["-m", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", *SMALL, "tracking=none"]
    arguments += [
        "optimization.covariance=iid",
        "optimization.nlsq.max_passes=1,50",
        "optimization.nlsq.subset_frames=16",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "homodyne.train", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(train.__file__).parents[1])},
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    results = [FitResult.load(path).status.value for path in tmp_path.glob("outputs/sweeps/*/*/*/result.nc")]
    assert sorted(results) == ["converged", "max_passes"]
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


@pytest.mark.parametrize(("option", "launcher"), [("processes", "JoblibLauncher"), ("slurm", "SlurmLauncher")])
def test_launchers_with_settings_of_ours(option, launcher):
    """They compose against the schema of their plugin, which checks every key."""
    from hydra import compose, initialize_config_dir

    from homodyne.config.paths import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [f"hydra/launcher={option}", "dataset.path=x"], return_hydra_config=True)
    chosen = cfg.hydra.launcher
    assert chosen._target_.endswith(launcher)
    if option == "processes":
        assert chosen.n_jobs == granted_processors()
    else:
        assert (chosen.cpus_per_task, chosen.mem_gb, chosen.name) == (4, 4, "homodyne")


def test_the_objective_is_the_reduced_chi_squared(tmp_path, quick_fit, monkeypatch):
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    from homodyne.config.paths import conf_dir

    quick_fit()
    monkeypatch.chdir(tmp_path)
    overrides = [
        "dataset=synthetic",
        "dataset.n_t=20",
        "tracking=none",
        "plots=false",
        f"hydra.runtime.output_dir={tmp_path}",
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    del cfg.hydra
    assert train.train(cfg) == make_fit_result().chi2_reduced


def test_help_is_light(tmp_path):
    code = (
        "import sys; sys.argv = ['homodyne.train', '--help']\nfrom homodyne import train\n"
        "try:\n    train.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'jax', 'mlflow', 'xarray', 'matplotlib', 'netCDF4', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "python -m homodyne.train +experiment=laminar_flow dataset=apsu" in ended.stdout
    assert (
        "strategy: auto, cmaes_nlsq, cmc, distributed, hybrid_streaming, multistart, nuts, stratified_ls"
        in ended.stdout
    )
    assert not list(tmp_path.iterdir())
