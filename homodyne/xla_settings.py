"""Settings of JAX and its compiler XLA that do something for a fit, by the kind of machine, as environment variables.

What each is worth was measured by paired passes (experiments/xla_settings); what is not here was found to do nothing.
They have to be in the environment before JAX starts: ``apply`` sees to that.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, MutableMapping, Sequence

from homodyne.errors import InputError
from homodyne.machine import Machine, detect

MODES = ("auto", "cpu", "hpc", "gpu")
#: What each mode is for, in words.
MEANING = {
    "auto": "hpc where less than the whole machine is granted, else cpu",
    "cpu": "a computer of your own",
    "hpc": "part of a node that others use too",
    "gpu": "a graphics processor",
}


# What ``apply`` has set in this process.
_ours: dict[str, str] = {}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One environment variable: what it does, and why it has this value."""

    name: str
    value: str
    does: str
    because: str


@dataclasses.dataclass(frozen=True)
class Applied:
    """What became of the settings: set now, and what the user had set already, which stays."""

    mode: str
    given: tuple[Setting, ...]
    kept: Mapping[str, str]

    def sentence(self) -> str:
        """One line for the log."""
        parts = [f"{s.name}={s.value}" for s in self.given]
        parts += [f"{name}={value} (set before, kept)" for name, value in self.kept.items()]
        return f"XLA settings for {self.mode}: {', '.join(parts) or 'none needed'}"


def resolve(mode: str, machine: Machine, processes: int = 1) -> str:
    """``cpu``, ``hpc`` or ``gpu``: what ``auto`` stands for on this machine.

    Never gpu: the sums are written for processors, and graphics processors were not measured.

    Raises:
        InputError: unknown mode; gpu where there is no graphics processor.
    """
    if mode not in MODES:
        raise InputError("xla.mode", mode, "is unknown", f"choose one of {', '.join(MODES)}")
    if mode == "gpu" and not machine.accelerators:
        raise InputError("xla.mode", mode, "needs a graphics processor, and none is seen here", "choose cpu or hpc")
    if mode != "auto":
        return mode
    return "hpc" if machine.shared or processes > 1 else "cpu"


def settings_for(mode: str, machine: Machine, processes: int = 1) -> tuple[Setting, ...]:
    """The settings of a mode.

    Args:
        processes: fits that run beside each other and share what is granted.

    Raises:
        InputError: see ``resolve``.
    """
    chosen = resolve(mode, machine, processes)
    if chosen == "gpu":
        return _gpu()
    found = [_platform(), _algebra()]
    if chosen == "hpc" or machine.shared or processes > 1:
        found += _threads(machine, processes)
    return tuple(found)


def _platform() -> Setting:
    return Setting(
        "JAX_PLATFORMS", "cpu", "JAX uses processors only",
        "a graphics processor that others compute on is neither looked for nor filled to three quarters",
    )  # fmt: skip


def _algebra() -> Setting:
    return Setting(
        "OPENBLAS_NUM_THREADS", "1", "threads of NumPy's matrix algebra",
        "its products are small or run beside each other: a fit took 6 % less time with one thread than with two",
    )  # fmt: skip


def _threads(machine: Machine, processes: int) -> list[Setting]:
    each = max(1, machine.granted // processes)
    least = min(machine.limits, key=machine.limits.__getitem__, default="affinity")
    if machine.limits.get(least, machine.logical) > len(machine.allowed):
        least = "affinity"
    why = f"granted: {machine.granted} of {machine.logical} processors ({least})" if machine.shared else "all granted"
    why += f", shared by {processes} fits at a time" if processes > 1 else ""
    return [Setting("NPROC", str(each), "threads of JAX, and threads that sum", why)]


def _gpu() -> tuple[Setting, ...]:
    return (
        Setting("JAX_PLATFORMS", "cuda,cpu", "JAX uses the graphics processor", "an error, where it cannot be used"),
        Setting(
            "XLA_PYTHON_CLIENT_PREALLOCATE", "false", "memory of the card is taken as it is needed",
            "the default takes three quarters at once, and a fit needs a few hundred MB",
        ),
    )  # fmt: skip


def apply(mode: str, environment: MutableMapping[str, str], processes: int = 1, started: bool | None = None) -> Applied:
    """Put the settings into ``environment``; what the user has set there stays.

    A second call finds its own settings and changes nothing: workers of a parallel sweep run several fits.

    Args:
        started: whether JAX has read its settings; looked up by default.

    Raises:
        InputError: JAX has started with other settings, so that these would do nothing; see also ``resolve``.
    """
    users = {name: value for name, value in environment.items() if _ours.get(name) != value}
    machine = detect(users)
    wanted = settings_for(mode, machine, processes)
    kept = {s.name: users[s.name] for s in wanted if s.name in users}
    given = tuple(s for s in wanted if s.name not in kept)
    new = {s.name: s.value for s in given if environment.get(s.name) != s.value}
    if new and ("jax" in sys.modules if started is None else started):
        raise InputError(
            "xla.mode", mode, "comes too late: JAX has started with other settings in this process",
            "give one xla to a command; sweep over it with hydra/launcher=joblib",
        )  # fmt: skip
    environment.update(new)
    _ours.update(new)
    if "numpy" in sys.modules and "OPENBLAS_NUM_THREADS" in new:
        # it has read the environment already; a window scan counts the frames of a file before its fits start
        from threadpoolctl import threadpool_limits

        threadpool_limits(int(new["OPENBLAS_NUM_THREADS"]), user_api="blas")
    return Applied(resolve(mode, machine, processes), given, kept)


def shell_lines(settings: Sequence[Setting]) -> list[str]:
    """``export A=B`` lines for ``eval``."""
    return [f"export {s.name}={shlex.quote(s.value)}" for s in settings]
