#!/usr/bin/env python3
"""Both weightings on files of a beamline's correlator (simulated light, known truth) and on measured maps.

    python experiments/whitened/real.py APSU_FOLDER BNL_FOLDER --out outputs/whitened_real

APSU_FOLDER holds ``*_results.hdf`` and ``truth.json`` (see experiments/beamline_simulated), BNL_FOLDER ``chx_bands_3.npz`` and
``ageing_350.npz`` (see experiments/measured, from which windows and datasets are). Prints Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import numpy as np

from homodyne import Dataset, fit
from homodyne.files import write_whole
from homodyne.result import FitResult

HERE = Path(__file__).parent


def _measured():
    """The module of the study of measured maps."""
    spec = importlib.util.spec_from_file_location("measured_run", HERE.parent / "measured" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measured_run"] = module
    spec.loader.exec_module(module)
    return module


def beamline(folder: Path) -> Iterator[str]:
    """Every q of every file, and both q of a file together, laminar flow with the offset of J held at its truth or free."""
    told = json.loads((folder / "truth.json").read_text())
    truth = {("phi0" if n == "phi0_deg" else n): v for n, v in told["parameters"].items()}
    yield "| file, q | free offset of J | parameter | truth | uniform | whitened | error, whitened / uniform | p of the residuals |"
    yield "|---|---|---|--:|--:|--:|--:|--:|"
    for key, case in told["cases"].items():
        qs = told["grid"]["q"]
        for q in (*qs, qs):
            for held in ({"D_offset": truth["D_offset"], "gamma_dot_offset": truth["gamma_dot_offset"]}, {}):
                data = Dataset.open(folder / case["file"], q=q, gap=told["parameters"]["h_A"])
                result = fit(data, "laminar_flow", fixed=held, weighting="whitened")
                title = f"{key}, {'both q' if isinstance(q, list) else f'q = {q:g}'} | {'no' if held else 'yes'}"
                yield from rows(title, result, truth)


def rows(title: str, result: FitResult, truth: dict[str, float]) -> Iterator[str]:
    """Values with errors and, in brackets, pulls."""
    record = result.weighting
    if record.name != "whitened":
        yield f"| {title} | | | | {record.reason} | | |"
        return
    for name in result.theta:
        if name in result.fixed:
            continue
        cells = []
        for values, errors in ((record.uniform, record.uniform_stderr), (record.whitened, record.whitened_stderr)):
            pull = (values[name] - truth[name]) / errors[name] if errors[name] > 0 else np.nan
            cells.append(f"{values[name]:.4g} ± {errors[name]:.2g} ({pull:+.1f})")
        ratio = record.whitened_stderr[name] / record.uniform_stderr[name]
        yield f"| {title} | {name} | {truth[name]:.4g} | {cells[0]} | {cells[1]} | {ratio:.2f} | {record.p_value:.2g} |"


def bands(folder: Path) -> Iterator[str]:
    """Ten windows of every measured series: scatter between windows, and the errors that are claimed."""
    study, text = _measured(), []
    with np.load(folder / "chx_bands_3.npz") as file:
        series = study.independent({name: file[name] for name in file}, text)
    model, held, parameter = study.SERIES_FITS["Gaussian"]
    yield "| series | contrast told | weights | mean | scatter of windows | of neighbors | error claimed | scatter / error | of neighbors / error |"
    yield "|---|--:|---|--:|--:|--:|--:|--:|--:|"
    rows = []
    for name, band in series.items():
        for contrast in study.CONTRASTS:
            results = []
            for w in range(study.WINDOWS):
                c2 = 1 + contrast * (study.window(band, study.WINDOW * w) - 1)
                results.append(fit(study.dataset(c2), model, fixed=held, weighting="whitened"))
            good = [r for r in results if r.weighting.name == "whitened" and not any(r.at_bound.values())]
            for w in ("uniform", "whitened"):
                x = np.array(
                    [(getattr(r.weighting, w)[parameter], getattr(r.weighting, f"{w}_stderr")[parameter]) for r in good]
                )
                sd, step, error = x[:, 0].std(ddof=1), np.sqrt(np.mean(np.diff(x[:, 0]) ** 2) / 2), np.median(x[:, 1])
                yield (
                    f"| {name} ({len(good)} windows) | {contrast:g} | {w} | {x[:, 0].mean():.4g} | {sd:.2g} | {step:.2g} | {error:.2g} | "
                    f"{sd / error:.1f} | {step / error:.1f} |"
                )
                rows.append(
                    f"{name}, {contrast:g}, {w}, window by window: "
                    + ", ".join(f"{1e3 * v:.1f} ± {1e3 * e:.1f}" for v, e in x)
                )
            rows.append("p of the residuals: " + ", ".join(f"{r.weighting.p_value:.2g}" for r in good))
    yield ""
    yield from rows


def ageing(folder: Path) -> Iterator[str]:
    """The map that ages."""
    study = _measured()
    with np.load(folder / "ageing_350.npz") as file:
        data = study.dataset(file["c2"])
    yield "| fit | status | parameter | uniform | whitened |"
    yield "|---|---|---|--:|--:|"
    texts = []
    for title, model, held in (
        ("kww, Gamma_offset = 0", "kww", {"Gamma_offset": 0.0}), ("static, D_offset = 0", "static", {"D_offset": 0.0}),
    ):  # fmt: skip
        result = fit(data, model, fixed=held, weighting="whitened")
        record = result.weighting
        for name in result.theta:
            if name not in held:
                uniform = f"{record.uniform[name]:.4g} ± {record.uniform_stderr[name]:.2g}"
                whitened = (
                    f"{record.whitened[name]:.4g} ± {record.whitened_stderr[name]:.2g}" if record.whitened else "–"
                )
                yield f"| {title} | {result.status.value} | {name} | {uniform} | {whitened} |"
        texts += [f"* {title}, p = {record.p_value:.2g}: {t}" for t in (*result.findings, *result.warnings)]
    yield ""
    yield from texts


def main() -> int:
    """Print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("apsu", type=Path)
    parser.add_argument("bnl", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/whitened_real"))
    parser.add_argument("--parts", nargs="+", default=["bands", "ageing", "beamline"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    for part in arguments.parts:
        lines = list(globals()[part](arguments.apsu if part == "beamline" else arguments.bnl))
        write_whole(arguments.out / f"{part}.md", "\n".join(lines))
        print(f"## {part}\n", *lines, sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
