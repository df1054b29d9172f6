#!/usr/bin/env python3
"""Kill a fit in the middle of its second pass, start it again, and compare with a fit that nobody disturbed.

    python experiments/benchmark/kill_resume.py outputs/benchmark/100x1415.nc

The child is sent SIGKILL, so it can tidy up nothing. The resumed fit must give every parameter and error bit for bit, and
must not repeat the pass that was finished. Exit code 1 when it does not.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: A finished pass in the log of a fit: its number, and its points and rate where it was not found in the checkpoint.
FINISHED = re.compile(r"Pass (\d+): (?:(\d+) points at ([\d.]+) M points/s|from the checkpoint)")
START_FACTOR = 1.3


def child(file: str, checkpoint: str | None) -> None:
    """The fit; prints JSON with the bits of every number."""
    import homodyne
    from homodyne.simulate.synthetic import THETA

    logging.basicConfig(level=logging.WARNING, format="  %(message)s")
    logging.getLogger("homodyne").setLevel(logging.INFO)
    start = {name: x * START_FACTOR for name, x in THETA.items()}
    result = homodyne.fit(
        homodyne.Dataset.open(file),
        strategy="hybrid_streaming",
        start=start,
        checkpoint=checkpoint,
        weighting="uniform",
    )
    bits = {f"{kind} {n}": x.hex() for kind in ("theta", "stderr") for n, x in getattr(result, kind).items()}
    bits |= {
        f"{kind} {k}": float(x).hex() for kind in ("contrast", "offset") for k, x in enumerate(getattr(result, kind))
    }
    bits["chi2"] = float(result.chi2_reduced).hex()
    print(json.dumps({"status": result.status.value, "bits": bits}))


def launch(file: Path, checkpoint: Path | None, on_line: Callable[[subprocess.Popen, str], None]) -> dict[str, Any]:
    """Run the fit in a process; its log, exit code and output. ``on_line`` sees every line of the log as it comes."""
    command = [sys.executable, __file__, str(file), "--child", *([] if checkpoint is None else [str(checkpoint)])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = []
    for line in process.stderr or ():
        log.append(line.rstrip())
        print(line.rstrip(), file=sys.stderr, flush=True)
        on_line(process, line)
    output = process.stdout.read() if process.stdout else ""
    code = process.wait()
    matches = [m for m in map(FINISHED.search, log) if m]
    summed = {m[1]: int(m[2]) / (float(m[3]) * 1e6) for m in matches if m[2]}
    found = {"code": code, "passes": [int(m[1]) for m in matches], "summed": len(summed), "second_s": summed.get("2")}
    return found | (json.loads(output.splitlines()[-1]) if code == 0 else {"log": log})


def killer(after_s: float) -> Callable[[subprocess.Popen, str], None]:
    """Kill the process so many seconds into its second pass."""
    timers: list[threading.Timer] = []

    def on_line(process: subprocess.Popen, line: str) -> None:
        match = FINISHED.search(line)
        if match and match[1] == "1" and not timers:
            timers.append(threading.Timer(after_s, process.kill))
            timers[0].start()

    return on_line


def compare(whole: dict[str, Any], killed: dict[str, Any], resumed: dict[str, Any]) -> list[str]:
    """What is wrong; nothing when all is well."""
    if killed["code"] == 0 or killed["passes"] != [1]:
        return [f"the kill missed pass 2: exit code {killed['code']}, finished passes {killed['passes']}"]
    if whole["code"] or resumed["code"]:
        return [f"exit codes: undisturbed {whole['code']}, resumed {resumed['code']}"]
    wrong = [f"{name} differs" for name, bits in whole["bits"].items() if resumed["bits"][name] != bits]
    if resumed["summed"] != whole["summed"] - 1:
        wrong.append(f"summed {resumed['summed']} passes again where {whole['summed'] - 1} were left")
    return wrong


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a file that make_data.py wrote; long passes are easier to hit")
    parser.add_argument("--into-pass-2", type=float, default=0.4, help="when to kill, as a fraction of a pass")
    parser.add_argument("--child", nargs="?", const="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    args = parse()
    if args.child is not None:
        child(str(args.file), args.child or None)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        print("undisturbed:", file=sys.stderr)
        whole = launch(args.file, None, lambda process, line: None)
        print("killed in pass 2:", file=sys.stderr)
        killed = launch(args.file, Path(folder), killer(args.into_pass_2 * (whole["second_s"] or 0.0)))
        left = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        print("started again:", file=sys.stderr)
        began = time.perf_counter()
        resumed = launch(args.file, Path(folder), lambda process, line: None)
        seconds = time.perf_counter() - began
        rest = [path.name for path in Path(folder).iterdir()]
    wrong = compare(whole, killed, resumed)
    print(f"killed after passes {killed['passes']}, {left:,} bytes of checkpoint; {len(rest)} files left at the end")
    print(
        f"resumed in {seconds:.1f} s: passes summed {resumed['summed']} of {whole['summed']}, {resumed.get('status')}"
    )
    n_numbers = len(whole.get("bits", {}))
    print("\n".join(wrong) if wrong else f"all {n_numbers} numbers agree bit for bit")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
