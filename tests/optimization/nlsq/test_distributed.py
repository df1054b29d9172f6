"""Passes on a cluster: the joint dense problem, the same bits whoever sums, workers that die, data that nobody else can read."""

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import homodyne
from homodyne.config.build import own_model
from homodyne.data import Dataset
from homodyne.errors import InputError
from homodyne.models import get_model
from homodyne.optimization.loss import Loss
from homodyne.optimization.nlsq import NLSQOptions, distributed
from homodyne.optimization.nlsq.cluster import Cluster
from homodyne.optimization.nlsq.distributed import add_up, distributed_pass, job_points, make_tasks
from homodyne.optimization.nlsq.hybrid_streaming import all_jobs, plan_for, streamed_pass
from homodyne.optimization.normal import linearize
from homodyne.optimization.scaling import make_scaling
from homodyne.optimization.source import all_frames
from tests.optimization.problems import problem, uniform_fit
from tests.optimization.test_passes import THETA, reference_step, step_of
from tests.reference import GAP, STATIC, Q

REFERENCE = np.tile([0.25, 1.0], (5, 1))
BLOCK = 400


@pytest.fixture(scope="module")
def client():
    """Two workers of one thread, as ``cluster=local`` starts them."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", env={"NPROC": "1"}
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def arrays():
    found = problem(n_phi=5, missing=0.02)[0]
    return dataclasses.replace(found, c2=np.triu(found.c2))


@pytest.fixture(scope="module")
def source(arrays, tmp_path_factory):
    """The same in a file."""
    path = tmp_path_factory.mktemp("distributed") / "flow.nc"
    written = Dataset.from_arrays(arrays.c2, arrays.phi, arrays.t, Q, gap=GAP, sigma=arrays.sigma)
    # the file is in single precision: so are the arrays from here on
    written.to_netcdf(path)
    return Dataset.open(path)


def joint(source, arrays, sums):
    """Step from the sums of a pass, and that of the joint dense problem."""
    stored = np.stack([source.read_block(k, slice(0, 40), slice(0, 40)) for k in range(5)]).astype(float)
    at = linearize(sums, make_scaling("individual", source.phi), np.ones(5))
    return step_of(at), reference_step(dataclasses.replace(arrays, c2=stored), THETA, "individual")[0]


class Here:
    """A cluster without workers: the same tasks and the same tree in this process."""

    def prepare(self, function, setup):
        function(setup)

    def reduced(self, function, arguments, add_up, fan_in, name, sizes, advance=None):
        level = [function(argument) for argument in arguments]
        while len(level) > 1:
            level = [add_up(level[n : n + fan_in]) for n in range(0, len(level), fan_in)]
        return level[0]


def same_bits(a, b):
    return a.factors.tobytes() == b.factors.tobytes() and a.counts.tobytes() == b.counts.tobytes()


def test_the_step_is_that_of_the_joint_problem_and_its_bits_do_not_depend_on_who_summed(client, source, arrays):
    model, view, seen = get_model("laminar_flow"), all_frames(source), []
    sums = distributed_pass(model, view, 1, BLOCK, Cluster(client), seen.append)(THETA, REFERENCE)
    step, expected = joint(source, arrays, sums)
    np.testing.assert_allclose(step, expected, rtol=1e-10)
    assert sum(seen) == view.n_points(1)
    alone = distributed_pass(model, view, 1, BLOCK, Here())(THETA, REFERENCE)
    assert same_bits(sums, alone)


@pytest.mark.parametrize("seed", range(4))
def test_any_partition_gives_the_same_step(source, arrays, seed):
    rng = np.random.default_rng(seed)
    model, view = get_model("laminar_flow"), all_frames(source)
    jobs = all_jobs(plan_for(view, BLOCK), 5)
    task_of = rng.integers(0, rng.integers(1, len(jobs)), len(jobs))
    tasks = [[job for job, t in zip(jobs, task_of, strict=True) if t == n] for n in rng.permutation(max(task_of) + 1)]
    sums = distributed_pass(model, view, 1, BLOCK, Here(), tasks=[t for t in tasks if t])(THETA, REFERENCE)
    step, expected = joint(source, arrays, sums)
    np.testing.assert_allclose(step, expected, rtol=1e-10)


def test_robust_sums_and_single_precision_are_those_of_a_streamed_pass(source):
    model, view = get_model("laminar_flow"), all_frames(source)
    for precision, loss in (("float64", Loss("huber", 2.0)), ("float32", None)):
        streamed = streamed_pass(model, view, 1, BLOCK, None, precision, loss)(THETA, REFERENCE)
        tasks = [[job] for job in all_jobs(plan_for(view, BLOCK), 5)]
        sums = distributed_pass(model, view, 1, BLOCK, Here(), None, precision, loss, tasks)(THETA, REFERENCE)
        np.testing.assert_array_equal(sums.reference, streamed.reference)
        assert (sums.terms is None) == (loss is None)
        if loss is not None:
            np.testing.assert_allclose(sums.terms, streamed.terms, rtol=1e-12)
        np.testing.assert_allclose(
            *((s.factors**2).sum(1)[:, [0, 1, -1]] for s in (sums, streamed)), rtol=1e-11
        )  # of columns that no rotation mixes


def test_tasks_are_neighbors_of_about_the_same_size(source):
    view = all_frames(source)
    jobs = all_jobs(plan_for(view, 100), 5)
    assert sum(job_points(job, view, 3) for job in jobs) == view.n_points(3)
    tasks = make_tasks(jobs, view, 1)
    assert [job for task in tasks for job in task] == jobs
    assert all(tasks)


@dataclasses.dataclass(frozen=True)
class Deadly:
    """A source that kills the first process that reads its third angle."""

    inner: Dataset
    trace: Path

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def read_block(self, k, rows, cols):
        if k == 2:
            try:  # of two processes that read at the same time one dies
                self.trace.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.read_block(k, rows, cols)

    def opener(self):
        return Reopen(self.inner.opener(), self.trace)


@dataclasses.dataclass(frozen=True)
class Reopen:
    inner: object
    trace: Path

    def __call__(self):
        return Deadly(self.inner(), self.trace)


@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_costs_time_and_nothing_else(client, source, tmp_path):
    model, cluster = get_model("laminar_flow"), Cluster(client)
    view = all_frames(Deadly(source, tmp_path / "killed"))
    tasks = [[job] for job in all_jobs(plan_for(view, BLOCK), 5)]
    sums = distributed_pass(model, view, 1, BLOCK, cluster, tasks=tasks)(THETA, REFERENCE)
    assert (tmp_path / "killed").exists()
    alone = distributed_pass(model, all_frames(source), 1, BLOCK, Here(), tasks=tasks)(THETA, REFERENCE)
    assert same_bits(sums, alone)
    record = cluster.record()
    assert (record["workers_lost"], record["tasks"]) == (1, len(tasks))
    assert record["tasks_repeated"] >= 1
    assert Cluster(client).record()["workers_lost"] == 0  # the next fit begins anew


def test_a_fit_of_repetitions(client, tmp_path):
    """The whole way: the result of streaming, each repetition's pass on the workers too, and the record."""
    truth = np.array(list(STATIC.values()))
    for n in range(3):
        arrays, _, _ = problem("static", n_t=40, n_phi=2, seed=n)
        Dataset.from_arrays(arrays.c2, [0.0, 60.0], arrays.t, Q, sigma=0.005).to_netcdf(tmp_path / f"{n}.nc")
    dataset = Dataset.open([tmp_path / f"{n}.nc" for n in range(3)])
    fits = {
        strategy: uniform_fit(
            dataset, "static", strategy=strategy, covariance="repetitions", start=dict(STATIC), options=NLSQOptions(xtol=1e-9),
            client=client if strategy == "distributed" else None,
        )
        for strategy in ("hybrid_streaming", "distributed")
    }  # fmt: skip
    here, there = fits.values()
    vectors = [np.array(list(f.theta.values())) for f in fits.values()]
    np.testing.assert_allclose(*vectors, rtol=1e-10)
    np.testing.assert_allclose(*(list(f.stderr.values()) for f in fits.values()), rtol=1e-6)
    assert np.all(np.abs(vectors[1] - truth) < 6 * np.array(list(there.stderr.values())))
    assert there.decision.passes == there.strategy == "distributed"
    assert there.decision.log_lines[0].startswith("Strategy: distributed (n=")
    assert there.provenance["cluster"]["workers"] == 2
    assert "cluster" not in here.provenance


def test_a_model_of_ones_own_goes_along(client, source, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import dataclasses\nimport jax.numpy as jnp\nfrom homodyne.models import static\n\n"
        "def kernel(a):\n    return jnp.exp(-2.0 * a)\n\n"
        "def twice():\n    return dataclasses.replace(static(), name='twice', kernel=kernel, channels=tuple(\n"
        "        dataclasses.replace(c, exponential=False) for c in static().channels))\n"
    )
    model, view = own_model(tmp_path / "mine.py", "twice"), all_frames(source)
    theta = np.array([1e4, -0.5, 225.0])
    sums = distributed_pass(model, view, 1, 10**6, Cluster(client))(theta, REFERENCE)
    # twice the rate: the built-in model with D0 and D_offset doubled has the same signal
    other = streamed_pass(get_model("static"), view, 1, 10**6)(np.array([2e4, -0.5, 450.0]), REFERENCE)
    of_signal = [(s.factors**2).sum(1)[:, [0, 1, -1]] for s in (sums, other)]
    np.testing.assert_allclose(*of_signal, rtol=1e-10)


def test_what_cannot_run_on_a_cluster_is_refused(client, source, arrays, tmp_path, monkeypatch):
    in_memory = Dataset.from_arrays(arrays.c2, arrays.phi, arrays.t, Q, gap=GAP, sigma=0.005)
    settings = {"start": {}, "covariance": "iid"}
    with pytest.raises(InputError, match=r"dataset='arrays' is in the memory of this process.*write it with"):
        uniform_fit(in_memory, strategy="distributed", client=client, **settings)
    with pytest.raises(InputError, match=r"dataset='Arrays' does not say how another process may open it"):
        distributed.opener_of(arrays)
    with pytest.raises(InputError, match=r"client=None is missing and strategy=distributed needs it"):
        uniform_fit(source, strategy="distributed")
    with pytest.raises(InputError, match=r"client='Client' is not used by strategy=auto; use strategy=distributed"):
        uniform_fit(source, client=client)
    with pytest.raises(InputError, match=r"client='int' is not a client of dask.distributed"):
        uniform_fit(source, strategy="distributed", client=3)
    make, view = get_model("laminar_flow"), all_frames(source)
    monkeypatch.setattr(distributed, "_version", lambda: "0.0")
    with pytest.raises(InputError, match=r"is the version of homodyne on a worker, and 0.0 the one of the fit"):
        distributed_pass(make, view, 1, BLOCK, Cluster(client))


def test_sums_of_parts_are_a_commutative_monoid():
    rng = np.random.default_rng(0)

    def part(angles):
        m = len(angles)
        numbers = (rng.integers(-9, 9, shape) * 1.0 for shape in ((m, 5, 5), (m,)))
        upper = (np.array([[[k + 1.0]] for k in angles]), np.array([[[2.0 * k]] for k in angles]))
        return distributed.PartialSums(np.array(angles), *numbers, upper)

    a, b, c = part([0, 1]), part([1, 4]), part([2])
    for left, right in (((a + b) + c, a + (b + c)), (a + b, b + a), (add_up([a, b, c]), add_up([c, b, a]))):
        for name in ("angles", "gram", "counts"):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
        np.testing.assert_array_equal(left.upper[0][:, 0, 0], left.angles + 1.0)


def test_a_plan_needs_no_cluster(source):
    lines = homodyne.plan(source, strategy="distributed").lines()
    assert lines[0].startswith("Strategy: distributed (n=")
    assert lines[-1] == "Time: by the threads of this process; workers of a cluster divide it"
