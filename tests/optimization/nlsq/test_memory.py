"""Limits a batch system may set, each in its own way; predictions; the monitor."""

import itertools
import platform
import resource
import time

import psutil
import pytest

from homodyne import machine as limits
from homodyne.errors import InputError
from homodyne.optimization.nlsq import memory
from homodyne.optimization.nlsq.memory import (
    GB,
    MemoryMonitor,
    detect_total_system_memory,
    estimate_peak_memory_gb,
    get_adaptive_memory_threshold,
    release_free_memory,
)

PHYSICAL_GB = 64.0


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with 64 GB and no limits; returns the folder of its cgroups."""
    folder = tmp_path / "cgroup"
    folder.mkdir()
    (tmp_path / "own").write_text("")
    monkeypatch.setattr(limits, "_CGROUPS", folder)
    monkeypatch.setattr(limits, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("M", (), {"total": int(PHYSICAL_GB * GB)}))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    return folder


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_physical_memory_without_limits(machine):
    assert detect_total_system_memory() == PHYSICAL_GB


def test_slurm_gives_megabytes(machine, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "16384")
    assert detect_total_system_memory() == 16.0


@pytest.mark.parametrize("text", ["", "0", "16G", "all"])
def test_a_slurm_value_that_is_no_number_is_no_limit(machine, monkeypatch, text):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", text)
    assert detect_total_system_memory() == PHYSICAL_GB


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_cgroup_of_a_container(machine, name):
    write(machine / name, f"{8 * 2**30}\n")
    assert detect_total_system_memory() == 8.0


def test_cgroup_without_limit(machine):
    write(machine / "memory.max", "max\n")
    write(machine / "memory/memory.limit_in_bytes", f"{2**63 - 4096}\n")  # how version 1 says "none"
    assert detect_total_system_memory() == PHYSICAL_GB


@pytest.mark.parametrize(
    ("own", "limited"),
    [
        ("0::/user.slice/job.scope\n", "user.slice/job.scope/memory.max"),
        ("0::/user.slice/job.scope\n", "user.slice/memory.max"),  # of a parent
        ("9:cpu,memory:/slurm/job_7\n3:pids:/other\n0::/\n", "memory/slurm/job_7/memory.limit_in_bytes"),
    ],
)
def test_cgroup_of_this_process(machine, tmp_path, own, limited):
    (tmp_path / "own").write_text(own)
    write(machine / limited, f"{4 * 2**30}\n")
    write(machine / "somebody_else/memory.max", "1000\n")
    assert detect_total_system_memory() == 4.0


def test_no_cgroups_at_all(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "_OWN_CGROUP", tmp_path / "missing")
    monkeypatch.setattr(limits, "_CGROUPS", tmp_path / "missing too")
    assert detect_total_system_memory() == PHYSICAL_GB


def test_address_space_limit(machine, monkeypatch):
    limits = {resource.RLIMIT_AS: (12 * 2**30, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert detect_total_system_memory() == 12.0


def test_the_least_limit_counts(machine, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "8192")
    write(machine / "memory.max", str(6 * 2**30))
    assert detect_total_system_memory() == 6.0


def test_threshold_is_a_fraction_or_what_the_user_says(machine):
    assert get_adaptive_memory_threshold() == 48.0
    assert get_adaptive_memory_threshold(memory_fraction=0.5) == 32.0
    assert get_adaptive_memory_threshold(memory_threshold_gb=30) == 30.0


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match=r"memory_fraction=.* must be above 0 and at most 1"):
        get_adaptive_memory_threshold(memory_fraction=fraction)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("inf"), float("nan")])
def test_a_threshold_that_is_no_size_is_refused(limit):
    with pytest.raises(InputError, match=r"memory_threshold_gb=.* must be a positive number of GB"):
        get_adaptive_memory_threshold(memory_threshold_gb=limit)


def test_estimate_grows_with_points_and_columns():
    base = estimate_peak_memory_gb(0, 9)
    assert 0.1 < base < 2.0
    one, two = (estimate_peak_memory_gb(n, 9) - base for n in (10**6, 2 * 10**6))
    assert two == pytest.approx(2 * one)
    assert one >= 10**6 * (8 + 8) / GB  # no less than c2 in double precision, both triangles, which is all that is held
    assert estimate_peak_memory_gb(10**6, 11) > estimate_peak_memory_gb(10**6, 9)
    assert isinstance(one, float)


def test_monitor_samples_over_time_and_stops():
    with MemoryMonitor(interval_s=0.01) as monitor:
        block = bytearray(200 * 2**20)
        time.sleep(0.1)
        del block
    seconds, gb = monitor.series()
    assert len(seconds) == len(gb) >= 4
    assert all(later >= earlier for earlier, later in itertools.pairwise(seconds))
    assert monitor.peak_gb == gb.max() > gb[0] + 0.1
    time.sleep(0.05)
    assert len(monitor.series()[0]) == len(seconds)


def test_monitor_stops_when_the_fit_fails():
    monitor = MemoryMonitor(interval_s=0.01)
    with pytest.raises(OSError, match="disk gone"), monitor:
        raise OSError("disk gone")
    n = len(monitor.gb)
    time.sleep(0.05)
    assert len(monitor.gb) == n


def test_freed_memory_goes_back_to_the_system():
    """The allocator keeps what was freed below a piece that is still in use, until it is asked."""
    process = psutil.Process()
    pieces = [bytearray(20_000) for _ in range(10_000)]
    last = pieces[-1]
    del pieces
    before = process.memory_info().rss
    release_free_memory()
    expected = 100e6 if platform.libc_ver()[0] == "glibc" else 0.0
    assert before - process.memory_info().rss >= expected
    assert len(last) == 20_000


def test_another_c_library_is_done_without(monkeypatch):
    def cdll(name):
        raise OSError("no such library")

    monkeypatch.setattr(memory.ctypes, "CDLL", cdll)
    release_free_memory()
