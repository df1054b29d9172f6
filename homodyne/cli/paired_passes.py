"""One streamed pass with some settings and without them: two processes that take turns, so that other work on the machine
hits both alike.

The data are simulated in memory, 23 angles of 933 frames (10^7 points), all angles alike: model, sums, copies and threads are those of a fit, and there is no file to wait for. ``python -m homodyne.cli.paired_passes`` is one of
the two processes: it says when it is ready, and takes a pass for every line that it is given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from homodyne.errors import InputError

ANGLES, FRAMES = 23, 933
COMMAND = (sys.executable, "-m", "homodyne.cli.paired_passes")


@dataclasses.dataclass(frozen=True)
class Timing:
    """Passes of one process: seconds of wall time and of processor time of each, seconds from its start to the end of the
    first one, and its threads."""

    seconds: np.ndarray
    processor_seconds: np.ndarray
    start_seconds: float
    threads: int

    @classmethod
    def of(cls, taken: Sequence[Mapping[str, float]], ready: Mapping[str, float]) -> Timing:
        """From the answers of a process."""
        wall, processor = (np.array([t[name] for t in taken]) for name in ("wall", "processor"))
        return cls(wall, processor, ready["start"], int(ready["threads"]))


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Median of b / a over pairs, the range that holds the middle 68 % of them, and the standard error of the median."""

    median: float
    low: float
    high: float
    stderr: float

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray) -> Ratio:
        """Pairs are (a[i], b[i]); for a normal distribution the median's error is 1.253 sd / sqrt(n)."""
        low, median, high = np.percentile(b / a, [15.87, 50.0, 84.13])
        return cls(float(median), float(low), float(high), float(1.253 * 0.5 * (high - low) / np.sqrt(len(a))))

    def __str__(self) -> str:
        return f"{self.median:.3f} ± {self.stderr:.3f} (68 % of pairs: {self.low:.2f} to {self.high:.2f})"


def alternate(
    without: Mapping[str, str],
    given: Mapping[str, str],
    pairs: int,
    commands: tuple[Sequence[str], Sequence[str]] = (COMMAND, COMMAND),
) -> tuple[Timing, Timing]:
    """Passes in both environments, in turn, the order changing from pair to pair.

    Args:
        without, given: whole environments. commands: the two processes, which answer as ``serve`` does.

    Raises:
        InputError: a process that does not start with these settings; XLA ends at a flag it does not know.
    """
    processes = [start(command, env) for command, env in zip(commands, (without, given), strict=True)]
    try:
        # what may fail first
        ready = [answer(process) for process in reversed(processes)][::-1]
        for process in processes:
            take(process)
        taken: list[list[dict[str, float]]] = [[], []]
        for n in range(pairs):
            for which in (0, 1) if n % 2 else (1, 0):
                taken[which].append(take(processes[which]))
    finally:
        for process in processes:
            end(process)
    first, second = (Timing.of(times, r) for times, r in zip(taken, ready, strict=True))
    return first, second


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """One of the processes; the first ``answer`` comes when it is ready."""
    return subprocess.Popen(
        command, env=dict(environment), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def take(process: subprocess.Popen[str]) -> dict[str, float]:
    """One pass, when it is done."""
    assert process.stdin is not None
    # one that has ended takes no line; its last words are read below
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("pass\n")
        process.stdin.flush()
    return answer(process)


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    """The next line of a process.

    Raises:
        InputError: it has ended.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if line:
        return json.loads(line)
    said = process.stderr.read().strip().splitlines()
    raise InputError(
        "--benchmark", said[-1][-300:] if said else f"exit code {process.wait()}",
        "is how a process with these settings ended", "leave out the setting that is at fault",
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> None:
    """Stop a process that ``start`` made."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class _OneAngle:
    """One simulated angle again and again; a ``BlockSource``."""

    def __init__(self, n_phi: int, n_t: int) -> None:
        from homodyne.simulate.synthetic import synthetic_dataset

        data = synthetic_dataset(n_phi=3, n_t=n_t, dt=20.0 / n_t)  # the second looks along the flow
        self.phi, self.t, self.q, self.gap, self.dt = np.zeros(n_phi), data.t, data.q, data.gap, data.dt
        self.sigma = np.full(n_phi, 0.005)
        whole = slice(0, n_t)
        self._c2 = data.read_block(1, whole, whole).astype(np.float32)

    def read_block(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """The same for every ``k``."""
        return self._c2[rows, cols]

    def read_sigma(self, k: int, rows: slice, cols: slice) -> None:
        """``sigma`` applies."""
        return None


def prepare(n_phi: int = ANGLES, n_t: int = FRAMES, model_name: str = "laminar_flow") -> Callable[[], Any]:
    """A function that takes one pass at the true parameters."""
    from homodyne.models import get_model
    from homodyne.optimization.nlsq.hybrid_streaming import streamed_pass
    from homodyne.optimization.nlsq.select import select_nlsq_strategy
    from homodyne.optimization.source import all_frames
    from homodyne.simulate.synthetic import THETA

    source, model = _OneAngle(n_phi, n_t), get_model(model_name)
    view = all_frames(source)
    theta = np.array([THETA[p.name] for p in model.parameters])
    decision = select_nlsq_strategy(view.n_points(1), len(theta) + 2, strategy="hybrid_streaming")
    evaluate = streamed_pass(model, view, 1, decision.block_points)
    return lambda: evaluate(theta, np.tile([0.25, 1.0], (n_phi, 1)))


def serve(
    prepared: Callable[[], Callable[[], Any]], lines: Iterable[str], say: Callable[[dict[str, float]], None]
) -> None:
    """Prepare, act once and say how long that took; then act for every line."""
    began = time.perf_counter()
    act = prepared()
    act()
    say({"start": time.perf_counter() - began, "threads": len(os.listdir("/proc/self/task"))})
    for _ in lines:
        wall, processor = time.perf_counter(), time.process_time()
        act()
        say({"wall": time.perf_counter() - wall, "processor": time.process_time() - processor})


def say(what: Mapping[str, float]) -> None:
    """One line of JSON."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    n_phi, n_t, name = sys.argv[1:] or (ANGLES, FRAMES, "laminar_flow")
    serve(lambda: prepare(int(n_phi), int(n_t), str(name)), sys.stdin, say)
