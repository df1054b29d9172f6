"""Every way in which a part of a machine is handed out, on machines made of files."""

import os
import subprocess
import sys

import numpy as np
import psutil
import pytest

from homodyne import machine
from homodyne.machine import detect, granted_processors, processor_numbers

EIGHT = set(range(8))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def node(monkeypatch, tmp_path):
    """8 processors, two hyper-threads a core, two memory domains, 64 GB, no limits; returns the folder of its files."""
    (tmp_path / "own").write_text("")
    (tmp_path / "dev").mkdir()
    for n in range(8):
        write(tmp_path / f"system/cpu/cpu{n}/topology/thread_siblings_list", f"{n % 4},{n % 4 + 4}\n")
    write(tmp_path / "system/node/node0/cpulist", "0-1,4-5\n")
    write(tmp_path / "system/node/node1/cpulist", "2-3,6-7\n")
    for name, place in (("_CGROUPS", "cgroup"), ("_OWN_CGROUP", "own"), ("_SYSTEM", "system"), ("_DEVICES", "dev")):
        monkeypatch.setattr(machine, name, tmp_path / place)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: EIGHT)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("M", (), {"total": 64 * 2**30}))
    for name in (*sum(machine.BATCH_VARIABLES, ()), "NPROC", "SLURM_MEM_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_largest_memory_is_this_processs_own():
    """Not that of the process that started it, which ru_maxrss begins with."""
    held = np.ones(60_000_000)  # 0.45 GB
    code = "from homodyne.machine import peak_resident_gb; print(peak_resident_gb())"
    child = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert held.all()
    assert 0.01 < child < 0.3
    assert machine.peak_resident_gb() > 0.44


def test_a_machine_of_ones_own(node):
    found = detect()
    assert (found.logical, found.cores, found.granted, found.shared) == (8, 4, 8, False)
    assert found.nodes == ((0, 1, 4, 5), (2, 3, 6, 7))
    assert (found.limits, found.accelerators) == ({}, ())
    assert found.memory_gb == 64.0


def test_affinity_leaves_its_cores_and_nodes(node, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 6})
    found = detect()
    assert (found.granted, found.cores, found.nodes, found.shared) == (3, 2, ((2, 3, 6),), True)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("", {"cpu.max": "max 100000\n"}, 8),
        ("", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2),
        ("4:cpu:/j\n", {"cpu/j/cpu.cfs_quota_us": "50000\n", "cpu/j/cpu.cfs_period_us": "100000\n"}, 1),
        ("4:cpu,cpuacct:/j\n", {"cpu/j/cpu.cfs_quota_us": "-1\n", "cpu/j/cpu.cfs_period_us": "100000\n"}, 8),
        ("0::/mine\n", {"others/cpu.max": "100000 100000\n"}, 8),
    ],
)
def test_quota_of_a_cgroup(node, own, files, expected):
    (node / "own").write_text(own)
    for name, text in files.items():
        write(node / "cgroup" / name, text)
    assert detect().granted == granted_processors() == expected


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "6"}, {"SLURM_CPUS_PER_TASK": 2.0}),
        ({"SLURM_CPUS_ON_NODE": "6"}, {"SLURM_CPUS_ON_NODE": 6.0}),
        ({"NSLOTS": "3", "NPROC": "5"}, {"NSLOTS": 3.0, "NPROC": 5.0}),
        ({"NPROC": "0", "NCPUS": "four", "SLURM_CPUS_PER_TASK": "-1"}, {}),
        ({"NPROC": "99"}, {"NPROC": 99.0}),
    ],
)
def test_batch_systems_and_agreements(node, monkeypatch, given, limits):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert detect().limits == limits
    assert granted_processors() == min([8, *limits.values()])


def test_threads_that_sum_are_those_granted(node, monkeypatch):
    from homodyne.optimization.processors import n_workers

    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert n_workers() == 3


def test_a_system_that_tells_nothing(node, monkeypatch):
    monkeypatch.setattr(machine, "_SYSTEM", node / "missing")
    monkeypatch.setattr(machine, "_OWN_CGROUP", node / "missing")
    found = detect()
    assert (found.cores, found.nodes, found.granted) == (None, (), 8)


def test_graphics_processors_are_device_files(node):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (node / "dev" / name).touch()
    assert [name.rpartition("/")[2] for name in detect().accelerators] == ["nvidia0", "nvidia1"]


def test_lists_as_the_kernel_writes_them():
    assert processor_numbers("0-2,8,10-11\n") == (0, 1, 2, 8, 10, 11)
    assert processor_numbers("") == processor_numbers("\n") == ()
