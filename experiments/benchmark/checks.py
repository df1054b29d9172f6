"""From raw numbers to the table: goal, measured, ratio. A ratio of 1 or more means that the goal is met."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from cases import PEER_CASE
from make_data import case_of, points_of

Cases = dict[str, Any]
TEN7, TEN8, TEN9 = (case_of(10**n) for n in (7, 8, 9))
TIME_GOALS_S = {TEN7: 6.0, TEN8: 20.0, TEN9: 180.0}
MEMORY_GOAL_GB = 2.0


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table; ``ratio`` is None where there is no goal or no number."""

    case: str
    goal: str
    measured: str
    ratio: float | None = None
    failed: bool = False

    def markdown(self) -> str:
        verdict = "" if self.ratio is None else ("met" if self.ratio >= 1 else "missed")
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        cells = (self.case, self.goal, self.measured, ratio, "failed" if self.failed else verdict)
        return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def at_most(case: str, limit: float, value: float, unit: str, note: str = "") -> Row:
    """A row whose number may not exceed the limit."""
    return Row(case, f"<= {limit:g} {unit}".strip(), f"{value:.3g} {unit}{note}".strip(), limit / max(value, 1e-12))


def at_least(case: str, limit: float, value: float, unit: str, note: str = "") -> Row:
    """A row whose number may not fall below the limit."""
    return Row(case, f">= {limit:g} {unit}".strip(), f"{value:.3g} {unit}{note}".strip(), value / limit)


def _median_ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios of runs that took turns."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _size(case: str) -> str:
    return f"{points_of(case):.3g} points, {case.replace('x', ' x ')}"


def pass_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Rate of a pass, and its ratio to the larger of its floors."""
    seconds, points = found["seconds"], found["points"]
    rate = {name: points / statistics.median(s) / 1e6 for name, s in seconds.items()}
    name = f"one full pass, {_size(found['case'])}"
    note = f" (median of {len(seconds['pass'])}; goal 150)"
    yield at_least(name, 80, rate["pass"], "M points/s", note)
    floors = [max(pair) for pair in zip(seconds["reading"], seconds["model"], strict=True)]
    note = f" (M points/s: pass {rate['pass']:.0f}, reading {rate['reading']:.0f}, model {rate['model']:.0f})"
    yield at_most("a pass against the larger of its floors", 3, _median_ratio(seconds["pass"], floors), "times", note)


def precision_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Speed and error of single precision."""
    seconds, fits = found["seconds"], found["fits"]
    ratio = _median_ratio(seconds["float64"], seconds["float32"])
    rates = ", ".join(f"{name} {found['points'] / statistics.median(s) / 1e6:.0f}" for name, s in seconds.items())
    note = f" (M points/s: {rates}; model and sums alone {_median_ratio(*found['sums_s'].values()):.2f} times)"
    yield at_least(f"float32 against float64 rate, {_size(found['case'])}", 1.4, ratio, "times", note)
    double, single = fits["float64"], fits["float32"]
    apart = max(abs(single["theta"][n] - x) / double["stderr"][n] for n, x in double["theta"].items())
    yield at_most("float32 against float64 answer", 0.01, apart, "standard errors")


def fit_rows(name: str, found: dict[str, Any]) -> Iterator[Row]:
    """Time, memory and honesty of one fit."""
    kind, size = name.split()
    title = _size(size) + (", start 30 % off" if kind == "fit" else ", no start")
    pull = max(map(abs, found["pulls"].values()))
    rate = found["points_per_second"] / 1e6
    note = (
        f" ({found['passes']} passes, {rate:.0f} M points/s over all of it, largest pull {pull:.1f}, {found['status']}; "
        f"again, compiled: {found['again_s']:.3g} s)"
    )
    if size not in TIME_GOALS_S or kind == "search":
        yield Row(title, "", f"{found['seconds']:.3g} s{note}")
    else:
        yield at_most(title, TIME_GOALS_S[size], found["seconds"], "s", note)
    if kind == "fit":
        peak, note = found["peak_rss_gb"], f" ({found['strategy']})"
        if points_of(size) < 3e7:
            yield Row(f"{title}: peak RSS", "", f"{peak:.2f} GB{note}")
        else:
            yield at_most(f"{title}: peak RSS", MEMORY_GOAL_GB, peak, "GB", note)
    if found["status"] != "converged":
        yield Row(title, "converges", found["status"], failed=True)


def scaling_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Pass times of the scalings against the mean of all."""
    seconds = found["seconds"]
    rounds = list(zip(*seconds.values(), strict=True))
    shares = {name: statistics.median(s[n] / statistics.mean(s) for s in rounds) for n, name in enumerate(seconds)}
    spread = 100 * (max(shares.values()) / min(shares.values()) - 1)
    note = " (" + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()) + ")"
    yield at_most("pass times of the four scalings, 100 angles, differ by", 10, spread, "%", note)


def small_rows(found: dict[str, Any]) -> Iterator[Row]:
    """The user's command, and a second fit in a process."""
    walls = {name: statistics.median(seconds) for name, seconds in found["command_s"].items()}
    note = (
        f" (of {', '.join(f'{x:.1f}' for x in found['command_s']['first'])}; with compiled code on disk "
        f"{walls['next']:.1f} s, with five figures as well {walls['figures']:.1f} s, and recorded in MLflow "
        f"{walls['recorded']:.1f} s)"
    )
    yield at_most("import, compile, fit 10 x 200 by python -m homodyne.train", 6, walls["first"], "s", note)
    yield at_most("second fit in a process, 10 x 200", 1, found["second_s"], "s", f" (first {found['first_s']:.1f} s)")


def peer_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Time and memory of the peer over ours, and whether both found the same minimum."""
    title = f"against the peer, {_size(PEER_CASE)}"
    if "not run" in found:
        yield Row(title, ">= 200 times faster, >= 8 times less memory", "not run")
        return
    peer, ours = found["fits"]["peer"], found["fits"]["ours"]
    note = f" ({peer['fit_s']:.0f} s and {ours['fit_s']:.2f} s, both compile)"
    yield at_least(f"{title}: time of the first fit on a machine", 200, peer["fit_s"] / ours["fit_s"], "times", note)
    again = ours["again"]["fit_s"]
    note = f" ({again:.2f} s, compiled code on disk)"
    yield at_least(f"{title}: time of the next ones", 200, peer["fit_s"] / again, "times", note)
    note = f" ({peer['peak_rss_gb']:.2f} GB and {ours['peak_rss_gb']:.2f} GB)"
    yield at_least(f"{title}: memory", 8, peer["peak_rss_gb"] / ours["peak_rss_gb"], "times", note)
    chi2 = found["judged"]["chi2"]
    apart = abs(chi2["peer"] - chi2["ours"])
    yield at_most(f"{title}: same optimum, chi2 differs by", 1, apart, "", f" of {chi2['ours']:.0f}")


def agreement_rows(found: dict[str, Any]) -> Iterator[Row]:
    """One objective at every size."""
    note = f" (at the truth {found['apart'][0]:.1e}, 30 % off {found['apart'][1]:.1e})"
    title = f"Gauss-Newton step, streamed against full batch, {_size(PEER_CASE)}"
    yield at_most(title, 1e-10, max(found["apart"]), "relative", note)


def limited_rows(found: dict[str, Any]) -> Iterator[Row]:
    """A fit under a limit of the process."""
    title = f"{found['points']:.3g} points in {found['limit_gb']:g} GB of address space"
    note = f" peak RSS ({found['status']} in {found['seconds']:.1f} s)"
    yield at_most(title, found["limit_gb"], found["peak_rss_gb"], "GB", note)


def memory_rows(cases: Cases) -> Iterator[Row]:
    """Streamed fits of all sizes: flat, and as predicted."""
    done = {n.split()[1]: f for n, f in cases.items() if n.startswith("memory ") and "error" not in f}
    if not done:
        return
    peaks = [f["peak_rss_gb"] for f in done.values()]
    note = " (" + ", ".join(f"{points_of(size):.0e}: {f['peak_rss_gb']:.2f} GB" for size, f in done.items())
    note += f"; compiled code on disk: {', '.join(format(f['again_peak_rss_gb'], '.2f') for f in done.values())} GB)"
    if len(done) > 1:
        yield at_most(
            "peak RSS of streamed fits, 100 angles, grows by", 10, 100 * (max(peaks) / min(peaks) - 1), "%", note
        )
    worst = max((f["predicted_peak_gb"] / f["peak_rss_gb"] - 1 for f in done.values()), key=abs)
    note = " (" + ", ".join(f"{f['predicted_peak_gb']:.2f} for {f['peak_rss_gb']:.2f} GB" for f in done.values()) + ")"
    yield at_most("predicted against measured peak, off by", 25, 100 * abs(worst), "%", note)


def passes_rows(cases: Cases) -> Iterator[Row]:
    """The most passes any fit from a start 30 % off took."""
    taken = [f["passes"] for n, f in cases.items() if n.startswith("fit ") and "error" not in f]
    if taken:
        yield at_most("full passes per fit from a start 30 % off", 4, max(taken), "")


_ROWS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "passes": pass_rows, "precision": precision_rows, "scalings": scaling_rows, "small": small_rows,
    "agreement": agreement_rows, "peer": peer_rows, "limited": limited_rows,
}  # fmt: skip


def rows(cases: Cases) -> list[Row]:
    """The whole table; a measurement that failed is a row with its reason."""
    lines: list[Row] = []
    for name, found in cases.items():
        if "error" in found:
            lines.append(Row(name, "", found["error"], failed=True))
        elif name.startswith(("fit ", "search ")):
            lines += fit_rows(name, found)
        elif name in _ROWS:
            lines += _ROWS[name](found)
    return [*lines, *memory_rows(cases), *passes_rows(cases)]


def table(lines: list[Row]) -> str:
    """Markdown."""
    return "\n".join(["| case | goal | measured | ratio | |", "|---|---|---|--:|---|", *(r.markdown() for r in lines)])
