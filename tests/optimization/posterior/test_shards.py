"""Groups of sectors, workers that die, and results that are found again."""

import threading
import time

import numpy as np
import psutil
import pytest

from homodyne import InputError, estimate_cmc_memory_gb
from homodyne.models import get_model
from homodyne.optimization.nlsq.finished import Finished, request_of
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.posterior.coordinates import make_coordinates
from homodyne.optimization.posterior.likelihood import make_misfit
from homodyne.optimization.posterior.metric import iid_metric
from homodyne.optimization.posterior.priors import make_priors
from homodyne.optimization.posterior.shards import make_groups
from homodyne.optimization.posterior.summary import summarize
from homodyne.optimization.posterior.sums import sums_of
from homodyne.optimization.posterior.target import Whole, make_shards
from homodyne.optimization.posterior.worker import read_payload, write_payload
from homodyne.optimization.posterior.workers import draw_shards
from homodyne.optimization.source import all_frames
from tests.optimization.problems import problem, uniform_fit

MODEL = get_model("static")
SETTINGS = {"n_chains": 2, "n_samples": 50, "n_warmup": 50, "seed": 0}


@pytest.fixture(scope="module")
def shards():
    """Two shards of a small static measurement."""
    source, theta, _ = problem("static", n_phi=4, n_t=24, noise=0.004)
    result = uniform_fit(
        source, MODEL, strategy="stratified_ls", start=theta, fixed={"D_offset": 3.05}, covariance="iid"
    )
    finished = Finished.of(request_of(source, MODEL, result, NLSQOptions()), result)
    metric = iid_metric(finished.hessian(), result.chi2_reduced)
    free = finished.request.free
    parameters = tuple(p for p, keep in zip(MODEL.parameters, free, strict=True) if keep)
    priors = make_priors({"alpha": {"kind": "normal", "mean": -1.5, "sd": 0.5}}, parameters)
    coordinates = make_coordinates(parameters, priors, finished.best[free], metric)
    sums = sums_of(finished)
    root = result.uncertainties["iid"].root
    snapshots = finished.best + 2 * np.random.default_rng(0).normal(size=(12, root.shape[1])) @ root.T
    summary = summarize(sums, all_frames(source), snapshots)
    misfit = make_misfit(sums, source, summary, finished.scaling.basis)
    return make_shards(Whole(misfit, metric, coordinates), [np.array([0, 2]), np.array([1, 3])])


def test_a_shard_survives_its_file(shards, tmp_path):
    """The worker's shard has the same density to the last bit, and the digest tells shards apart."""
    first = write_payload(tmp_path / "a.npz", shards[0], SETTINGS)
    again, settings = read_payload(tmp_path / "a.npz")
    z = np.array([0.3, -0.2])
    assert float(again.log_density(z)) == float(shards[0].log_density(z))
    assert settings == SETTINGS
    assert first == write_payload(tmp_path / "b.npz", shards[0], SETTINGS)
    assert first != write_payload(tmp_path / "b.npz", shards[1], SETTINGS)


def test_a_killed_worker_changes_nothing_and_finished_shards_are_found_again(shards, tmp_path):
    """One worker is killed while it runs; draws equal those of the other folder, which was left alone."""
    killed = []

    def kill():
        while not killed:
            for child in psutil.Process().children():
                if "homodyne.optimization.posterior.worker" in child.cmdline():
                    time.sleep(0.5)
                    child.kill()
                    killed.append(child.pid)
                    return
            time.sleep(0.05)

    hurt, left_alone = tmp_path / "hurt", tmp_path / "left_alone"
    hurt.mkdir()
    left_alone.mkdir()
    threading.Thread(target=kill, daemon=True).start()
    draws, peaks = draw_shards(shards, hurt, 2, SETTINGS)
    assert killed
    assert min(peaks) > 0.1
    expected, _ = draw_shards(shards[:1], left_alone, 1, SETTINGS)
    np.testing.assert_array_equal(draws[0].z, expected[0].z)
    before = {path: path.stat().st_mtime_ns for path in hurt.glob("draws_*")}
    again, _ = draw_shards(shards, hurt, 2, SETTINGS)
    np.testing.assert_array_equal(again[1].z, draws[1].z)
    assert {path: path.stat().st_mtime_ns for path in hurt.glob("draws_*")} == before


@pytest.mark.parametrize(("n_phi", "shards", "n"), [(23, "auto", 5), (23, 4, 4), (4, "auto", 2)])
def test_groups_are_interleaved_and_hold_every_sector_once(n_phi, shards, n):
    source, _, _ = problem("static", n_phi=n_phi, n_t=8)
    groups = make_groups(source, 1000 * n_phi, shards, "auto")
    assert len(groups) == n
    assert sorted(np.concatenate(groups).tolist()) == list(range(n_phi))
    azimuths = np.asarray(source.phi)
    for group in groups:  # every shard spans the directions
        assert np.ptp(azimuths[group]) > 0.5 * np.ptp(azimuths)


def test_the_largest_shard_makes_more_of_them():
    source, _, _ = problem("static", n_phi=12, n_t=8)
    assert len(make_groups(source, 12_000, "auto", 3000)) == 4


@pytest.mark.parametrize(
    ("n_phi", "shards", "largest", "problem_text"),
    [
        (3, "auto", "auto", "needs at least 4 sectors"),
        (8, 5, "auto", "makes 5 shards of 8 sectors"),
        (8, 1, "auto", "makes 1 shards"),
        (8, "auto", 500, "makes 16 shards of 8 sectors"),
        (8, "few", "auto", "shards='few' is neither auto"),
        (8, "auto", 0.5, "max_points_per_shard=0.5 is neither auto"),
    ],
)
def test_shards_of_less_than_two_sectors_are_refused(n_phi, shards, largest, problem_text):
    source, _, _ = problem("static", n_phi=n_phi, n_t=8)
    with pytest.raises(InputError, match=problem_text):
        make_groups(source, 1000 * n_phi, shards, largest)


def test_memory_has_both_numbers_of_the_large_data_page():
    """4 workers x 5000 points x 9 parameters x 8 bytes = 1.4 MB; 1000 x 4 x 1500 x 9 x 8 bytes = 430 MB."""
    found = estimate_cmc_memory_gb(4, 5000, 9, 1000, 4, 1500)
    assert found.shards_gb * 2**30 == pytest.approx(1.44e6)
    assert found.results_gb * 2**30 == pytest.approx(432e6)
    assert found.total_gb > found.overhead_gb > 1.0
