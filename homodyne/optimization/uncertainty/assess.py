"""Everything a finished fit says about its own reliability: errors by every method, what is determined, what the residuals show."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import xarray as xr
from scipy.special import chdtri

from homodyne.models import Model
from homodyne.optimization.normal import Linearization
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.source import BlockSource
from homodyne.optimization.uncertainty.curves import rate_table
from homodyne.optimization.uncertainty.design import Design, make_design
from homodyne.optimization.uncertainty.errors import Errors
from homodyne.optimization.uncertainty.identifiable import outside_bounds, sentences
from homodyne.optimization.uncertainty.iid import iid_errors
from homodyne.optimization.uncertainty.jackknife import LEAST_ANGLES, jackknife
from homodyne.optimization.uncertainty.noise import SpeckleNoise, estimate_noise
from homodyne.optimization.uncertainty.residual_structure import binned, same_light
from homodyne.optimization.uncertainty.scores import draw_scores
from homodyne.optimization.uncertainty.speckle import SpeckleErrors, speckle_errors
from homodyne.parameters import Parameter
from homodyne.result import Uncertainty

# Two-sided probability below which jackknife and speckle errors disagree.
_DISAGREE = 1e-3
# Excess of chi2 over what the speckle noise makes, in standard deviations and as a ratio, that is called a misfit.
_EXCESS_SD, _EXCESS = 4.0, 1.1


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A solution to be assessed; ``moved`` (p,) tells which parameters were free and not at a bound."""

    source: BlockSource
    model: Model
    parameters: tuple[Parameter, ...]
    theta: np.ndarray
    at: Linearization
    scaling: Scaling
    moved: np.ndarray
    chi2_reduced: float
    min_lag: int
    covariance: str
    counts: float | None
    pixels: float | None


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


def assess(fitted: Fitted, residual: np.ndarray, frames: np.ndarray) -> Assessment:
    """Errors, what they mean, and what the residuals say.

    Args:
        residual: (n_phi, m, m) on some frames (m,), NaN where there is no valid point.
    """
    design = make_design(fitted.at, fitted.scaling, fitted.moved)
    phi = np.asarray(fitted.source.phi, dtype=float)
    found: dict[str, Errors] = {}
    noise, speckle = _speckle(fitted, design)
    if speckle is not None:
        found["speckle"] = speckle.errors
    left_out = jackknife(design) if len(phi) >= LEAST_ANGLES else None
    if left_out is not None:
        found["jackknife"] = left_out.errors
    found["iid"] = iid_errors(design, fitted.chi2_reduced)
    method = fitted.covariance if fitted.covariance in found else "iid"
    uncertainties = {name: _uncertainty(errors) for name, errors in found.items()}
    open_ones = tuple(sorted({*design.undetermined, *outside_bounds(uncertainties[method], fitted.parameters)}))
    curves = rate_table(fitted.model, fitted.theta, fitted.source, uncertainties, method)
    alike = same_light(residual, frames, phi)
    diagnostics = _diagnostics(fitted, design, noise, speckle, left_out, residual, frames)
    return Assessment(
        uncertainties,
        method,
        tuple(fitted.parameters[i].name for i in open_ones),
        design.theta.condition,
        curves,
        diagnostics,
        tuple(_findings(fitted, uncertainties[method], open_ones, curves, noise, speckle)),
        tuple(_warnings(fitted, design, found, speckle, alike, method)),
    )


def _speckle(fitted: Fitted, design: Design) -> tuple[SpeckleNoise | None, SpeckleErrors | None]:
    pairs = fitted.at.scaling
    if fitted.covariance != "speckle" or not np.any((pairs[:, 0] > 0) & (pairs[:, 1] > 0)):
        return None, None
    source, model, theta = fitted.source, fitted.model, fitted.theta
    noise = estimate_noise(source, model, theta, pairs, fitted.counts, fitted.pixels)
    scores = draw_scores(model, theta, source, noise, fitted.min_lag)
    return noise, speckle_errors(design, scores, np.asarray(source.sigma, dtype=float))


def _uncertainty(errors: Errors) -> Uncertainty:
    contrast, offset = np.sqrt(errors.scaling).T
    return Uncertainty(errors.method, errors.root, errors.null, contrast, offset, errors.dof)


def _findings(
    fitted: Fitted,
    chosen: Uncertainty,
    open_ones: tuple[int, ...],
    curves: xr.Dataset,
    noise: SpeckleNoise | None,
    speckle: SpeckleErrors | None,
) -> Iterator[str]:
    if noise is not None:
        yield noise.sentence()
    stderr = np.sqrt((chosen.root**2).sum(1))
    stderr[list(open_ones)] = np.inf
    yield from sentences(fitted.model, fitted.parameters, stderr, open_ones, curves)
    if speckle is not None:
        yield _goodness(fitted, speckle)


def _goodness(fitted: Fitted, speckle: SpeckleErrors) -> str:
    """A statement on chi2 whose reference is the scatter that speckle itself makes."""
    n = max(1.0, fitted.at.counts.sum())
    found, mean, sd = fitted.at.chi2.sum() / n, speckle.chi2_mean.sum() / n, np.sqrt((speckle.chi2_sd**2).sum()) / n
    verdict = (
        "the model misses something: look at the residuals"
        if _misfit(fitted, speckle)
        else "the residuals are what the noise of speckle makes"
    )
    return f"chi2/N = {found:.3f}, speckle noise alone gives {mean:.3f} +- {sd:.3f}: {verdict}"


def _misfit(fitted: Fitted, speckle: SpeckleErrors) -> bool:
    found, mean, sd = fitted.at.chi2.sum(), speckle.chi2_mean.sum(), np.sqrt((speckle.chi2_sd**2).sum())
    return bool(found > mean + _EXCESS_SD * sd and found > _EXCESS * mean)


def _warnings(
    fitted: Fitted,
    design: Design,
    found: dict[str, Errors],
    speckle: SpeckleErrors | None,
    alike: list[tuple[float, float, float]],
    method: str,
) -> Iterator[str]:
    if method != fitted.covariance:
        yield (
            f"Errors are {method}, too small where pairs share frames: no angle has a positive contrast and offset, "
            "so there is no speckle whose noise could be known."
        )
    for a, b, correlation in alike:
        yield (
            f"Angles {a:g} and {b:g} degree carry the same noise (correlation {correlation:.2f}): they are not independent "
            "evidence, and the errors count them twice. Leave one out (dataset.phi) or merge them (dataset.angle_merge)."
        )
    if speckle is None:
        return
    if _misfit(fitted, speckle):
        yield (
            "chi2 is larger than the noise of speckle explains: the model misses something, or there is noise of another "
            "kind. The errors do not contain it."
        )
    if "jackknife" in found:
        yield from _disagreement(fitted, design, found, speckle)


def _disagreement(fitted: Fitted, design: Design, found: dict[str, Errors], speckle: SpeckleErrors) -> Iterator[str]:
    """Parameters whose jackknife and speckle variances differ by more than the jackknife's own scatter.

    With an effective number of angles K = 1 / sum shares**2 behind a parameter its jackknife variance scatters as
    chi2 with K - 1 degrees of freedom, or one at least.
    """
    both = [np.sqrt((found[m].root[design.free] ** 2).sum(1)) for m in ("jackknife", "speckle")]
    for i, (left_out, expected, share) in enumerate(zip(*both, speckle.shares.T, strict=True)):
        if not (np.isfinite(left_out) and expected > 0):
            continue
        dof = max(1.0, 1.0 / max((share**2).sum(), 1e-12) - 1.0)
        ratio = left_out / expected
        # below: only when far too large are speckle errors of concern, above: when too small
        if ratio**2 * dof > chdtri(dof, _DISAGREE / 2) or ratio**2 * dof < chdtri(dof, 1 - _DISAGREE / 2):
            name = fitted.parameters[design.free[i]].name
            yield (
                f"{name}: leaving out angles one by one gives an error of {left_out:.3g}, speckle noise {expected:.3g}: "
                "more than chance. "
                + (
                    "Angles disagree with the model."
                    if ratio > 1
                    else "Are all angles independent, and is the count right?"
                )
            )


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
        columns["influence"] = (("phi", "free_parameter"), left_out.shifts, {"long_name": "shift without this angle"})
    scaled = residual / np.where(at.scaling[:, 0] != 0, at.scaling[:, 0], np.nan)[:, None, None]
    table = binned(scaled, frames, fitted.min_lag)
    text = {"long_name": "mean of (data - model) / contrast"}
    columns |= {
        "by_lag": ("lag", table["by_lag"], text),
        "by_age": ("age", table["by_age"], text),
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
