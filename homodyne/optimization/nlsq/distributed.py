"""Passes on a cluster of Dask: workers read and sum, a tree adds, and this process holds O(n_phi p^2) numbers.

A task is a run of consecutive panels; how the panels are cut into tasks, and in which order sums are added, depends on the
data alone, so that the result has the same bits whichever workers did it, and however many. A worker opens the file itself,
once; what is lost with a worker is computed again by another one.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from homodyne.errors import InputError
from homodyne.models import Channel, Model, Rate
from homodyne.optimization.loss import Loss
from homodyne.optimization.nlsq.cluster import Cluster
from homodyne.optimization.nlsq.hybrid_streaming import (
    Job,
    Summation,
    all_jobs,
    angles_at_a_time,
    as_summed,
    plan_for,
)
from homodyne.optimization.nlsq.partial import PartialSums
from homodyne.optimization.normal import PassSums
from homodyne.optimization.source import BlockSource, View, all_frames

# Points of a task: 0.2 s of a processor, against some milliseconds that a task costs the scheduler. Small data are cut finer,
# so that all workers have something to do, and very large ones coarser: every task passes through one scheduler.
TASK_POINTS, LEAST_TASKS, MOST_TASKS = 12_000_000, 32, 4000
FAN_IN = 8  # sums that one task of the tree adds
_KEPT = 4  # fits, or stages of one, that a worker keeps open


class Setup(NamedTuple):
    """What a worker needs once for a fit."""

    model: Model
    open_source: Callable[[], BlockSource]
    min_lag: int
    block_points: int
    precision: str
    loss: Loss | None
    sigma: np.ndarray | None
    angles: int
    version: str


def distributed_pass(
    model: Model,
    view: View,
    min_lag: int,
    block_points: int,
    cluster: Cluster,
    advance: Callable[[int], None] | None = None,
    precision: str = "float64",
    loss: Loss | None = None,
    tasks: Sequence[Sequence[Job]] | None = None,
) -> Callable[[np.ndarray, np.ndarray], PassSums]:
    """Prepare the evaluation on a cluster: one pass reads every panel once, on one worker or another.

    Args: as of ``hybrid_streaming.streamed_pass``, and
        cluster: where tasks run. tasks: the panels of each task, angles ascending; chosen by their number by default.

    Returns:
        ``evaluate(theta, reference) -> PassSums``.

    Raises:
        InputError: the data are in memory only; workers that do not see the file, or have another version.
    """
    sigma = None if loss is None else np.asarray(view.source.sigma, dtype=float)
    plan = plan_for(view, block_points)
    if tasks is None:
        tasks = make_tasks(all_jobs(plan, view.n_phi), view, min_lag)
    # channels of no more angles than a task has: they are evaluated for every task anew
    angles = min(angles_at_a_time(view, plan), max(len({k for k, _, _ in task}) for task in tasks))
    setup = packed(
        Setup(model, opener_of(view.source), min_lag, block_points, precision, loss, sigma, angles, _version())
    )
    cluster.prepare(prepare, setup)
    passes = itertools.count(1)

    def evaluate(theta: np.ndarray, reference: np.ndarray) -> PassSums:
        name = f"{hashlib.sha256(setup).hexdigest()[:8]}-{next(passes)}"
        arguments = [(setup, theta, reference, list(task)) for task in tasks]
        points = [sum(job_points(job, view, min_lag) for job in task) for task in tasks]
        total = cluster.reduced(sum_panels, arguments, add_up, FAN_IN, name, points, advance)
        return total.of_all(model, as_summed(reference, precision))

    return evaluate


def make_tasks(jobs: Sequence[Job], view: View, min_lag: int) -> list[list[Job]]:
    """Consecutive panels, each task about as many points."""
    sizes = [job_points(job, view, min_lag) for job in jobs]
    whole = sum(sizes)
    target = max(min(TASK_POINTS, whole / LEAST_TASKS), whole / MOST_TASKS)
    place = np.cumsum(sizes) - 0.5 * np.array(sizes)
    number = np.minimum(place / target, whole / target - 1e-9).astype(int)
    return [[job for job, _ in group] for _, group in itertools.groupby(zip(jobs, number, strict=True), lambda x: x[1])]


def job_points(job: Job, view: View, min_lag: int) -> int:
    """Pairs of a panel, before masking."""
    _, row0, rows = job
    first = max(0, view.n_frames - min_lag - row0)
    last = max(0, view.n_frames - min_lag - row0 - rows)
    return (first * (first + 1) - last * (last + 1)) // 2


def opener_of(source: BlockSource) -> Callable[[], BlockSource]:
    """A function that opens the same data in another process.

    Raises:
        InputError: the source has none.
    """
    make = getattr(source, "opener", None)
    if make is None:
        raise InputError(
            "dataset", type(source).__name__, "does not say how another process may open it",
            "give a homodyne.Dataset that was opened from a file, or a source with a method opener()",
        )  # fmt: skip
    return make()


# On the workers.


def sum_panels(arguments: tuple[bytes, np.ndarray, np.ndarray, list[Job]]) -> PartialSums:
    """Sums of the panels of one task."""
    setup, theta, reference, jobs = arguments
    return _prepared(setup).over(jobs, theta, reference, workers=1)


def add_up(parts: list[PartialSums]) -> PartialSums:
    """The sum of some parts, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def prepare(setup: bytes) -> str:
    """Open the file and compile, ahead of the first pass; the version of this package."""
    _prepared(setup)
    return _version()


_kept: OrderedDict[str, Summation] = OrderedDict()
_opening = threading.Lock()


def _prepared(packed_setup: bytes) -> Summation:
    """The sums of a fit, opened and compiled once in every process."""
    import cloudpickle

    key = hashlib.sha256(packed_setup).hexdigest()
    with _opening:
        if key not in _kept:
            setup = Setup(*cloudpickle.loads(packed_setup))
            if setup.version != _version():
                raise InputError(
                    "client", _version(), f"is the version of homodyne on a worker, and {setup.version} the one of the fit",
                    "install the same version everywhere",
                )  # fmt: skip
            view = all_frames(setup.open_source())
            _kept[key] = Summation(
                setup.model,
                view,
                setup.min_lag,
                setup.block_points,
                setup.precision,
                setup.loss,
                setup.sigma,
                setup.angles,
            )
        _kept.move_to_end(key)
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
        return _kept[key]


def packed(setup: Setup) -> bytes:
    """The setup as bytes; code that is not of this package goes along by its value, for workers do not have it."""
    import cloudpickle

    with _by_value(setup.model):
        return cloudpickle.dumps(tuple(setup))


@contextmanager
def _by_value(model: Model) -> Iterator[None]:
    import cloudpickle

    parts: tuple[Channel | Rate, ...] = (*model.channels, *model.rates)
    functions = [model.kernel, model.field, *(part.values for part in parts)]
    names = {str(getattr(f, "__module__", "")) for f in functions if f is not None}
    own = [n for n in names if n and n != "__main__" and n.partition(".")[0] not in ("homodyne", "jax", "numpy")]
    with ExitStack() as stack:
        for name in own:
            module: Any = importlib.import_module(name)
            if name not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def _version() -> str:
    return importlib.metadata.version("homodyne")
