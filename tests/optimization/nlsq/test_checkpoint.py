"""A killed fit is resumed after its last finished pass and ends with the same bits; nothing else is taken for it."""

import dataclasses
import io
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import homodyne
from homodyne.data import Dataset
from homodyne.errors import InputError
from homodyne.models import get_model
from homodyne.optimization.nlsq import NLSQOptions, checkpoint, fit_nlsq_jax
from homodyne.optimization.nlsq.engine import subset_size
from homodyne.optimization.nlsq.identity import identity
from homodyne.optimization.nlsq.request import check_request
from homodyne.optimization.search import Auto
from homodyne.optimization.source import subset
from homodyne.result import Status
from tests.optimization.problems import Arrays, problem, uniform_fit

N_T, PHI = 60, np.array([-70.0, -30.0, 5.0, 40.0, 85.0])
# A warm-up on few frames and a fine tolerance: several passes over all points.
OPTIONS = NLSQOptions(subset_frames=24, xtol=1e-9)
BEGINNING_READS = len(PHI) * 3 + 1  # three runs of frames for the warm-up, one point for the type of the data
PASS_READS = len(PHI)  # one panel an angle
ERROR_READS = 2 * len(PHI)  # after the last pass: the noise of every angle, and its masked points


class Killed(Exception):
    """In place of kill -9: nothing in the package catches it."""


class Watched(Arrays):
    """Counts reads; at read number ``at`` it raises ``stop()``."""

    reads: list
    at: int
    stop: type

    def read_block(self, k, rows, cols):
        self.reads.append(k)
        if len(self.reads) == self.at:
            raise self.stop()
        return self.c2[k, rows, cols]


@pytest.fixture(scope="module")
def arrays():
    return problem("static", n_t=N_T, phi=PHI, noise=0.002)[0]


def watched(arrays, at=10**9, stop=Killed):
    source = Watched(arrays.c2, arrays.phi, arrays.t, arrays.sigma)
    for name, value in {"reads": [], "at": at, "stop": stop}.items():
        object.__setattr__(source, name, value)
    return source


def fit(source, folder, strategy="hybrid_streaming", options=OPTIONS, model="static", **settings):
    return uniform_fit(source, model, strategy=strategy, options=options, checkpoint=folder, **settings)


def in_pass(n):
    """The read in the middle of pass ``n`` over all points."""
    return BEGINNING_READS + (n - 1) * PASS_READS + 3


def killed(arrays, folder, n, **settings):
    """A fit that ends in its pass ``n``; returns the file that is left."""
    with pytest.raises(Killed):
        fit(watched(arrays, in_pass(n)), folder, **settings)
    (path,) = folder.iterdir()
    return path


def same_fit(a, b):
    assert list(a.theta.values()) == list(b.theta.values())
    for name in ("contrast", "offset", "chi2_per_angle"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.covariance.values, b.covariance.values)
    for name in ("cost", "step_norm", "stage", "points", "accepted"):
        np.testing.assert_array_equal(a.history[name], b.history[name])
    assert (a.start, a.start_source, a.status) == (b.start, b.start_source, b.status)


@pytest.fixture(scope="module")
def whole(arrays):
    """The fit without a break, and without a checkpoint."""
    result = fit(arrays, None)
    assert result.converged
    assert (result.history["stage"] == "full").sum() >= 4
    return result


def n_passes(result):
    return int((result.history["stage"] == "full").sum())


def reads_without(whole, n):
    """Reads of a fit that takes ``n`` passes from the checkpoint."""
    return BEGINNING_READS + (n_passes(whole) - n) * PASS_READS + ERROR_READS


def test_what_is_read(arrays, whole):
    """The numbers above, from a fit without a break."""
    source = watched(arrays)
    same_fit(fit(source, None), whole)
    assert len(source.reads) == reads_without(whole, 0)
    assert sorted(source.reads[-ERROR_READS:]) == sorted([0, 1, 2, 3, 4] * 2)
    source = watched(arrays)
    fit(source, None, covariance="iid")
    assert len(source.reads) == reads_without(whole, 0) - ERROR_READS


@pytest.mark.parametrize("n", [1, 3])
def test_a_killed_fit_goes_on_after_its_last_finished_pass(arrays, whole, tmp_path, caplog, n):
    caplog.set_level(logging.INFO, "homodyne")
    path = killed(arrays, tmp_path, n)
    source = watched(arrays)
    caplog.clear()
    result = fit(source, tmp_path)
    same_fit(result, whole)
    assert len(source.reads) == reads_without(whole, n - 1)
    full = result.history["stage"].values == "full"
    assert result.history["from_checkpoint"].values[full].tolist() == [1] * (n - 1) + [0] * (n_passes(whole) - n + 1)
    assert f"Checkpoint: {path}" in caplog.text
    assert f"Checkpoint: {n - 1} finished passes found" in caplog.text
    assert ("Pass 1: from the checkpoint, 8850 points, chi2/N = " in caplog.text) == (n > 1)
    assert f"Pass {n}: 8850 points at" in caplog.text
    assert not path.exists()


def test_the_full_batch_strategy_goes_on_too(arrays, tmp_path, monkeypatch):
    reference = fit(arrays, None, "stratified_ls")
    written = []

    def write_then_die(path, content):
        real(path, content)
        written.append(path)
        if len(written) == 3:  # the beginning and two passes
            raise Killed

    real = checkpoint.write_whole
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_whole", write_then_die)
        with pytest.raises(Killed):
            fit(arrays, tmp_path, "stratified_ls")
    result = fit(arrays, tmp_path, "stratified_ls")
    same_fit(result, reference)
    assert result.history["from_checkpoint"].values.sum() == 2


def test_kill_9(arrays, whole, tmp_path):
    """The same with a process that has no chance to do anything about it."""
    script = f"""
import os, signal
import homodyne
from tests.optimization.nlsq.test_checkpoint import OPTIONS, N_T, PHI, in_pass, problem, watched
source = watched(problem("static", n_t=N_T, phi=PHI, noise=0.002)[0], in_pass(3), lambda: os.kill(os.getpid(), signal.SIGKILL))
homodyne.fit(source, "static", strategy="hybrid_streaming", options=OPTIONS, weighting="uniform", checkpoint={str(tmp_path)!r})
"""
    root = str(Path(homodyne.__file__).parents[1])
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    source = watched(arrays)
    same_fit(fit(source, tmp_path), whole)
    assert len(source.reads) == reads_without(whole, 2)


def test_ctrl_c_returns_a_result_and_keeps_the_file(arrays, whole, tmp_path, caplog):
    caplog.set_level(logging.INFO, "homodyne")
    result = fit(watched(arrays, in_pass(3), KeyboardInterrupt), tmp_path)
    assert result.status is Status.INTERRUPTED
    assert "Interrupted after pass 2; what follows is the best result so far. The same command" in caplog.text
    assert len(list(tmp_path.iterdir())) == 1
    same_fit(fit(arrays, tmp_path), whole)


def test_without_a_checkpoint_the_interruption_says_how_to_have_one(arrays, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fit(watched(arrays, in_pass(2), KeyboardInterrupt), None).status is Status.INTERRUPTED
    assert "With optimization.checkpoint=true (homodyne.fit: checkpoint=FOLDER) a fit can be resumed" in caplog.text
    assert not list(tmp_path.iterdir())


def test_settings_that_change_no_pass_use_the_same_file(arrays, tmp_path):
    killed(arrays, tmp_path, 3)
    options = dataclasses.replace(OPTIONS, max_passes=2, xtol=1e-8, memory_fraction=0.5)
    result = fit(arrays, tmp_path, options=options, covariance="jackknife", counts=2.0, pixels=1e4)
    assert result.status is Status.MAX_PASSES
    assert result.history["from_checkpoint"].values.sum() == 2
    assert not list(tmp_path.iterdir())


def moved(arrays):
    c2 = arrays.c2.copy()
    c2[0, 0, 1] += 1e-6
    return dataclasses.replace(arrays, c2=c2)


def other_kernel():
    model = get_model("static")
    return dataclasses.replace(model, kernel=lambda x: model.kernel(1.001 * x))


@pytest.mark.parametrize(
    "change",
    [
        {"scaling": "auto"},
        {"fixed": {"D_offset": 300.0}},
        {"start": {"alpha": -0.5}},
        {"bounds": {"D0": (1.0, 1e5)}},
        {"min_lag": 2},
        {"strategy": "stratified_ls"},
        {"options": dataclasses.replace(OPTIONS, subset_frames=32)},
        {"model": other_kernel()},
        {"source": moved},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_checkpoint_of_another_fit_is_not_used(arrays, tmp_path, caplog, change):
    caplog.set_level(logging.INFO, "homodyne")
    path = killed(arrays, tmp_path, 2)
    before = path.read_bytes()
    caplog.clear()
    settings = {k: v for k, v in change.items() if k != "source"}
    result = fit(change.get("source", lambda a: a)(arrays), tmp_path, **settings)
    assert result.history["from_checkpoint"].values.sum() == 0
    assert "none of this fit; the folder has 1 of other data or settings, which are not used" in caplog.text
    assert path.read_bytes() == before


def test_a_file_under_the_wrong_name_is_not_used(arrays, whole, tmp_path, caplog):
    other = killed(arrays, tmp_path / "b", 3, start={"alpha": -0.5})
    path = killed(arrays, tmp_path / "a", 2)
    other.rename(path)
    same_fit(fit(arrays, tmp_path / "a"), whole)
    assert f"{path} belongs to another fit; it is not used and will be replaced" in caplog.text


def test_a_file_that_was_written_again_is_another_one(arrays, tmp_path):
    c2 = np.where(np.eye(N_T, dtype=bool), 1.0, arrays.c2)
    Dataset.from_arrays(c2, PHI, arrays.t, arrays.q, sigma=0.002).to_netcdf(tmp_path / "x.nc")

    def name():
        dataset = Dataset.open(tmp_path / "x.nc")
        settings = {
            "scaling": "auto", "strategy": Auto(), "warm_up": None, "start": {}, "fixed": {}, "bounds": {}, "covariance": "iid",
            "counts": None, "pixels": None, "min_lag": 1,
        }  # fmt: skip
        request = check_request(dataset, get_model("static"), **settings, options=OPTIONS)
        return identity(request, subset(dataset, subset_size(request)))

    first = name()
    assert name() == first
    os.utime(tmp_path / "x.nc", ns=(0, 1))
    assert name() != first


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    """One bit in the middle of the stored sums."""
    middle = content.index(b"factors.npy") + 400
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def pickled(content):
    made = io.BytesIO()
    np.savez(made, request=np.array({"an": "object"}, dtype=object))
    return made.getvalue()


@pytest.mark.parametrize("damage", [cut, flipped, pickled, lambda c: b"", lambda c: b"text", lambda c: c[:-1]])
def test_a_damaged_file_is_an_error_with_a_remedy(arrays, tmp_path, damage):
    path = killed(arrays, tmp_path, 2)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"checkpoint='.*\.npz' cannot be read \(.*\); delete this file") as caught:
        fit(arrays, tmp_path)
    assert caught.value.value == str(path)


def test_passes_at_other_parameters_are_dropped(arrays, whole, tmp_path, caplog):
    """As on another processor, where the same step ends a bit away."""
    path = killed(arrays, tmp_path, 4)
    with np.load(path) as file:
        stored = dict(file)
    assert len(stored["theta"]) == 3
    stored["theta"][1] = np.nextafter(stored["theta"][1], np.inf)
    np.savez(path, **stored)
    source = watched(arrays)
    result = fit(source, tmp_path)
    same_fit(result, whole)
    assert result.history["from_checkpoint"].values.sum() == 1
    assert len(source.reads) == reads_without(whole, 1)
    assert "Checkpoint: pass 2 was taken at parameters that differ by up to 2" in caplog.text
    assert "passes from 2 to 3 are repeated" in caplog.text


def test_a_folder_that_cannot_be_made_is_an_error_before_data_are_read(arrays, tmp_path):
    (tmp_path / "file").write_text("")
    source = watched(arrays)
    with pytest.raises(InputError, match=r"checkpoint='.*file' cannot be written"):
        fit(source, tmp_path / "file")
    assert not source.reads


def test_the_call_of_homodyne_2_users_has_it_too(arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = Dataset.from_arrays(arrays.c2, PHI, arrays.t, arrays.q, sigma=0.002)
    monkeypatch.setattr(checkpoint.Journal, "remove", lambda journal: None)
    fit_nlsq_jax(dataset, {"analysis_mode": "static", "optimization": {"checkpoint": True}})
    assert len(list((tmp_path / "outputs" / "checkpoints").glob("*.npz"))) == 1


def test_a_full_disk_costs_the_checkpoint_and_not_the_fit(arrays, whole, tmp_path, monkeypatch, caplog):
    def no_room(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_whole", no_room)
    same_fit(fit(arrays, tmp_path), whole)
    assert "was not written (No space left on device); the fit goes on" in caplog.text
