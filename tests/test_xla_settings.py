"""Which settings a machine gets, and that they are set once, in time, and never over the user's own."""

import dataclasses
import subprocess
import sys

import pytest

from homodyne import xla_settings
from homodyne.errors import InputError
from homodyne.machine import Machine
from homodyne.xla_settings import Setting, apply, resolve, settings_for, shell_lines

WHOLE = Machine(8, tuple(range(8)), 4, (), {}, {"physical memory": 64.0}, ())
PART = dataclasses.replace(WHOLE, limits={"SLURM_CPUS_PER_TASK": 3.0, "NCPUS": 6.0})
PINNED = dataclasses.replace(WHOLE, allowed=(0, 1), limits={"NSLOTS": 4.0})
CARD = dataclasses.replace(WHOLE, accelerators=("/dev/nvidia0",))


def values(mode, machine, processes=1):
    return {s.name: s.value for s in settings_for(mode, machine, processes)}


@pytest.fixture
def on(monkeypatch):
    """Let ``apply`` see a machine whose only limits are those of the environment it is given."""

    def detect(environment):
        nproc = environment.get("NPROC")
        return dataclasses.replace(PART, limits={**PART.limits, **({"NPROC": float(nproc)} if nproc else {})})

    monkeypatch.setattr(xla_settings, "detect", detect)
    monkeypatch.setattr(xla_settings, "_ours", {})


def test_a_computer_of_ones_own_needs_no_limit_of_threads():
    assert values("cpu", WHOLE) == values("auto", WHOLE) == {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}


@pytest.mark.parametrize(("machine", "threads"), [(PART, "3"), (PINNED, "2")])
def test_part_of_a_node_gets_as_many_threads_as_were_granted(machine, threads):
    expected = {"JAX_PLATFORMS": "cpu", "NPROC": threads, "OPENBLAS_NUM_THREADS": "1"}
    assert values("hpc", machine) == values("auto", machine) == values("cpu", machine) == expected
    assert resolve("auto", machine) == "hpc"


def test_the_limit_that_counts_is_named():
    assert settings_for("hpc", PART)[2].because == "granted: 3 of 8 processors (SLURM_CPUS_PER_TASK)"
    assert settings_for("hpc", PINNED)[2].because == "granted: 2 of 8 processors (affinity)"
    assert settings_for("hpc", WHOLE)[2].because == "all granted"


@pytest.mark.parametrize(("processes", "each"), [(2, "4"), (3, "2"), (20, "1")])
def test_fits_beside_each_other_share(processes, each):
    assert values("auto", WHOLE, processes)["NPROC"] == each


def test_a_graphics_processor_is_used_only_where_it_is_asked_for():
    assert resolve("auto", CARD) == "cpu"
    assert values("cpu", CARD)["JAX_PLATFORMS"] == "cpu"
    assert values("gpu", CARD) == {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with pytest.raises(InputError, match=r"xla.mode='gpu' needs a graphics processor"):
        settings_for("gpu", WHOLE)
    with pytest.raises(InputError, match=r"xla.mode='fast' is unknown"):
        settings_for("fast", WHOLE)


def test_settings_enter_the_environment_once(on):
    environment = {"HOME": "/home/me"}
    first = apply("hpc", environment, processes=3, started=False)
    assert environment == {"HOME": "/home/me", "JAX_PLATFORMS": "cpu", "NPROC": "1", "OPENBLAS_NUM_THREADS": "1"}
    # the next job of the same worker: its own NPROC=1 is no limit that others set
    second = apply("hpc", environment, processes=3, started=True)
    assert environment["NPROC"] == "1"
    assert first.sentence() == second.sentence()
    assert first.sentence() == "XLA settings for hpc: JAX_PLATFORMS=cpu, OPENBLAS_NUM_THREADS=1, NPROC=1"


def test_what_the_user_has_set_stays(on):
    environment = {"NPROC": "2", "JAX_PLATFORMS": "cpu"}
    done = apply("hpc", environment, started=False)
    assert environment == {"NPROC": "2", "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}
    assert done.kept == {"NPROC": "2", "JAX_PLATFORMS": "cpu"}
    assert done.sentence().endswith(
        "OPENBLAS_NUM_THREADS=1, JAX_PLATFORMS=cpu (set before, kept), NPROC=2 (set before, kept)"
    )


def test_other_settings_after_jax_has_started_are_refused(on):
    environment: dict[str, str] = {}
    with pytest.raises(InputError, match="comes too late: JAX has started with other settings in this process"):
        apply("hpc", environment, started=True)
    assert environment == {}


def test_the_shell_sees_one_word_a_value():
    odd = Setting("XLA_FLAGS", "--a=1 --b=$(touch x)", "", "")
    script = "\n".join([*shell_lines([odd, *settings_for("hpc", PART)]), 'printf "%s|%s" "$XLA_FLAGS" "$NPROC"'])
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "--a=1 --b=$(touch x)|3"


def test_the_command_sets_them_before_numpy_and_jax_are_loaded(tmp_path):
    code = (
        "import os, sys\nfrom homodyne import train\n"
        "def run(*given):\n"
        "    print('loaded', sorted({'jax', 'numpy'} & set(sys.modules)), os.environ['NPROC'])\n"
        "    raise KeyboardInterrupt\n"
        "train.run = run\n"
        "sys.argv = ['homodyne.train', 'dataset=synthetic', 'xla=hpc']\n"
        "train.main()\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "1"}
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert "loaded [] 1\n" in said.stdout, said.stderr
    assert "[INFO] XLA settings for " in said.stdout
