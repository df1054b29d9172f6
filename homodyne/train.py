"""``python -m homodyne.train``: from settings to a fitted, drawn and recorded result.

Hydra composes the settings, ``homodyne.config`` checks them and builds the objects; here they meet. The run's folder
holds result.nc, config.yaml, fit.log, figures/, and posterior.nc of a sampler, before any tracker hears of the run.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from homodyne.config import schema
from homodyne.config.batch import is_batch, is_done, require_batch
from homodyne.config.explain import COMPOSITION_ERRORS, explain
from homodyne.config.outcome import Outcome, collected, report, worst
from homodyne.config.paths import conf_dir
from homodyne.config.validate import Settings, check_overrides, validate
from homodyne.config.windows import require_window
from homodyne.errors import InputError
from homodyne.files import require_writable, write_whole
from homodyne.train_posterior import POSTERIOR, require_shards, sample_and_save, tell_sampling

if TYPE_CHECKING:
    from homodyne.data import Dataset
    from homodyne.models import Model
    from homodyne.result import FitResult
    from homodyne.tracking import Tracker

log = logging.getLogger("homodyne.train")

#: What a standard error of each method stands on, as the log says it.
ERRORS = {
    "speckle": "from the noise of speckle, which neighboring pairs share",
    "repetitions": "from the scatter between repetitions",
    "jackknife": "from the scatter between angles",
    "iid": "as if all pairs were independent, which is too small: pairs share frames",
    "uniform": "from the noise of speckle, had all pairs been weighted alike",
}

# On import, not in main: the worker processes of a parallel sweep import this module and compose for themselves.
schema.register()


class SweepStopped(KeyboardInterrupt):
    """A job of a sweep was interrupted and recorded; the others must not start."""


class Ended(NamedTuple):
    """A run that is saved."""

    result: FitResult
    outcome: Outcome
    interrupted: bool


def train(cfg: DictConfig) -> float:
    """One fit; returns the reduced chi-squared, so that a sweeper can minimize it, and infinity for bad input."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    outcome = Outcome.ERROR
    try:
        settings = validate(cfg)
        require_window(settings)
        require_batch(settings)
        require_writable(run_dir, "hydra.run.dir")
        _configure_xla(settings)
        if settings["mode"] == "plan":
            tell_plan(settings)
            outcome = Outcome.OK
            return math.nan
        with _sigterm_is_ctrl_c():
            result, outcome, interrupted = run(settings, run_dir, Path.cwd() / "outputs")
        if interrupted and HydraConfig.get().mode is RunMode.MULTIRUN:
            raise SweepStopped
        return float(result.chi2_reduced)
    except InputError as error:
        # not raised further: the other jobs of a sweep go on, and main has the exit code
        log.error("%s", error)
        return math.inf
    except Exception:
        # a defect of ours: of several in a sweep Hydra shows the first only, so each is kept in its fit.log
        log.error("stopped by an unexpected error", exc_info=True)
        if cfg.dataset.get("glob") is None:
            raise
        return math.inf  # of hundreds of files one must not stop the others
    finally:
        report(outcome, run_dir)


def run(settings: Settings, run_dir: Path, outputs: Path) -> Ended:
    """Build, fit, save, draw, sample where that was chosen, record.

    Raises:
        InputError: a value that cannot be used; raised before data are read wherever that can be known.
    """
    from homodyne.config.build import build_tracker, open_client
    from homodyne.fitting import fit

    tracker = build_tracker(settings, outputs)
    if is_batch(settings) and is_done(run_dir, settings):
        return _kept(tracker, run_dir)
    if warning := tracker.prepare():
        log.warning("%s. The fit goes on; its result will stay in %s", warning, run_dir)
    model, dataset, arguments, sampling = built(settings, outputs)
    if sampling is not None:
        require_shards(dataset, sampling, arguments["min_lag"])
    # where a folder is used again, nothing of the earlier run must pass for this one
    whole = [run_dir / name for name in ("result.nc", POSTERIOR, "config.yaml", "recorded.json")]
    for stale in (*whole, *(run_dir / "figures").glob("*.png")):
        stale.unlink(missing_ok=True)
    _announce(settings, dataset, arguments["scaling"])
    with open_client(settings) as client:
        result = fit(dataset, model, client=client, **arguments)
    # only now: what data or memory forbid leaves nothing but its log
    write_whole(run_dir / "config.yaml", OmegaConf.to_yaml(settings))
    result.save(run_dir / "result.nc")
    _tell(result, run_dir)
    if settings["plots"]:
        _draw(dataset, result, model, run_dir / "figures")
    outcomes, interrupted = (
        [Outcome.OK if result.converged else Outcome.NOT_CONVERGED],
        result.status.value == "interrupted",
    )
    if sampling is not None:
        outcome, interrupted = sample_and_save(dataset, model, result, sampling, run_dir, plots=settings["plots"])
        outcomes.append(outcome)
    return Ended(result, worst([*outcomes, _record(tracker, run_dir)]), interrupted)


def _kept(tracker: Tracker, run_dir: Path) -> Ended:
    """What an earlier start of the same batch has done; recorded now where it could not be then."""
    from homodyne.tracking.run_folder import RunFolder

    folder = RunFolder.read(run_dir)
    log.info("Batch: done before, with the same settings: %s", run_dir)
    recorded = Outcome.OK if folder.recorded() else _record(tracker, run_dir)
    converged = folder.result.converged and (folder.posterior is None or folder.posterior.converged)
    return Ended(folder.result, worst([recorded, Outcome.OK if converged else Outcome.NOT_CONVERGED]), False)


def built(settings: Settings, outputs: Path) -> tuple[Model, Dataset, dict[str, Any], dict[str, Any] | None]:
    """Model, dataset, the other arguments of the fit and those of sampling; errors that need no data come before data are opened."""
    from homodyne.config.build import build_dataset, build_model, fit_arguments
    from homodyne.config.posterior import sample_arguments

    model = build_model(settings)
    arguments, sampling = fit_arguments(settings, outputs), sample_arguments(settings, model, outputs)
    dataset = build_dataset(settings)
    if model.needs_gap and dataset.gap is None:
        raise InputError(
            "dataset.gap_angstrom", None, f"is missing and {model.name} needs it",
            "set dataset.gap_angstrom to the rotor-stator distance in angstrom (1 mm = 1e7)",
        )  # fmt: skip
    return model, dataset, arguments, sampling


def tell_plan(settings: Settings) -> None:
    """``mode=plan``: strategy, blocks, memory and time of the fit, which is not started; nothing is recorded."""
    from homodyne.fitting import plan

    model, dataset, arguments, sampling = built(settings, Path.cwd() / "outputs")
    _announce(settings, dataset, arguments["scaling"])
    asked = ("scaling", "strategy", "start", "fixed", "bounds", "min_lag", "options")
    weighting = "uniform" if arguments["covariance"] == "iid" else arguments["weighting"]
    forecast = plan(dataset, model, weighting=weighting, **{name: arguments[name] for name in asked})
    for line in forecast.lines():
        log.info("%s", line)
    if sampling is not None:
        tell_sampling(dataset, model, sampling, forecast.decision.n_points, arguments["min_lag"])
    log.info("Plan only (mode=plan): nothing was fitted")


def main() -> int:
    """The command, on ``sys.argv``; returns its exit code (see ``Outcome``)."""
    problem: InputError | None = None
    with collected() as jobs:
        try:
            check_overrides(sys.argv[1:])
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(train)()
        except InputError as error:
            problem = error
        except COMPOSITION_ERRORS as error:
            problem = explain(error, sys.argv[1:])
        except OSError as error:
            problem = _unwritable(error)
        except SweepStopped:
            print("[WARNING] The sweep ends here; its remaining jobs were not started", file=sys.stderr)
        except KeyboardInterrupt as stop:
            problem = InputError(
                "fit", str(stop) or "Ctrl-C", "was interrupted", "start it again; nothing was recorded"
            )
    if problem is not None:
        print(f"[ERROR] {problem}", file=sys.stderr)
        return int(Outcome.ERROR)
    if any((job.run_dir.parent / "multirun.yaml").is_file() for job in jobs):
        from homodyne.cli.sweeps import finish

        try:
            finish(jobs, Path.cwd() / "outputs")
        except InputError as error:
            print(f"[ERROR] {error}", file=sys.stderr)
            return int(Outcome.ERROR)
    return int(worst(job.outcome for job in jobs))


def _configure_xla(settings: Settings) -> None:
    """Settings of JAX go into the environment before anything imports it; parallel jobs share what is granted."""
    mode = settings["xla"]["mode"]
    if mode != "none":
        from homodyne.xla_settings import apply

        log.info("%s", apply(mode, os.environ, _jobs_at_a_time()).sentence())


def _jobs_at_a_time() -> int:
    """Fits that the launcher of a sweep runs beside each other on this machine; -1 is how joblib says all processors."""
    hydra_conf = HydraConfig.get()
    n_jobs = OmegaConf.select(hydra_conf.launcher, "n_jobs") if hydra_conf.mode is RunMode.MULTIRUN else None
    return 1 if n_jobs is None else n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)


@contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    """SIGTERM, which batch systems send at the time limit, ends a fit as Ctrl-C does, with a result.

    Only the first one: another must not cut the saving short.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt("SIGTERM")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _unwritable(error: OSError) -> InputError:
    place = error.filename or "hydra.run.dir"
    return InputError(
        "output folder", str(place), f"cannot be written ({error.strerror or error})",
        "start from a folder you may write to, or set hydra.run.dir (hydra.sweep.dir with -m)",
    )  # fmt: skip


def _announce(settings: Settings, dataset: Dataset, scaling: str) -> None:
    for line in dataset.describe().splitlines():
        log.info("%s", line)
    chosen = settings["model"]
    if scaling != chosen["scaling"]:
        log.info(
            "Scaling: optimization.nlsq.anti_degeneracy.per_angle_mode replaces model.scaling=%s", chosen["scaling"]
        )
    log.info("Model: %s, %s convention, scaling %s", chosen["name"], chosen["convention"], scaling)


def _tell(result: FitResult, run_dir: Path) -> None:
    """The outcome, as a person reads it."""
    for line in (*result.table().splitlines(), *_about_errors(result)):
        log.info("%s", line)
    log.info("Reduced chi-squared: %.4f from %d points", result.chi2_reduced, result.n_points)
    for finding in result.findings:
        log.info("%s", finding)
    if result.converged:
        log.info("Status: converged. %s", result.message)
    else:
        advice = "" if result.status.advice in result.message else result.status.advice
        log.warning("Status: NOT CONVERGED (%s). %s %s", result.status.value, result.message, advice)
    log.info("Result: %s", run_dir / "result.nc")


def _about_errors(result: FitResult) -> list[str]:
    """Which errors the table shows: whoever copies a number from it may read nothing else."""
    chosen = result.covariance_method
    compared = [m for m in ("repetitions", "jackknife", "iid") if m in result.uncertainties and m != chosen]
    if result.weighting.name == "whitened":
        compared.append("uniform")
    return [
        f"errors: {chosen}, one standard error {ERRORS[chosen]}",
        *(f"        ({m}) for comparison: {ERRORS[m]}" for m in compared),
    ]


def _draw(dataset: Dataset, result: FitResult, model: Model, folder: Path) -> None:
    from homodyne.fitting import fit_maps
    from homodyne.plots import save_figures
    from homodyne.plots.curves import rates_and_integrals

    paths = save_figures(result, fit_maps(dataset, result, model), folder)
    log.info("Figures: %d in %s", len(paths), folder)
    rates = ", ".join(f"{rate}(t)" for rate, _ in rates_and_integrals(result.curve_table))
    log.info("        curves.png: %s with errors; diagnostics.png: how well the model fits", rates)


def _record(tracker: Tracker, run_dir: Path) -> Outcome:
    from homodyne.tracking import Unrecorded

    for handler in logging.getLogger().handlers:
        handler.flush()  # fit.log goes along
    try:
        log.info("Recorded: %s", tracker.record(run_dir))
    except Unrecorded as error:
        log.warning("NOT RECORDED: %s", error)
        log.warning("The result is complete in %s; later run: homodyne-import-run %s", run_dir, run_dir)
        return Outcome.NOT_RECORDED
    return Outcome.OK


if __name__ == "__main__":
    # under its own name, so that the workers of a parallel sweep can import the task
    from homodyne.train import main as main_by_name

    sys.exit(main_by_name())
