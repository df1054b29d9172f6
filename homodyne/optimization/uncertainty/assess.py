"""Everything a finished fit says about its own reliability: errors by every method, what is determined, what the residuals show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr

from homodyne.models import MODELS, Model
from homodyne.optimization.normal import Linearization
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.source import BlockSource, sector_geometry, sector_names, several_q
from homodyne.optimization.uncertainty.asymmetry import bent
from homodyne.optimization.uncertainty.curves import rate_table
from homodyne.optimization.uncertainty.design import Design, make_design
from homodyne.optimization.uncertainty.errors import Errors
from homodyne.optimization.uncertainty.identifiable import outside_bounds, sentences
from homodyne.optimization.uncertainty.iid import iid_errors
from homodyne.optimization.uncertainty.jackknife import LEAST_ANGLES, Jackknife, expected_variances, jackknife
from homodyne.optimization.uncertainty.noise import SpeckleNoise, estimate_noise
from homodyne.optimization.uncertainty.repetitions import disagreement, repetition_errors
from homodyne.optimization.uncertainty.residual_structure import binned, same_light
from homodyne.optimization.uncertainty.robust import Counted, Expected, Robust, expected, with_loss
from homodyne.optimization.uncertainty.scores import Absorbed, Scores, draw_scores
from homodyne.optimization.uncertainty.speckle import SpeckleErrors, speckle_errors
from homodyne.parameters import Parameter
from homodyne.result import Uncertainty

# Standard deviations in the logarithm by which jackknife errors may differ from those that speckle noise makes.
_DISAGREE = 4.0
# Excess of chi2 over what the speckle noise makes, in standard deviations and as a ratio, that is called a misfit.
_EXCESS_SD, _EXCESS = 4.0, 1.1
# Probability below which the residuals of a whitened fit are not taken for noise.
_REFUTED = 1e-4


@dataclasses.dataclass(frozen=True)
class Whitened:
    """The final sums of a whitened fit, weights included, and what the noise of the light makes of them.

    ``chi2_mean``, ``chi2_sd`` (n_phi,): of uniform weights, as ``SpeckleErrors`` has them. ``p_value``: of residuals that do as
    badly, or worse, in tests with shapes that no parameter has, see ``whitened.misfit``. ``repeated``: as in ``Fitted``.
    """

    at: Linearization
    noise: SpeckleNoise
    scores: Scores
    chi2_mean: np.ndarray
    chi2_sd: np.ndarray
    p_value: float
    repeated: tuple[Linearization, ...] = ()


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A solution to be assessed; ``moved`` (p,) tells which parameters were free and not at a bound.

    ``chi2_reduced`` scales iid errors; ``robust`` is None for least squares.
    ``repeated`` are linearizations with the data of every repetition alone, where c2 is the mean of some.
    ``whitened``: the estimate is that of these sums, and ``at`` holds those of uniform weights there.
    """

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
    free: np.ndarray
    converged: bool = True
    border: bool = False
    robust: Robust | None = None
    repeated: tuple[Linearization, ...] = ()
    whitened: Whitened | None = None

    @property
    def linear(self) -> Linearization:
        """The sums that the estimate is made of."""
        return self.at if self.whitened is None else self.whitened.at

    @property
    def sigma(self) -> np.ndarray:
        """The noise by which those sums are divided, (n_phi,)."""
        sigma = np.asarray(self.source.sigma, dtype=float)
        return sigma if self.whitened is None else np.ones(len(sigma))


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
    disagreeing = (
        tuple(_disagreement(fitted, design, scores, left_out, speckle)) if left_out and speckle and scores else ()
    )
    doubt = _doubt(fitted, speckle, expectation, disagreeing)
    if doubt and method == "speckle" and left_out is not None:
        method = "jackknife"
    uncertainties = {name: _uncertainty(errors) for name, errors in found.items()}
    open_ones = tuple(sorted({*design.undetermined, *outside_bounds(uncertainties[method], fitted.parameters)}))
    curves = rate_table(fitted.model, fitted.theta, fitted.source, uncertainties, method, _without_error(fitted))
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
        (*_grouped(scores), *_findings(fitted, stderr, open_ones, curved, curves, noise, speckle, expectation)),
        tuple(_warnings(fitted, design, speckle, expectation, disagreeing, alike, method, doubt)),
    )


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


def _without_error(fitted: Fitted) -> frozenset[int]:
    """Parameters at a bound, and all of them at an infeasible border: nothing that depends on them has an error."""
    if fitted.border:
        return frozenset(range(len(fitted.parameters)))
    at_bound = (x in (p.lower, p.upper) for p, x in zip(fitted.parameters, fitted.theta, strict=True))
    fixed = set(np.flatnonzero(~fitted.free).tolist())
    return frozenset(i for i, there in enumerate(at_bound) if there and i not in fixed)


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


def _findings(
    fitted: Fitted,
    stderr: np.ndarray,
    open_ones: tuple[int, ...],
    curved: tuple[int, ...],
    curves: xr.Dataset,
    noise: SpeckleNoise | None,
    speckle: SpeckleErrors | None,
    expectation: Expected | None,
) -> Iterator[str]:
    if noise is not None:
        yield noise.sentence()
    if fitted.robust is not None:
        yield fitted.robust.sentence(fitted.at, expectation)
    yield from _of_several_q(fitted)
    yield from sentences(fitted.model, fitted.parameters, stderr, open_ones, curves)
    bound = [fitted.parameters[i].name for i in sorted(_without_error(fitted))]
    if bound and not fitted.border:
        yield f"The errors of the others hold for {', '.join(bound)} at the bound, where the fit wants to leave it"
    if curved:
        names = [fitted.parameters[i].name for i in curved]
        of_uniform = "" if fitted.whitened is None else " of a fit with uniform weights"
        yield (
            f"{', '.join(names)}: the model is far from linear within two errors, and intervals are not symmetric: "
            f"profile('{names[0]}'){of_uniform} gives them"
        )
    if speckle is not None:
        yield _goodness(fitted, speckle, expectation)


def _of_several_q(fitted: Fitted) -> Iterator[str]:
    """How the diffusion of a fit of several q depends on q."""
    if not several_q(fitted.source):
        return
    if fitted.model.needs_several_q:
        q_ref = sector_geometry(fitted.model, fitted.source).q_ref
        yield f"D(q) = D(q_ref) (q / q_ref)**q_exponent: D0, D_offset, J(t) and its integral hold at q_ref = {q_ref:g} 1/angstrom"
    elif f"{fitted.model.name}_joint_q" in MODELS:
        yield f"D is the same at every q in this model; {fitted.model.name}_joint_q tests that"


def _grouped(scores: Scores | None) -> Iterator[str]:
    if scores is not None and not scores.nodes.exact:
        yield (
            f"Speckle errors are computed on {len(scores.nodes.frames)} groups of up to {scores.nodes.sizes.max():.0f} "
            "frames, too small where dynamics is faster than its group; masked frames are known from a sample of rows"
        )


def _chi2(fitted: Fitted, speckle: SpeckleErrors, expectation: Expected | None) -> tuple[float, float, float]:
    """Found, expected, and its standard deviation; of a robust fit over the pairs that it does not set aside."""
    mean, sd = float(speckle.chi2_mean.sum()), float(np.sqrt((speckle.chi2_sd**2).sum()))
    if expectation is None:
        return float(fitted.at.chi2.sum()), mean, sd
    core = mean * float(expectation.core.sum() / expectation.cost.sum())
    return float(fitted.at.sums.term("core").sum()), core, sd * core / mean


def _goodness(fitted: Fitted, speckle: SpeckleErrors, expectation: Expected | None) -> str:
    """A statement on chi2 whose reference is the scatter that speckle itself makes."""
    n = max(1.0, fitted.at.counts.sum())
    found, mean, sd = (x / n for x in _chi2(fitted, speckle, expectation))
    what = "chi2/N" if expectation is None else "chi2/N without the pairs set aside"
    if not fitted.converged:
        verdict = "but the fit is not finished"
    elif _misfit(fitted, speckle, expectation):
        verdict = "the model misses something: look at the residuals"
    elif found < mean - _EXCESS_SD * sd and _EXCESS * found < mean:
        verdict = "there is less noise than that: are counts and pixels right, or was the map smoothed?"
    else:
        verdict = "the residuals are what the noise of speckle makes"
    return f"{what} = {found:.3f}, speckle noise alone gives {mean:.3f} +- {sd:.3f}: {verdict}"


def _misfit(fitted: Fitted, speckle: SpeckleErrors, expectation: Expected | None) -> bool:
    found, mean, sd = _chi2(fitted, speckle, expectation)
    return bool(found > mean + _EXCESS_SD * sd and found > _EXCESS * mean)


def _warnings(
    fitted: Fitted,
    design: Design,
    speckle: SpeckleErrors | None,
    expectation: Expected | None,
    disagreeing: tuple[str, ...],
    alike: list[tuple[int, int, float]],
    method: str,
    doubt: bool,
) -> Iterator[str]:
    if doubt:
        yield _doubted(fitted, method)
    elif method != fitted.covariance and fitted.covariance == "repetitions":
        yield "Errors are iid, too small where pairs share frames: the fit was interrupted before the repetitions were read."
    elif method != fitted.covariance:
        yield (
            "Errors are iid, too small where pairs share frames: the data do not tell the noise of speckle (no angle "
            "with positive contrast and offset, or no neighboring frames). Give counts and pixels (optimization.counts, "
            "optimization.pixels) if you know them."
        )
    named = sector_names(fitted.source)
    if len(alike) > len(named):
        # two sectors that see the same speckle are one thing, all of them another
        yield (
            f"The residuals of {len(alike)} pairs of angles look alike (correlation up to {max(c for *_, c in alike):.2f}): the model "
            "misses something that all of them show, or this is not the best optimum. Look at the residual maps."
        )
        alike = []
    for a, b, correlation in alike:
        yield (
            f"Angles {named[a]} and {named[b]} degree carry the same noise (correlation {correlation:.2f}): they are not independent "
            "evidence, and the errors count them twice. Leave one out (dataset.phi) or merge them (dataset.angle_merge)."
        )
    if speckle is None:
        return
    if _misfit(fitted, speckle, expectation):
        yield (
            "chi2 is larger than the noise of speckle explains: the model misses something, or there is noise of another "
            "kind. The errors do not contain it."
        )
    yield from disagreeing
    if fitted.repeated:
        names = [fitted.parameters[i].name for i in design.free]
        yield from disagreement(names, design, repetition_errors(design, fitted.repeated), speckle.errors)


def _doubt(
    fitted: Fitted, speckle: SpeckleErrors | None, expectation: Expected | None, disagreeing: tuple[str, ...]
) -> bool:
    """Whether model or noise of a whitened fit are refuted, so that what its errors rest on is."""
    if fitted.whitened is None or speckle is None:
        return False
    return fitted.whitened.p_value < _REFUTED or _misfit(fitted, speckle, expectation) or bool(disagreeing)


def _doubted(fitted: Fitted, method: str) -> str:
    assert fitted.whitened is not None
    text = (
        "The whitened fit rests on a model or a noise that the data refute (residuals against shapes that no parameter has: "
        f"p = {fitted.whitened.p_value:.2g}; and the lines below)"
    )
    if method == "jackknife":
        return f"{text}: its errors are those of the jackknife. Compare with weighting=uniform before you believe it."
    return f"{text}: its errors may be too small. Compare with weighting=uniform before you believe it."


def _disagreement(
    fitted: Fitted, design: Design, scores: Scores, left_out: Jackknife, speckle: SpeckleErrors
) -> Iterator[str]:
    """Parameters whose jackknife error is far from all that the noise of speckle makes it, in logarithms."""
    expected = expected_variances(design, scores, fitted.sigma)
    found = (left_out.errors.root[design.free] ** 2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn, here = 0.5 * np.log(expected), 0.5 * np.log(found)
    honest = np.sqrt((speckle.errors.root[design.free] ** 2).sum(1))
    for i, x, y, error in zip(design.free, here, drawn.T, honest, strict=True):
        if not (np.isfinite(x) and np.isfinite(y).all()) or abs(x - y.mean()) <= _DISAGREE * y.std():
            continue
        yield (
            f"{fitted.parameters[i].name}: leaving out angles one by one gives an error of {np.exp(x):.3g}, the noise of "
            f"speckle {error:.3g}, and would give {np.exp(y.mean()):.3g} that way: more than chance. "
            + ("Angles disagree with the model." if x > y.mean() else "Angles agree too well: are they independent?")
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
