#!/usr/bin/env python3
"""Fits of measured two-time data: do separate windows of a series scatter as the errors say, and what of a map that ages?

    python experiments/measured/run.py FOLDER --out outputs/measured --figure experiments/measured/aging.png

FOLDER holds ``chx_bands_3.npz`` and ``ageing_350.npz`` (sources in the README). A frame is taken as one second, since
times are known in frames only; q is unknown, Q is any number, and q**2 J(t), in 1 / frame, does not depend on it.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.figure import Figure

from homodyne import Dataset, compare, fit
from homodyne.files import write_whole
from homodyne.fitting import fit_maps
from homodyne.plots.canvas import DATA_COLOR, MODEL_COLOR, MUTED, new_figure, styled, write_png
from homodyne.result import FitResult

Q, WINDOW, WINDOWS = 0.01, 100, 10
#: Contrast of the rescaled data is about 1; c2 - 1 times this has that of a real measurement.
CONTRASTS = (1.0, 0.1)
#: Model, parameters held, and the one that is asked for.
STEADY = {"aging": 0.0, "Gamma_offset": 0.0}
SERIES_FITS: dict[str, tuple[str, dict[str, float], str]] = {
    "exponential": ("static", {"alpha": 0.0, "D_offset": 0.0}, "D0"),
    "Gaussian": ("kww", {**STEADY, "kww_exponent": 2.0}, "Gamma_0"),
    "free exponent": ("kww", STEADY, "Gamma_0"),
}
#: Gamma [1/frame] and exponent that the authors of the map give at these ages [frames].
AGES = (0, 40, 80, 120, 160, 200, 240, 280)
AUTHORS_RATE = (0.103, 0.035, 0.031, 0.024, 0.024, 0.022, 0.015, 0.019)
AUTHORS_EXPONENT = (0.68, 0.78, 0.63, 0.75, 0.70, 0.65, 0.77, 0.93)


def window(band: np.ndarray, first: int) -> np.ndarray:
    """c2 (WINDOW, WINDOW) from ``band[lag, i] = c2(i, i + lag)``; NaN where nothing is stored, and on the diagonal."""
    c2 = np.full((WINDOW, WINDOW), np.nan)
    for lag in range(1, len(band)):
        i = np.arange(WINDOW - lag)
        c2[i, i + lag] = c2[i + lag, i] = band[lag, first + i]
    return c2


def dataset(c2: np.ndarray) -> Dataset:
    """One sector."""
    return Dataset.from_arrays(c2[None], [0.0], np.arange(float(len(c2))), Q)


@dataclasses.dataclass(frozen=True)
class Scatter:
    """A quantity in every window, with its errors (windows,)."""

    values: np.ndarray
    iid: np.ndarray
    speckle: np.ndarray

    def row(self) -> str:
        """Mean, scatter, scatter of neighbors, median errors and the ratios."""
        good = np.isfinite(self.iid) & np.isfinite(self.speckle)
        if good.sum() < len(self.values):
            return f"{np.median(self.values):.4g} (median) | | | | | | ({len(good) - good.sum()} of {len(good)} without an error)"
        sd, step = self.values.std(ddof=1), np.sqrt(np.mean(np.diff(self.values) ** 2) / 2)
        iid, speckle = np.median(self.iid), np.median(self.speckle)
        return (
            f"{self.values.mean():.4g} | {sd:.2g} | {iid:.2g} | {speckle:.2g} | {sd / iid:.1f} | "
            f"**{sd / speckle:.1f}** | {step / speckle:.1f}"
        )


def scatters(results: list[FitResult], name: str) -> dict[str, Scatter]:
    """Of the parameter, the contrast and the offset."""

    def of(r: FitResult, method: str) -> tuple[float, float, float]:
        if method not in r.uncertainties:
            return (np.nan,) * 3
        u = r.uncertainties[method]
        return r.stderr_by(method)[name], float(u.contrast_stderr[0]), float(u.offset_stderr[0])

    values = np.array([(r.theta[name], r.contrast[0], r.offset[0]) for r in results])
    errors = {m: np.array([of(r, m) for r in results]) for m in ("iid", "speckle")}
    heads = (name, "contrast", "offset")
    return {h: Scatter(values[:, n], errors["iid"][:, n], errors["speckle"][:, n]) for n, h in enumerate(heads)}


def independent(series: Mapping[str, np.ndarray], text: list[str]) -> dict[str, np.ndarray]:
    """Series without those that are an earlier one up to a factor and a constant; appends what was found to ``text``."""
    kept: dict[str, np.ndarray] = {}
    for name, band in series.items():
        same = False
        for earlier, other in kept.items():
            both = np.isfinite(band) & np.isfinite(other)
            x, y = other[both].astype(float), band[both].astype(float)
            correlation = float(np.corrcoef(x, y)[0, 1])
            text.append(
                f"{earlier} and {name}: correlation {correlation:.7f}, factor {y.std() / x.std() * correlation:.4f}\n"
            )
            same |= correlation > 0.99999
        if not same:
            kept[name] = band
    return kept


def fit_series(series: Mapping[str, np.ndarray]) -> dict[tuple[str, str, float], list[FitResult]]:
    """Every window of every series by every model; keys (series, fit, contrast)."""
    found = {}
    for series_name, band in series.items():
        for fit_name, (model, held, _) in SERIES_FITS.items():
            for contrast in CONTRASTS:
                data = [1 + contrast * (window(band, WINDOW * w) - 1) for w in range(WINDOWS)]
                found[series_name, fit_name, contrast] = [
                    fit(dataset(c2), model, fixed=held, weighting="uniform") for c2 in data
                ]
    return found


def series_tables(found: Mapping[tuple[str, str, float], list[FitResult]]) -> Iterator[str]:
    """Scatter between windows against errors, the light that the fits find, and the windows one by one."""
    yield "| series | fit | contrast | quantity | mean | scatter | iid error | honest error | scatter / iid | scatter / honest | of neighbors / honest |"
    yield "|---|---|--:|---|--:|--:|--:|--:|--:|--:|--:|"
    for (series_name, fit_name, contrast), results in found.items():
        for name, scatter in scatters(results, SERIES_FITS[fit_name][2]).items():
            yield f"| {series_name} | {fit_name} | {contrast:g} | {name} | {scatter.row()} |"
    yield "\n| series | fit | contrast | counts | pixels | χ²/N | of speckle noise | exponent | |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|---|"
    for (series_name, fit_name, contrast), results in found.items():
        yield f"| {series_name} | {fit_name} | {contrast:g} | {note(results)} |"
    yield ""
    for (series_name, fit_name, contrast), results in found.items():
        if not any(any(r.at_bound.values()) for r in results):
            yield f"{series_name}, {fit_name}, {contrast:g}, window by window: {drift(results, SERIES_FITS[fit_name][2])}\n"


def note(results: list[FitResult]) -> str:
    """Medians and ranges of what the fits of the windows find beside the parameters."""

    def span(name: str) -> str:
        values = [float(r.diagnostics[name].values[0]) for r in results if name in r.diagnostics]
        return f"{np.median(values):.3g} ({min(values):.2g} to {max(values):.2g})" if values else "–"

    exponents = [r.theta.get("kww_exponent", 1.0) for r in results]
    errors = [r.stderr.get("kww_exponent", 0.0) for r in results]
    k = f"{np.mean(exponents):.2f}" + (
        f" ± {np.median(errors):.2f}, scatter {np.std(exponents, ddof=1):.2f}" if any(errors) else ""
    )
    chi2 = [r.chi2_reduced for r in results]
    at_bound = sum(any(r.at_bound.values()) for r in results)
    no_light = sum("speckle" not in r.uncertainties for r in results)
    words = [f"{at_bound} at a bound"] * bool(at_bound) + [f"{no_light} without speckle errors"] * bool(no_light)
    return (
        f"{span('counts')} | {span('pixels')} | {np.median(chi2):.2f} ({min(chi2):.2f} to {max(chi2):.2f}) | "
        f"{span('chi2_expected')} | {k} | {', '.join(words)}"
    )


def drift(results: list[FitResult], name: str) -> str:
    """The quantity window by window."""
    return ", ".join(f"{r.theta[name]:.4g} ± {r.stderr[name]:.2g}" for r in results)


def aging(c2: np.ndarray, figure: Path) -> Iterator[str]:
    """The map that ages, by power laws of the rate and by decays with an exponent."""
    data = dataset(c2)
    power = fit(data, "kww", fixed={"Gamma_offset": 0.0}, weighting="uniform")
    fits = {
        "static": fit(data, "static", weighting="uniform"),
        "static, D_offset = 0": fit(data, "static", fixed={"D_offset": 0.0}, weighting="uniform"),
        # from the power law: see the line on the search below
        "kww": fit(data, "kww", start=power.theta, weighting="uniform"),
        "kww, Gamma_offset = 0": power,
    }
    searched = {s: fit(data, "kww", strategy=s, covariance="iid") for s in ("auto", "multistart", "cmaes_nlsq")}
    # static with D_offset = 0
    simple = fit(data, "kww", fixed={"Gamma_offset": 0.0, "kww_exponent": 1.0}, weighting="uniform")
    yield "| fit | status | parameter | value | honest error | iid error |"
    yield "|---|---|---|--:|--:|--:|"
    for name, r in fits.items():
        u, v = r.uncertainty, r.uncertainties["iid"]
        lines = [
            (p.name, r.theta[p.name], r.stderr[p.name], r.stderr_by("iid")[p.name])
            for p in r.parameters
            if p.name not in r.fixed
        ]
        lines.append(("contrast", r.contrast[0], u.contrast_stderr[0], v.contrast_stderr[0]))
        lines.append(("offset", r.offset[0], u.offset_stderr[0], v.offset_stderr[0]))
        for label, value, honest, iid in lines:
            yield f"| {name} | {r.status.value} | {label} | {value:.5g} | {honest:.2g} | {iid:.2g} |"
    yield ""
    yield from rates_table(fits)
    residuals = {n: residual(data, r) for n, r in fits.items() if n != "static"}
    for by in ("lag", "age"):
        yield ""
        yield from residual_table(residuals, by)
    for name, r in fits.items():
        yield f"\n**{name}**\n"
        yield from (f"* {text}" for text in (*r.findings, *r.warnings))
    yield ""
    ends = {"from the power law": fits["kww"], **searched}
    words = ", ".join(f"{n}: χ²/N {r.chi2_reduced:.5f}, Gamma_0 {r.theta['Gamma_0']:.3g}" for n, r in ends.items())
    yield f"* kww with all free, where the search ends (power law alone: χ²/N {power.chi2_reduced:.5f}): {words}"
    steeper = power
    for small, large in (
        (simple, steeper), (steeper, fits["kww"]), (fits["static, D_offset = 0"], fits["static"])
    ):  # fmt: skip
        yield from (f"* {text}" for text in compare([small, large]).sentences())
    levels = fits["kww"].profile("kww_exponent").intervals.items()
    yield f"* profile of the exponent: {', '.join(f'{100 * p:.0f} % in {low:.2f} to {high:.2f}' for p, (low, high) in levels)}"
    write_png(aging_figure(fits, residuals), figure, dpi=90)


def rates_table(fits: Mapping[str, FitResult]) -> Iterator[str]:
    """Decay rates at the ages of the authors; theirs is Gamma of exp(-2 (Gamma tau)**a), for a = 1 half of q**2 J."""
    yield f"| age [frames] | authors: Γ (a) [1/frame] | {' | '.join(fits)} |"
    yield "|--:|--:|" + "--:|" * len(fits)
    for age, rate, exponent in zip(AGES, AUTHORS_RATE, AUTHORS_EXPONENT, strict=True):
        cells = []
        for r in fits.values():
            t, value, error = decay_curve(r)
            at = int(np.argmin(np.abs(t - max(age, 1))))
            cells.append(f"{value[at]:.4f} ± {error[at]:.4f}")
        yield f"| {age} | {rate:.3f} ({exponent:.2f}) | {' | '.join(cells)} |"


def decay_curve(r: FitResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """t, Gamma(t) and its error; Gamma = q**2 J / 2 for ``static``."""
    curves = r.curves()
    name, factor = ("J", 0.5 * Q**2) if "J" in curves else ("Gamma", 1.0)
    return curves["t"].values, factor * curves[name].values, factor * curves[f"{name}_stderr"].values


@dataclasses.dataclass(frozen=True)
class Residual:
    """All pairs of a map: lag, age (t1 + t2) / 2, and (data - model) / contrast with the noise of a pair."""

    lag: np.ndarray
    age: np.ndarray
    values: np.ndarray
    sigma: float

    def binned(self, by: str) -> Iterator[tuple[float, float, float]]:
        """Middle, mean and its error as if pairs were independent, of every bin."""
        place, edges = getattr(self, by), EDGES[by]
        for low, high in itertools.pairwise(edges):
            inside = (place >= low) & (place < high)
            n = int(inside.sum())
            yield float(place[inside].mean()), float(self.values[inside].mean()), self.sigma / np.sqrt(n)


EDGES = {
    "lag": np.array([1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 140, 220, 350]),
    "age": np.linspace(0, 350, 15),
}


def residual(data: Dataset, r: FitResult) -> Residual:
    """Of every pair; result.diagnostics has that of a part of the frames."""
    shown = fit_maps(data, r)[0]
    i, j = np.triu_indices(len(shown.data), 1)
    contrast = float(r.contrast[0])
    return Residual(
        (j - i).astype(float), 0.5 * (i + j), (shown.data - shown.model)[i, j] / contrast, shown.sigma / contrast
    )


def residual_table(residuals: Mapping[str, Residual], by: str) -> Iterator[str]:
    """Mean residual by lag or by age, in percent of the contrast."""
    yield f"| {by} [frames] | {' | '.join(residuals)} |"
    yield "|--:|" + "--:|" * len(residuals)
    for line in zip(*(r.binned(by) for r in residuals.values()), strict=True):
        yield f"| {line[0][0]:.3g} | {' | '.join(f'{100 * v:+.1f} ± {100 * e:.1f} %' for _, v, e in line)} |"


@styled
def aging_figure(fits: Mapping[str, FitResult], residuals: Mapping[str, Residual]) -> Figure:
    """Decay rate against age, and the mean residual by lag, by age, and by both."""
    figure = new_figure(11.0, 7.0)
    axes = figure.subplots(2, 2)
    colors = dict(zip(fits, (MUTED, DATA_COLOR, MODEL_COLOR, "tab:green"), strict=True))
    for name, r in fits.items():
        t, value, error = (x[1:] for x in decay_curve(r))
        axes[0, 0].plot(t, value, color=colors[name], label=name)
        axes[0, 0].fill_between(t, value - error, value + error, color=colors[name], alpha=0.2, lw=0)
    axes[0, 0].plot(np.maximum(AGES, 1), AUTHORS_RATE, "ks", ms=5, label="the authors, slices at fixed age")
    axes[0, 0].set(xscale="log", yscale="log", xlabel="age [frames]", ylabel="decay rate $\\Gamma$ [1/frame]")
    axes[0, 0].set_title("rate with one honest error", loc="left")
    for axis, by in ((axes[0, 1], "lag"), (axes[1, 0], "age")):
        for n, (name, r) in enumerate(residuals.items()):
            place, value, error = np.array(list(r.binned(by))).T
            place = place * 1.04**n if by == "lag" else place + 3 * n
            axis.errorbar(place, 100 * value, 100 * error, fmt="o", ms=3.5, color=colors[name], label=name)
        axis.axhline(0.0, color=MUTED, lw=0.8)
        axis.set(xlabel=f"{by} [frames]", ylabel="(data − model) / contrast [%]")
        axis.set_title(f"mean residual by {by}, all pairs", loc="left")
    axes[0, 1].set_xscale("log")
    name, r = "kww", residuals["kww"]
    count, *edges = np.histogram2d(r.age, r.lag, (EDGES["age"], EDGES["lag"]))
    total = np.histogram2d(r.age, r.lag, (EDGES["age"], EDGES["lag"]), weights=r.values)[0]
    with np.errstate(invalid="ignore"):
        pull = np.ma.masked_invalid(total / np.sqrt(count) / r.sigma)
    axes[1, 1].set_facecolor("0.85")
    image = axes[1, 1].pcolormesh(edges[1], edges[0], pull, cmap="RdBu_r", vmin=-4, vmax=4)
    figure.colorbar(image, ax=axes[1, 1], label="mean residual / its error")
    axes[1, 1].set(xscale="log", xlabel="lag [frames]", ylabel="age [frames]")
    axes[1, 1].set_title(f"mean residual by both: {name}", loc="left")
    for axis in axes.flat[:3]:
        axis.legend()
    return figure


def main() -> int:
    """Print and save everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/measured"))
    parser.add_argument("--figure", type=Path, help="PNG of the map that ages; aging.png in --out by default")
    args = parser.parse_args()
    if not (args.folder / "ageing_350.npz").is_file():
        print(f"[ERROR] FOLDER={args.folder} holds no ageing_350.npz: give the folder with the data", file=sys.stderr)
        return 1
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    args.out.mkdir(parents=True, exist_ok=True)
    with np.load(args.folder / "chx_bands_3.npz") as file:
        series = {name: file[name] for name in file}
    with np.load(args.folder / "ageing_350.npz") as file:
        map_ = file["c2"]
    text = ["## Series\n"]
    text += series_tables(fit_series(independent(series, text)))
    text += ["## Aging\n", *aging(map_, args.figure or args.out / "aging.png")]
    print("\n".join(text))
    write_whole(args.out / "report.md", "\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
