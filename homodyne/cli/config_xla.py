"""``homodyne-config-xla``: what of this machine a fit may use, the settings that help here, and what they are worth.

    homodyne-config-xla --mode hpc --show              a table, and what need not be tried
    eval "$(homodyne-config-xla --mode hpc --export sh)"     before python or any command of this package
    homodyne-config-xla --mode hpc --benchmark         a pass with the settings and without, half a minute

``python -m homodyne.train xla=hpc ...`` applies the same settings by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions

from homodyne.errors import InputError
from homodyne.machine import Machine, detect
from homodyne.xla_settings import MEANING, MODES, Setting, resolve, settings_for, shell_lines

PAIRS = 40
#: What need not be tried, with the ratio of pass times with and without it (experiments/xla_settings).
WITHOUT_EFFECT = (
    ("OMP_NUM_THREADS=1", "1.00 ± 0.01"),
    ("JAX_CPU_ENABLE_ASYNC_DISPATCH=false", "1.01 ± 0.01"),
    ("XLA_FLAGS=--xla_cpu_multi_thread_eigen=false", "0.99 ± 0.02"),
    ("XLA_FLAGS=--xla_cpu_enable_fast_math=true", "1.00 ± 0.01"),
    ("XLA_FLAGS=--xla_cpu_enable_fast_min_max=true", "1.00 ± 0.02"),
    ("XLA_FLAGS=--xla_cpu_prefer_vector_width=256", "1.02 ± 0.02"),
    (
        "XLA_FLAGS=--xla_cpu_prefer_vector_width=512",
        "0.94 ± 0.02, processor time 0.98 ± 0.01: small, may be the reverse elsewhere",
    ),
    ("XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=true", "0.99 ± 0.02"),
    ("XLA_FLAGS=--xla_force_host_platform_device_count=2", "0.97 ± 0.01, processor time 0.99 ± 0.01"),
    ("XLA_FLAGS=--xla_backend_optimization_level=1", "1.02 ± 0.02"),
    ("MALLOC_ARENA_MAX=1", "1.01 ± 0.01"),
    ("GLIBC_TUNABLES=glibc.malloc.hugetlb=1", "1.01 ± 0.02"),
    ("MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_", "0.99 ± 0.01"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was asked for; exit code 1 and a message on stderr for what cannot be used."""
    args = _parser().parse_args(argv)
    try:
        machine = detect()
        settings = [*settings_for(args.mode, machine), *_given(args.set)]
        chosen = resolve(args.mode, machine)
        if args.export == "sh":
            lines = [f"# homodyne-config-xla --mode {args.mode}: {MEANING[chosen]}", *_with_remarks(settings)]
        elif args.export == "json":
            lines = [json.dumps(_record(args.mode, chosen, machine, settings), indent=2)]
        elif args.benchmark:
            lines = _benchmark(settings, args.pairs)
        else:
            lines = _show(args.mode, chosen, machine, settings)
    except InputError as error:
        print(f"homodyne-config-xla: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="homodyne-config-xla", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mode", choices=MODES, default="auto", help="; ".join(f"{mode}: {text}" for mode, text in MEANING.items())
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--show", action="store_true", help="a table for people (the default)")
    action.add_argument("--export", choices=("sh", "json"), help="lines for eval, or everything as JSON")
    action.add_argument("--benchmark", action="store_true", help="time a streamed pass with the settings and without")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one more variable; repeatable"
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of passes of --benchmark (%(default)s)")
    return parser


def _given(pairs: Sequence[str]) -> list[Setting]:
    """Variables of the user's own, to be shown, exported or timed with the others."""
    found = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise InputError("--set", pair, "is not NAME=VALUE", "write e.g. --set NPROC=4")
        found.append(Setting(name, value, "given with --set", "yours"))
    return found


def _with_remarks(settings: Sequence[Setting]) -> list[str]:
    lines = []
    for setting, line in zip(settings, shell_lines(settings), strict=True):
        lines += [f"# {setting.does}; {setting.because}", line]
    return lines


def _record(mode: str, chosen: str, machine: Machine, settings: Sequence[Setting]) -> dict[str, object]:
    return {
        "mode": mode,
        "stands_for": chosen,
        "machine": {
            "processors": machine.logical,
            "allowed": list(machine.allowed),
            "physical_cores": machine.cores,
            "numa_nodes": [list(node) for node in machine.nodes],
            "limits": dict(machine.limits),
            "granted": machine.granted,
            "memory_gb": machine.memory_gb,
            "accelerators": list(machine.accelerators),
        },
        "settings": {s.name: s.value for s in settings},
    }


def _show(mode: str, chosen: str, machine: Machine, settings: Sequence[Setting]) -> list[str]:
    lines = ["This machine", *(f"  {name:<22} {text}" for name, text in _facts(machine))]
    stands = f" (stands for {chosen})" if mode != chosen else ""
    lines += ["", f"Settings of mode {mode}{stands}: {MEANING[chosen]}"]
    for s in settings:
        now = os.environ.get(s.name)
        state = "not set now" if now is None else "set" if now == s.value else f"now {now}: yours stays"
        lines += [f"  {s.name + '=' + s.value:<36} {s.does}  [{state}]", f"  {'':<36} {s.because}"]
    lines += ["", "To use them, one of"]
    lines += [
        f"  python -m homodyne.train xla={mode} ...",
        f'  eval "$(homodyne-config-xla --mode {mode} --export sh)"',
    ]
    lines += [
        "",
        "Need not be tried: time of a pass with the setting / without, two cores of an AMD EPYC (Zen 4), jax 0.10.2",
    ]
    return lines + [f"  {name:<64} {ratio}" for name, ratio in WITHOUT_EFFECT]


def _facts(machine: Machine) -> list[tuple[str, str]]:
    cores = "unknown" if machine.cores is None else str(machine.cores)
    facts = [
        (
            "processors",
            f"{machine.logical}, of which this process may use {len(machine.allowed)} on {cores} physical cores",
        )
    ]
    facts += [(name, f"{limit:g} processors") for name, limit in machine.limits.items()]
    facts.append(("granted", f"{machine.granted} threads: as many will sum"))
    nodes = "; ".join(_ranges(node) for node in machine.nodes)
    facts.append(("memory domains (NUMA)", f"{len(machine.nodes)} (processors {nodes})" if nodes else "not told"))
    physical = machine.memory["physical memory"]
    facts += [(name, f"{gb:.1f} GB") for name, gb in machine.memory.items() if gb <= physical]
    facts.append(("graphics processors", ", ".join(machine.accelerators) or "none"))
    return [*facts, ("JAX computes on", jax_devices(machine))]


def _ranges(numbers: Sequence[int]) -> str:
    """0, 1, 2, 5 as 0-2,5."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)


def jax_devices(machine: Machine) -> str:
    """What JAX finds. Asked in a process of its own, for JAX cannot be set up anew; and only where it can be more than
    the processor, for it takes seconds."""
    plugins = sorted({d.name for d in distributions() if re.match(r"jax[-_](cuda|rocm|metal)", d.name or "", re.I)})
    if not machine.accelerators or not plugins:
        return "processors (jax is installed without a plugin for graphics processors)" if not plugins else "processors"
    code = "import jax; print(', '.join(str(d) for d in jax.devices()))"
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        asked = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        return f"unknown: JAX did not start ({type(error).__name__})"
    return asked.stdout.strip()


def _benchmark(settings: Sequence[Setting], pairs: int) -> list[str]:
    from homodyne.cli.paired_passes import ANGLES, FRAMES, Ratio, alternate

    if pairs < 5:
        raise InputError("--pairs", pairs, "is too few for a spread", "use 5 or more")
    without, given = environments(os.environ, settings)
    changed = {name: value for name, value in given.items() if without.get(name) != value}
    if not changed:
        return ["Nothing to compare: this mode sets nothing that is not set already. Try --set NAME=VALUE"]
    a, b = alternate(without, given, pairs)
    wall, processor = Ratio.of(a.seconds, b.seconds), Ratio.of(a.processor_seconds, b.processor_seconds)
    points = ANGLES * FRAMES * (FRAMES - 1) / 2
    shown = " ".join(f"{name}={shlex.quote(value)}" for name, value in changed.items())
    lines = [f"A streamed pass over {points:.3g} points, {pairs} pairs in turn; with: {shown}"]
    for name, t in (("without", a), ("with", b)):
        lines.append(
            f"  {name:<8} {1e3 * float(sorted(t.seconds)[pairs // 2]):6.0f} ms a pass (median), {t.threads} threads, "
            f"first pass {t.start_seconds:.1f} s after the start"
        )
    lines += [f"  wall time, with / without:      {wall}", f"  processor time, with / without: {processor}"]
    return [*lines, f"  {verdict(wall.median, wall.stderr)}"]


def verdict(ratio: float, stderr: float) -> str:
    """In words: what exceeds two standard errors and one percent is told from none."""
    if abs(ratio - 1) <= max(2 * stderr, 0.01):
        return f"no difference beyond the noise of this machine ({200 * stderr:.1f} %)"
    return f"{100 * abs(ratio - 1):.0f} % {'faster' if ratio < 1 else 'slower'} with the settings"


def environments(now: Mapping[str, str], settings: Sequence[Setting]) -> tuple[dict[str, str], dict[str, str]]:
    """The environment as it is, and with the settings; what is set stays, except what was given with --set."""
    given = {s.name: s.value for s in settings if s.name not in now or s.because == "yours"}
    return dict(now), {**now, **given}


if __name__ == "__main__":
    sys.exit(main())
