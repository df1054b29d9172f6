"""Sentences on the reliability of a fit: findings, and warnings where something does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr

from homodyne.models import MODELS
from homodyne.optimization.source import sector_geometry, sector_names, several_q
from homodyne.optimization.uncertainty.design import Design
from homodyne.optimization.uncertainty.fitted import Fitted
from homodyne.optimization.uncertainty.identifiable import sentences
from homodyne.optimization.uncertainty.jackknife import Jackknife, expected_variances
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.uncertainty.repetitions import disagreement, repetition_errors
from homodyne.optimization.uncertainty.robust import Expected
from homodyne.optimization.uncertainty.scores import Scores
from homodyne.optimization.uncertainty.speckle import SpeckleErrors

# Standard deviations in the logarithm by which jackknife errors may differ from those that speckle noise makes.
_DISAGREE = 4.0
# Excess of chi2 over what the speckle noise makes, in standard deviations and as a ratio, that is called a misfit.
_EXCESS_SD, _EXCESS = 4.0, 1.1
# Probability below which the residuals of a whitened fit are not taken for noise.
_REFUTED = 1e-4


class Departure(NamedTuple):
    """A parameter whose jackknife error is not what chance makes of that of speckle; ``above`` it, or below."""

    above: bool
    sentence: str


def findings(
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
    bound = [fitted.parameters[i].name for i in sorted(fitted.without_error())]
    if bound and not fitted.border:
        yield f"The errors of the others hold for {', '.join(bound)} at the bound, where the fit wants to leave it"
    if curved:
        names = [fitted.parameters[i].name for i in curved]
        yield (
            f"{', '.join(names)}: the model is far from linear within two errors, and intervals are not symmetric: "
            f"profile('{names[0]}') gives them"
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


def grouped(scores: Scores | None) -> Iterator[str]:
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


def warnings(
    fitted: Fitted,
    design: Design,
    speckle: SpeckleErrors | None,
    expectation: Expected | None,
    disagreeing: tuple[Departure, ...],
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
    yield from (departure.sentence for departure in disagreeing)
    if fitted.repeated:
        names = [fitted.parameters[i].name for i in design.free]
        yield from disagreement(names, design, repetition_errors(design, fitted.repeated), speckle.errors)


def doubt(
    fitted: Fitted, speckle: SpeckleErrors | None, expectation: Expected | None, disagreeing: tuple[Departure, ...]
) -> bool:
    """Whether model or noise of a whitened fit are refuted, so that what its errors rest on is.

    Angles that agree better than chance has it refute nothing: errors that are too large do no harm.
    """
    if fitted.whitened is None or speckle is None:
        return False
    return (
        fitted.whitened.p_value < _REFUTED or _misfit(fitted, speckle, expectation) or any(d.above for d in disagreeing)
    )


def _doubted(fitted: Fitted, method: str) -> str:
    assert fitted.whitened is not None
    text = (
        "The whitened fit rests on a model or a noise that the data refute (residuals against shapes that no parameter has: "
        f"p = {fitted.whitened.p_value:.2g}; and the lines below)"
    )
    if method == "jackknife":
        return f"{text}: its errors are those of the jackknife. Compare with weighting=uniform before you believe it."
    return f"{text}: its errors may be too small. Compare with weighting=uniform before you believe it."


def of_angles(
    fitted: Fitted, design: Design, scores: Scores, left_out: Jackknife, speckle: SpeckleErrors
) -> Iterator[Departure]:
    """Parameters whose jackknife error is far from all that the noise of speckle makes it, in logarithms."""
    expected = expected_variances(design, scores, fitted.sigma)
    found = (left_out.errors.root[design.free] ** 2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn, here = 0.5 * np.log(expected), 0.5 * np.log(found)
    honest = np.sqrt((speckle.errors.root[design.free] ** 2).sum(1))
    for i, x, y, error in zip(design.free, here, drawn.T, honest, strict=True):
        if not (np.isfinite(x) and np.isfinite(y).all()) or abs(x - y.mean()) <= _DISAGREE * y.std():
            continue
        yield Departure(
            bool(x > y.mean()),
            f"{fitted.parameters[i].name}: leaving out angles one by one gives an error of {np.exp(x):.3g}, the noise of "
            f"speckle {error:.3g}, and would give {np.exp(y.mean()):.3g} that way: more than chance. "
            + ("Angles disagree with the model." if x > y.mean() else "Angles agree too well: are they independent?"),
        )
