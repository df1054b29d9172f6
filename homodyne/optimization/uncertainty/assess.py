"""Everything a finished fit says about its own reliability: errors by every method, what is determined, what the residuals show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import xarray as xr

from homodyne.optimization.uncertainty.asymmetry import bent
from homodyne.optimization.uncertainty.curves import rate_table
from homodyne.optimization.uncertainty.design import Design, make_design
from homodyne.optimization.uncertainty.errors import Errors
from homodyne.optimization.uncertainty.fitted import Fitted, Whitened
from homodyne.optimization.uncertainty.identifiable import outside_bounds
from homodyne.optimization.uncertainty.iid import iid_errors
from homodyne.optimization.uncertainty.jackknife import LEAST_ANGLES, jackknife
from homodyne.optimization.uncertainty.noise import SpeckleNoise, estimate_noise
from homodyne.optimization.uncertainty.repetitions import repetition_errors
from homodyne.optimization.uncertainty.residual_structure import binned, same_light
from homodyne.optimization.uncertainty.robust import Counted, Expected, expected, with_loss
from homodyne.optimization.uncertainty.scores import Absorbed, Scores, draw_scores
from homodyne.optimization.uncertainty.sentences import doubt, findings, grouped, of_angles, warnings
from homodyne.optimization.uncertainty.speckle import SpeckleErrors, speckle_errors
from homodyne.result import Uncertainty


@dataclasses.dataclass(frozen=True)
class Assessment:
    """What ``FitResult`` records of it."""

    uncertainties: dict[str, Uncertainty]
    method: str
    undetermined: tuple[str, ...]
    condition: float
    curves: xr.Dataset
    diagnostics: xr.Dataset
    findings: tuple[str, ...]
    warnings: tuple[str, ...]


def assess(
    fitted: Fitted, residual: np.ndarray, frames: np.ndarray, signal: Callable[[np.ndarray], np.ndarray | None]
) -> Assessment:
    """Errors, what they mean, and what the residuals say.

    Args:
        residual: (n_phi, m, m) on some frames (m,), NaN where there is no valid point.
        signal: theta -> s on the same pairs, None where the model makes no sense.
    """
    design = make_design(fitted.linear, fitted.scaling, fitted.moved)
    phi = np.asarray(fitted.source.phi, dtype=float)
    found: dict[str, Errors] = {}
    noise, scores, speckle, expectation = _speckle(fitted, design)
    if speckle is not None:
        found["speckle"] = speckle.errors
    if fitted.repeated:
        found["repetitions"] = repetition_errors(design, fitted.repeated)
    left_out = jackknife(design) if len(phi) >= LEAST_ANGLES else None
    if left_out is not None:
        found["jackknife"] = left_out.errors
    if fitted.whitened is None:  # whose weights leave no pairs to be counted as independent
        found["iid"] = iid_errors(design, fitted.chi2_reduced)
    method = fitted.covariance if fitted.covariance in found else ("iid" if "iid" in found else "speckle")
    disagreeing = tuple(of_angles(fitted, design, scores, left_out, speckle)) if left_out and speckle and scores else ()
    doubted = doubt(fitted, speckle, expectation, disagreeing)
    if doubted and method == "speckle" and left_out is not None and _larger(left_out.errors, found["speckle"]):
        method = "jackknife"
    uncertainties = {name: _uncertainty(errors) for name, errors in found.items()}
    open_ones = tuple(sorted({*design.undetermined, *outside_bounds(uncertainties[method], fitted.parameters)}))
    curves = rate_table(fitted.model, fitted.theta, fitted.source, uncertainties, method, fitted.without_error())
    stderr = np.sqrt((uncertainties[method].root ** 2).sum(1))
    stderr[list(open_ones)] = np.inf
    curved = bent(design, fitted.theta, stderr, signal, np.isfinite(residual), np.asarray(fitted.source.sigma))
    alike = same_light(residual, frames)
    diagnostics = _diagnostics(fitted, design, noise, speckle, left_out, residual, frames)
    return Assessment(
        uncertainties,
        method,
        tuple(fitted.parameters[i].name for i in open_ones),
        design.theta.condition,
        curves,
        diagnostics,
        (*grouped(scores), *findings(fitted, stderr, open_ones, curved, curves, noise, speckle, expectation)),
        tuple(warnings(fitted, design, speckle, expectation, disagreeing, alike, method, doubted)),
    )


def _larger(one: Errors, other: Errors) -> bool:
    """Whether the errors of one method are the larger ones, in the geometric mean: in doubt none is made smaller."""
    a, b = ((errors.root**2).sum(1) for errors in (one, other))
    known = np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0)
    return bool(known.any() and np.log(a[known] / b[known]).mean() > 0)


def _speckle(
    fitted: Fitted, design: Design
) -> tuple[SpeckleNoise | None, Scores | None, SpeckleErrors | None, Expected | None]:
    if fitted.whitened is not None:
        return _of_whitened(fitted.whitened, design)
    pairs = fitted.at.scaling
    if fitted.covariance != "speckle" or not np.any((pairs[:, 0] > 0) & (pairs[:, 1] > 0)):
        return None, None, None, None
    source, model, theta, robust = fitted.source, fitted.model, fitted.theta, fitted.robust
    counted = None if robust is None else Counted(source, model, theta, pairs, robust.loss, robust.spread)
    noise = estimate_noise(counted or source, model, theta, pairs, fitted.counts, fitted.pixels)
    if noise is None:
        return None, None, None, None
    scores = draw_scores(model, theta, counted or source, noise, fitted.min_lag, absorbed=_absorbed(design))
    sigma, expectation = np.asarray(source.sigma, dtype=float), None
    if counted is not None:
        expectation = expected(counted, noise, fitted.at, fitted.min_lag)
        scores = with_loss(scores, expectation, fitted.at, sigma)
    return noise, scores, speckle_errors(design, scores, sigma), expectation


def _of_whitened(whitened: Whitened, design: Design) -> tuple[SpeckleNoise, Scores, SpeckleErrors, None]:
    errors = speckle_errors(design, whitened.scores, np.ones(len(whitened.chi2_mean)))
    errors = dataclasses.replace(errors, chi2_mean=whitened.chi2_mean, chi2_sd=whitened.chi2_sd)
    return whitened.noise, whitened.scores, errors, None


def _absorbed(design: Design) -> Absorbed | None:
    """Contrast and offset of every angle where each has its own; of a single angle everything that was fitted."""
    at, n_phi = design.at, len(design.at.chi2)
    owners = np.count_nonzero(np.any(design.scaling.basis != 0, axis=1), axis=0)
    if design.scaling.n_free != 2 * n_phi or not np.all(owners == 1):
        return None
    columns = np.concatenate([[0, 1], design.free + 2]) if n_phi == 1 else np.array([0, 1])
    part = at.sums.factors[:, :, columns]
    gram = np.einsum("kmi,kmj->kij", part, part)
    scale = np.sqrt(np.einsum("kii->ki", gram))
    scale = np.where(scale > 0, scale, 1.0)
    units = scale[:, :, None] * scale[:, None, :]
    return Absorbed(columns, np.linalg.pinv(gram / units, rcond=1e-10, hermitian=True) / units)


def _uncertainty(errors: Errors) -> Uncertainty:
    contrast, offset = np.sqrt(errors.scaling).T
    return Uncertainty(errors.method, errors.root, errors.null, contrast, offset, errors.dof)


def _diagnostics(fitted, design, noise, speckle, left_out, residual, frames) -> xr.Dataset:
    """By angle: noise, chi2 against what is expected, influence; by lag and age: mean residual over contrast."""
    source, at = fitted.source, fitted.at
    counts = np.maximum(at.counts, 1)
    phi = np.asarray(source.phi, dtype=float)
    names = [fitted.parameters[i].name for i in design.free]
    columns: dict[str, tuple] = {}
    if noise is not None and speckle is not None:
        with np.errstate(divide="ignore"):
            columns["counts"] = ("phi", 1.0 / noise.nu, {"long_name": "counts per pixel and frame"})
        columns["pixels"] = ("phi", noise.pixels, {"long_name": "independent pixels"})
        columns["chi2_expected"] = ("phi", speckle.chi2_mean / counts)
        columns["chi2_sd"] = ("phi", speckle.chi2_sd / counts)
        columns["share"] = (("phi", "free_parameter"), speckle.shares, {"long_name": "part of the variance"})
    if left_out is not None:
        # about their mean: a fit that is not finished moves without any angle
        shifts = left_out.shifts - left_out.shifts.mean(0)
        columns["influence"] = (("phi", "free_parameter"), shifts, {"long_name": "shift without this angle"})
    scaled = residual / np.where(at.scaling[:, 0] != 0, at.scaling[:, 0], np.nan)[:, None, None]
    table = binned(scaled, frames, fitted.min_lag)
    text = {"long_name": "mean of (data - model) / contrast"}
    columns |= {
        "by_lag": ("lag", table["by_lag"], text),
        "by_age": ("age", table["by_age"], text),
        "by_lag_sd": ("lag", table["by_lag_sd"], {"long_name": "its scatter between angles"}),
        "by_age_sd": ("age", table["by_age_sd"], {"long_name": "its scatter between angles"}),
        "by_lag_and_age": (("age", "lag"), table["by_lag_and_age"], text),
    }
    seconds = {"units": "s"}
    coords = {
        "phi": ("phi", phi, {"units": "degree"}),
        "free_parameter": names,
        "lag": ("lag", table["lag"] * source.dt, seconds),
        "age": ("age", table["age"] * source.dt, seconds),
    }
    return xr.Dataset(columns, coords=coords)
