"""Clusters of Dask for ``strategy=distributed``: started here, by SLURM, or found at an address; as context managers.

Every worker is a process of one thread, with a limit on its memory, and reads the files itself. Whoever has a client of Dask
already gives it to ``homodyne.fit`` and needs nothing of this.
"""

from __future__ import annotations

import importlib
import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from homodyne.errors import InputError
from homodyne.machine import granted_processors

#: Of every worker, before its process starts: one thread computes, as Dask counts them; and freed memory is kept, which Dask
#: would otherwise give back after every panel, at the cost of a third of the processor time.
ENVIRONMENT = {
    "NPROC": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu",
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20), "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
}  # fmt: skip
# Over what the memory model predicts of a worker's peak: a limit ends the worker, and what Dask itself holds comes on top.
_ROOM = 2.0


@contextmanager
def local(
    n_workers: int | None = None, memory_limit_gb: float | None = None, dashboard: str = "127.0.0.1:8787"
) -> Iterator[Any]:
    """A client of workers on this machine.

    Args:
        n_workers: processes; as many as this process was granted processors by default.
        memory_limit_gb: of one worker, in GB (2**30 bytes); twice what the memory model predicts by default.
        dashboard: where Dask shows what happens; another port where this one is taken.

    Raises:
        InputError: Dask is not installed; a limit below what a worker needs.
    """
    distributed, dask = _needed("distributed"), _needed("dask")
    limit = _memory_limit_gb(memory_limit_gb)
    with warnings.catch_warnings(), dask.config.set({"distributed.nanny.pre-spawn-environ": ENVIRONMENT}):
        warnings.filterwarnings("ignore", message="Port .* is already in use")
        cluster = distributed.LocalCluster(
            n_workers=n_workers or granted_processors(), threads_per_worker=1, host="127.0.0.1",
            dashboard_address=dashboard, memory_limit=int(limit * 2**30), silence_logs=logging.ERROR,
        )  # fmt: skip
    with cluster, distributed.Client(cluster) as client:
        yield client


@contextmanager
def slurm(
    jobs: int,
    workers_per_job: int,
    memory_limit_gb: float | None = None,
    walltime: str = "01:00:00",
    queue: str | None = None,
    account: str | None = None,
    interface: str | None = None,
    directives: Sequence[str] = (),
    prologue: Sequence[str] = (),
    dashboard: str = "127.0.0.1:8787",
) -> Iterator[Any]:
    """A client of workers in jobs of SLURM, by dask-jobqueue; the scheduler of Dask runs here.

    Args:
        jobs: jobs to submit; workers_per_job: processes, and processors, of each.
        memory_limit_gb: of one worker, as for ``local``.
        walltime, queue, account: of a job, as SLURM writes them. directives: further lines after ``#SBATCH``.
        interface: of the network by which nodes reach this machine (``ib0``). prologue: lines before the workers start.
        dashboard: where Dask shows what happens.

    Raises:
        InputError: dask-jobqueue is not installed; a limit below what a worker needs.
    """
    jobqueue, distributed = _needed("dask_jobqueue"), _needed("distributed")
    memory = workers_per_job * _memory_limit_gb(memory_limit_gb)
    cluster = jobqueue.SLURMCluster(
        cores=workers_per_job, processes=workers_per_job, memory=f"{memory:.2f}GiB", walltime=walltime, queue=queue,
        account=account, interface=interface, job_extra_directives=list(directives),
        job_script_prologue=[*(f"export {name}={value}" for name, value in ENVIRONMENT.items()), *prologue],
        scheduler_options={"dashboard_address": dashboard},
    )  # fmt: skip
    with cluster, distributed.Client(cluster) as client:
        cluster.scale(jobs=jobs)
        yield client


@contextmanager
def address(address: str, timeout_s: float = 30.0) -> Iterator[Any]:
    """A client of a cluster that runs already.

    Args:
        address: of its scheduler, ``tcp://host:8786``. timeout_s: how long to try.

    Raises:
        InputError: Dask is not installed; nobody answers there.
    """
    distributed = _needed("distributed")
    try:
        client = distributed.Client(address, timeout=timeout_s)
    except (OSError, ValueError) as error:
        raise InputError(
            "cluster.address", address, f"has no scheduler of Dask that answers ({error})",
            "start one with `dask scheduler`, or check the address",
        ) from error  # fmt: skip
    with client:
        yield client


def _memory_limit_gb(given: float | None) -> float:
    """The limit of a worker, from what the memory model predicts for its blocks."""
    from homodyne.optimization.nlsq.select import DEFAULT_BLOCK_POINTS, streaming_peak_gb

    predicted = streaming_peak_gb(DEFAULT_BLOCK_POINTS)
    if given is not None and given < predicted:
        raise InputError(
            "cluster.memory_limit_gb",
            given,
            f"is less than a worker needs, {predicted:.2f} GB",
            "leave it out, or raise it",
        )
    return _ROOM * predicted if given is None else given


def _needed(name: str) -> Any:
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            "cluster", name, "is a package that is not installed", 'pip install "homodyne[cluster]"'
        ) from error
    finally:  # dask_jobqueue ends the process at Ctrl-C as soon as it is imported; a fit saves what it has first
        if signal.getsignal(signal.SIGINT) is not interrupted:
            signal.signal(signal.SIGINT, interrupted)
