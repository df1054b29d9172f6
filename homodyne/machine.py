"""What this process may use of the machine: processors, memory domains, memory, accelerators. Reads files, loads nothing.

Batch systems and containers hand out parts of a machine in four ways, and a library sees at most one of them: a set of
processors (affinity, cpusets), a share of time on all of them (cgroup quota), a number in the environment, and nothing
but an agreement between people (``NPROC``). The least counts.
"""

from __future__ import annotations

import dataclasses
import math
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

GB = 1024.0**3
# Where the kernel shows cgroups, which of them this process belongs to, processors and memory domains, and devices.
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_SYSTEM = Path("/sys/devices/system")
_DEVICES = Path("/dev")
_STATUS = Path("/proc/self/status")
#: Variables in which batch systems tell a job the processors it has on this node; of each system the first that is set.
BATCH_VARIABLES = (
    ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
    ("PBS_NUM_PPN", "NCPUS"),
    ("NSLOTS",),
    ("LSB_DJOB_NUMPROC",),
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        logical: processors the machine has, hyper-threads counted.
        allowed: numbers of those that this process may run on.
        cores: physical cores behind them; None where the system does not tell.
        nodes: memory domains (NUMA) with their processors, of which any is allowed; empty where the system does not tell.
        limits: processors by what limits them (``cgroup quota``, ``SLURM_CPUS_PER_TASK``, ``NPROC``).
        memory: GB (2**30 bytes) by what limits it, physical memory included.
        accelerators: device files of graphics processors.
    """

    logical: int
    allowed: tuple[int, ...]
    cores: int | None
    nodes: tuple[tuple[int, ...], ...]
    limits: Mapping[str, float]
    memory: Mapping[str, float]
    accelerators: tuple[str, ...]

    @property
    def granted(self) -> int:
        """Threads that may compute at a time: the least of all limits; part of a processor counts as one."""
        return max(1, math.ceil(min([len(self.allowed), *self.limits.values()])))

    @property
    def shared(self) -> bool:
        """True where less than the whole machine is granted."""
        return self.granted < self.logical

    @property
    def memory_gb(self) -> float:
        """Memory that may be used."""
        return min(self.memory.values())


def detect(environment: Mapping[str, str] | None = None) -> Machine:
    """Look at everything; ``environment`` in place of that of this process."""
    allowed = tuple(sorted(os.sched_getaffinity(0)))
    return Machine(
        os.cpu_count() or len(allowed), allowed, _cores(allowed), _nodes(allowed), processor_limits(environment),
        memory_limits(), _accelerators(),
    )  # fmt: skip


def granted_processors() -> int:
    """``Machine.granted``, without looking at the rest."""
    return max(1, math.ceil(min([len(os.sched_getaffinity(0)), *processor_limits().values()])))


def processor_limits(environment: Mapping[str, str] | None = None) -> dict[str, float]:
    """Processors by what limits them, affinity excepted."""
    variables = os.environ if environment is None else environment
    limits = {}
    quotas = _cgroup_quotas()
    if quotas:
        limits["cgroup quota"] = min(quotas)
    for names in (*BATCH_VARIABLES, ("NPROC",)):
        given = next((name for name in names if _whole(variables.get(name, "")) is not None), None)
        if given is not None:
            limits[given] = float(variables[given])
    return limits


def memory_limits() -> dict[str, float]:
    """GB (2**30 bytes) by what limits them: physical memory, cgroups (v1, v2), SLURM_MEM_PER_NODE (MB), RLIMIT_AS."""
    limits = {"physical memory": float(psutil.virtual_memory().total)}
    cgroups = [
        number
        for folder in (*own_cgroups(""), *own_cgroups("memory"))
        for name in ("memory.max", "memory.limit_in_bytes")
        for number in _read_number(folder / name)
    ]
    if cgroups:
        limits["cgroup memory"] = min(cgroups)
    slurm = _whole(os.environ.get("SLURM_MEM_PER_NODE", ""))
    if slurm is not None:
        limits["SLURM_MEM_PER_NODE"] = slurm * 1024.0**2
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space not in (resource.RLIM_INFINITY, -1):
        limits["RLIMIT_AS"] = float(address_space)
    return {name: size / GB for name, size in limits.items()}


def peak_resident_gb() -> float:
    """Largest resident set of this process so far, GB of 2**30 bytes.

    On Linux by the kernel's VmHWM: ``ru_maxrss`` begins with what the process that started this one had.
    """
    status = _read(_STATUS).partition("VmHWM:")[2].split()
    if status:
        return float(status[0]) * 1024 / GB
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB


def own_cgroups(controller: str) -> list[Path]:
    """Folders of this process's cgroup and of all above it: of version 1 (``9:memory:/a/b``), or 2 (``""``; ``0::/a/b``)."""
    try:
        lines = [line.split(":", 2) for line in _OWN_CGROUP.read_text().splitlines()]
    except OSError:
        lines = []
    top = _CGROUPS / controller
    # inside a container the path may be the host's, which is not visible: the top is always looked at
    own = [top / line[2].lstrip("/") for line in lines if len(line) == 3 and controller in line[1].split(",")]
    return sorted({top, *(folder for path in own for folder in (path, *path.parents) if folder.is_relative_to(top))})


def processor_numbers(text: str) -> tuple[int, ...]:
    """Numbers of a list as the kernel writes it: ``0-3,8`` is 0, 1, 2, 3, 8."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found += range(int(first), int(last if last.isdigit() else first) + 1)
    return tuple(found)


def _cgroup_quotas() -> list[float]:
    """Processors' worth of time per period: ``cpu.max`` ("150000 100000") or cpu.cfs_quota_us and cpu.cfs_period_us."""
    pairs = [_read(folder / "cpu.max").split() for folder in own_cgroups("")]
    pairs += [
        [_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()]
        for folder in own_cgroups("cpu")
    ]
    return [int(p[0]) / int(p[1]) for p in pairs if len(p) == 2 and all(_whole(x) is not None for x in p)]


def _cores(allowed: tuple[int, ...]) -> int | None:
    """Sets of hyper-threads that share a core."""
    siblings = [_read(_SYSTEM / f"cpu/cpu{n}/topology/thread_siblings_list") for n in allowed]
    return len({processor_numbers(text) for text in siblings}) if all(siblings) else None


def _nodes(allowed: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    folders = sorted((_SYSTEM / "node").glob("node[0-9]*"), key=lambda folder: int(folder.name[4:]))
    mine = [tuple(n for n in processor_numbers(_read(folder / "cpulist")) if n in allowed) for folder in folders]
    return tuple(node for node in mine if node)


def _accelerators() -> tuple[str, ...]:
    return tuple(sorted(str(p) for pattern in ("nvidia[0-9]*", "kfd") for p in _DEVICES.glob(pattern)))


def _whole(text: str) -> int | None:
    """A positive whole number, None for anything else ("max", "-1", "16G", "")."""
    return int(text) if text.isdecimal() and text.isascii() and int(text) > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _read_number(path: Path) -> list[float]:
    """The byte limit in a cgroup file, if the file exists and holds one ("max" means none)."""
    text = _read(path).strip()
    return [float(text)] if text.isdigit() else []
