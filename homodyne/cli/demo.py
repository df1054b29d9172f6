"""``make demo``: simulate a measurement, write it as the beamline would, fit the file, compare with the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from homodyne.files import write_whole

if TYPE_CHECKING:
    from homodyne.result import FitResult

FOLDER = Path("outputs/demo")
DATA, TRUTH, RUN = FOLDER / "demo_results.hdf", FOLDER / "truth.json", FOLDER / "run"

#: q [1/angstrom] of the two rings; the second is fitted, so that its bin labels follow those of the first.
Q_RINGS = (0.0036, 0.0054)
FITTED_RING = 1
GAP_ANGSTROM, DT_S, N_FRAMES = 2e6, 0.1, 300
#: Detector pixels in a sector of each ring, as many as its area holds, and photons per pixel and frame.
PIXELS, COUNTS = (5300, 8000), 2.0
PHI = np.linspace(-85.0, 85.0, 11)
#: Relaxes many times within the 30 s, and one sector looks almost across the flow: what is fitted is well determined.
THETA = {
    "D0": 2e4,
    "alpha": -0.8,
    "D_offset": 6e3,
    "gamma_dot_0": 5e-4,
    "beta": -0.5,
    "gamma_dot_offset": 1e-4,
    "phi0": 4.0,
}
#: (ring, sector) cells without pixels, as behind a beamstop: the file's labels skip them, the angles must not shift.
EMPTY_CELLS = ((0, 3), (0, 4), (FITTED_RING, 3))


def main() -> int:
    """Write the data, run the fit from the file, print the comparison; the exit code is that of ``homodyne.train``."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(
        f"Simulating the speckle of a sheared, aging sample: {len(PHI) - 1} angles x {N_FRAMES} frames, "
        f"{PIXELS[FITTED_RING]} pixels each (some ten seconds) ...",
        flush=True,
    )
    write_measurement()
    print(f"  {DATA} (APS-U layout, {DATA.stat().st_size / 2**20:.1f} MB; the truth beside it in {TRUTH.name})")
    command = [sys.executable, "-m", "homodyne.train", "+experiment=demo", f"hydra.run.dir={RUN}"]
    print(f"Fitting it:\n  python {' '.join(command[1:])}\n", flush=True)
    (RUN / "result.nc").unlink(missing_ok=True)  # of an earlier demo
    code = subprocess.run(command, check=False).returncode
    if not (RUN / "result.nc").exists():
        print(f"\nThe fit left no result (exit code {code}); its messages are above.", file=sys.stderr)
        return code or 1
    print("\n" + "\n".join(report()), flush=True)
    if code:
        print(f"\nThe fit ended with exit code {code}; its messages are above.", file=sys.stderr)
    return code


def write_measurement() -> None:
    """Two q rings of simulated speckle under laminar flow in the APS-U layout, and the truth as JSON."""
    from homodyne.data.formats.apsu import write_apsu
    from homodyne.simulate import speckle_dataset

    cells = [(i, k) for i in range(len(Q_RINGS)) for k in range(len(PHI)) if (i, k) not in EMPTY_CELLS]
    t, whole = DT_S * np.arange(N_FRAMES), slice(0, N_FRAMES)
    sectors, truth = [], {}
    for ring, q in enumerate(Q_RINGS):
        phi = np.array([PHI[k] for i, k in cells if i == ring])
        contrast = 0.25 * (1.0 + 0.12 * np.sin(2.0 * np.deg2rad(phi) + 0.7))
        data = speckle_dataset(
            "laminar_flow", THETA, phi, t, q, GAP_ANGSTROM,
            contrast=contrast, counts=COUNTS, pixels=PIXELS[ring], seed=20 + ring,
        )  # fmt: skip
        sectors += [(data, k) for k in range(len(phi))]
        if ring == FITTED_RING:
            truth = {"phi_deg": phi.tolist(), "contrast": contrast.tolist(), "offset": [1.0] * len(phi)}

    def matrix(n: int) -> np.ndarray:
        data, k = sectors[n]
        return data.maps.read(k, whole, whole)

    write_apsu(
        DATA, matrix, q=np.array(Q_RINGS), phi=PHI, cells=cells, frame_time_s=DT_S,
        pixels=[PIXELS[ring] for ring, _ in sorted(cells)], attrs={"start_time": "simulated"},
    )  # fmt: skip
    settings = {"q": Q_RINGS[FITTED_RING], "gap_angstrom": GAP_ANGSTROM, "dt_s": DT_S}
    detector = {"pixels": PIXELS[FITTED_RING], "counts": COUNTS}
    write_whole(TRUTH, json.dumps({"theta": THETA, **settings, **detector, **truth}, indent=2) + "\n")


def report() -> list[str]:
    """The lines shown after the fit: the table, where everything lies, what to do next."""
    from homodyne.result import FitResult

    result = FitResult.load(RUN / "result.nc")
    truth = json.loads(TRUTH.read_text())
    return [*_table(result, truth), "", *_summary(result), "", *_places(), "", *_next_steps()]


def pulls(result: FitResult, truth: dict[str, Any]) -> dict[str, np.ndarray]:
    """(fitted - true) / error of every parameter, contrast and offset; NaN where there is no error."""
    found = {n: np.array([result.theta[n] - true]) / _known(result.stderr[n]) for n, true in truth["theta"].items()}
    for name in ("contrast", "offset"):
        off = getattr(result, name) - np.array(truth[name])
        found[name] = off / _known(getattr(result, f"{name}_stderr"))
    return found


def _known(stderr: Any) -> np.ndarray:
    stderr = np.asarray(stderr, dtype=float)
    return np.where((stderr > 0) & np.isfinite(stderr), stderr, np.nan)


def _table(result: FitResult, truth: dict[str, Any]) -> list[str]:
    lines = [f"{'parameter':<18}{'unit':<17}{'truth':>11}{'fitted':>14}   {'error':<10}{'pull':>6}"]
    off = pulls(result, truth)
    for p in result.parameters:
        true, fitted, error, pull = truth["theta"][p.name], result.theta[p.name], result.stderr[p.name], off[p.name][0]
        shown = f"{pull:+.2f}" if np.isfinite(pull) else "-"  # fixed, at a bound, or undetermined
        lines.append(f"{p.name:<18}{p.unit or '-':<17}{true:>11.6g}{fitted:>14.6g} ± {error:<10.2g}{shown:>6}")
    for name in ("contrast", "offset"):
        worst = f"rms pull {np.sqrt(np.nanmean(off[name] ** 2)):.2f}, largest {np.nanmax(np.abs(off[name])):.2f}"
        lines.append(f"{name:<18}{'-':<17}{len(off[name]):>11} angles   {worst}")
    return lines


def _summary(result: FitResult) -> list[str]:
    """What the numbers of the table mean, and how the fit went."""
    lines = [
        "pull = (fitted - truth) / error: within -2 and 2 in 19 of 20 measurements, where errors are right.",
        f"Errors here: {result.covariance_method}.{_of_equal_weights(result)}",
        f"{result.status.value}: reduced chi2 {result.chi2_reduced:.3f}{_expectation(result)}",
    ]
    full = int(
        result.history["stage"].astype(str).str.startswith("full").sum()
    )  # the others went over a subset, to find the start
    lines.append(
        f"  over {result.n_points:,} pairs with {result.n_parameters} free parameters, in {full} passes, {result.strategy}"
    )
    return [*lines, *(f"note: {warning}" for warning in result.warnings)]


def _of_equal_weights(result: FitResult) -> str:
    """What a fit with equal weights for all pairs would have."""
    if result.weighting.name != "whitened":
        return ""
    ratio = _known(list(result.weighting.uniform_stderr.values())) / _known(list(result.stderr.values()))
    if not np.isfinite(ratio).any():
        return ""
    low, high = np.nanmin(ratio), np.nanmax(ratio)
    return (
        f" Equal weights for all pairs, as usual elsewhere, would have errors {low:.1f} to {high:.1f} times larger:\n"
        "  pairs that share a frame share its noise, and whitened weights know that."
    )


def _expectation(result: FitResult) -> str:
    """chi2 per point of a perfect model, for sigma is estimated from differences, which lack what neighbors share."""
    if "chi2_expected" not in result.diagnostics:
        return ""
    mean, sd = (result.diagnostics[n].values for n in ("chi2_expected", "chi2_sd"))
    return f"; the noise of speckle alone makes {mean.mean():.3f} ± {np.sqrt((sd**2).sum()) / sd.size:.3f}"


def _places() -> list[str]:
    figures = sorted(path.name for path in (RUN / "figures").glob("*.png"))
    return [
        f"Figures    {RUN}/figures: {', '.join(figures) if figures else 'none'}",
        "           curves.png shows J(t) and gamma_dot(t) with their errors, diagnostics.png how well the model fits",
        f"Record     {RUN}: result.nc, config.yaml, fit.log; MLflow in outputs/mlflow.db (look with: make ui)",
    ]


def _next_steps() -> list[str]:
    return [
        "Your own file:",
        "  homodyne-inspect /data/run42_results.hdf",
        "  python -m homodyne.train +experiment=laminar_flow dataset=apsu dataset.path=/data/run42_results.hdf \\",
        "         dataset.q=0.0054 dataset.gap_angstrom=2e6",
        "All runs in the browser:",
        "  make ui",
    ]


if __name__ == "__main__":
    sys.exit(main())
