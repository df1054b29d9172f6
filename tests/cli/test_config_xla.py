"""What the command prints, and that two processes really differ in what they were given."""

import dataclasses
import json
import os
import sys

import numpy as np
import pytest

from homodyne.cli import config_xla
from homodyne.cli.paired_passes import COMMAND, Ratio, alternate, prepare
from homodyne.machine import Machine

NODE = Machine(
    64, tuple(range(64)), 32, (tuple(range(32)), tuple(range(32, 64))), {"cgroup quota": 3.5},
    {"physical memory": 256.0, "cgroup memory": 16.0, "RLIMIT_AS": 1e9}, (),
)  # fmt: skip


@pytest.fixture
def command(monkeypatch, capsys):
    for name in ("NPROC", "JAX_PLATFORMS", "OPENBLAS_NUM_THREADS", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(config_xla, "detect", lambda: NODE)

    def run(*arguments):
        return config_xla.main(arguments), *capsys.readouterr()

    return run


def test_the_table_says_what_is_granted_and_why(command, monkeypatch):
    monkeypatch.setenv("NPROC", "2")
    code, out, _ = command("--mode", "auto", "--show")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for expected in (
        "processors 64, of which this process may use 64 on 32 physical cores",
        "cgroup quota 3.5 processors",
        "granted 4 threads: as many will sum",
        "memory domains (NUMA) 2 (processors 0-31; 32-63)",
        "cgroup memory 16.0 GB",
        "Settings of mode auto (stands for hpc): part of a node that others use too",
        "NPROC=4 threads of JAX, and threads that sum [now 2: yours stays]",
        "granted: 4 of 64 processors (cgroup quota)",
    ):
        assert expected in lines, out
    assert "RLIMIT_AS" not in out  # no limit where there is less memory
    for name, ratio in config_xla.WITHOUT_EFFECT:
        assert f"{name:<64} {ratio}" in out


def test_exports(command):
    code, out, _ = command("--mode", "hpc", "--export", "sh", "--set", "XLA_FLAGS=--x=1 --y=2")
    assert code == 0
    assert all(line.startswith(("#", "export ")) for line in out.splitlines())
    assert [line for line in out.splitlines() if line.startswith("export")] == [
        "export JAX_PLATFORMS=cpu",
        "export OPENBLAS_NUM_THREADS=1",
        "export NPROC=4",
        "export XLA_FLAGS='--x=1 --y=2'",
    ]
    record = json.loads(command("--mode", "hpc", "--export", "json")[1])
    assert record["settings"] == {"JAX_PLATFORMS": "cpu", "NPROC": "4", "OPENBLAS_NUM_THREADS": "1"}
    assert record["machine"]["granted"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "gpu"], "homodyne-config-xla: xla.mode='gpu' needs a graphics processor"),
        (["--set", "3=x"], "homodyne-config-xla: --set='3=x' is not NAME=VALUE; write e.g. --set NPROC=4"),
        (["--benchmark", "--pairs", "2"], "homodyne-config-xla: --pairs=2 is too few for a spread; use 5 or more"),
    ],
)
def test_errors_are_one_line(command, arguments, message):
    code, out, err = command(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_nothing_to_compare(command, monkeypatch):
    monkeypatch.setattr(config_xla, "detect", lambda: dataclasses.replace(NODE, limits={}))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert "Nothing to compare" in command("--mode", "cpu", "--benchmark")[1]


def test_jax_is_asked_only_where_it_could_find_a_card(monkeypatch):
    monkeypatch.setattr(config_xla, "distributions", lambda: [type("D", (), {"name": "jax-cuda12-plugin"})])
    assert config_xla.jax_devices(NODE) == "processors"
    monkeypatch.setattr(sys, "executable", "/bin/echo")  # says what it was to run
    with_card = dataclasses.replace(NODE, accelerators=("/dev/nvidia0",))
    assert "jax.devices()" in config_xla.jax_devices(with_card)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert config_xla.jax_devices(with_card) == "unknown: JAX did not start (CalledProcessError)"


def test_ratio_of_pairs():
    rng = np.random.default_rng(0)
    a = rng.uniform(1.0, 3.0, 4000)  # other work on the machine hits both of a pair
    ratio = Ratio.of(a, 1.1 * a * np.exp(rng.normal(0.0, 0.05, 4000)))
    assert ratio.median == pytest.approx(1.1, abs=4 * ratio.stderr)
    assert ratio.stderr == pytest.approx(1.1 * 0.05 * 1.2533 / np.sqrt(4000), rel=0.1)
    assert (ratio.low, ratio.high) == pytest.approx((1.1 * np.exp(-0.05), 1.1 * np.exp(0.05)), rel=0.01)
    assert config_xla.verdict(ratio.median, ratio.stderr) == "10 % slower with the settings"
    assert config_xla.verdict(0.99, 0.02).startswith("no difference beyond the noise of this machine (4.0 %)")


def test_a_process_that_does_not_start_is_told(command):
    code, _, err = command("--benchmark", "--set", "XLA_FLAGS=--xla_no_such_flag=1")
    assert code == 1
    assert "is how a process with these settings ended; leave out the setting that is at fault" in err
    assert "xla_no_such_flag" in err


def test_a_pass_counts_every_pair_and_processes_take_turns():
    assert prepare(2, 64, "static")().counts.sum() == 2 * 64 * 63 / 2
    small = (*COMMAND, "2", "64", "static")
    first, second = alternate(dict(os.environ), {**os.environ, "NPROC": "1"}, 5, (small, small))
    assert first.seconds.shape == second.processor_seconds.shape == (5,)
    assert min(first.seconds.min(), second.seconds.min()) > 0
    assert min(first.threads, second.threads) >= 1
