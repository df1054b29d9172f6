"""A finished fit with uniform weights becomes a whitened one, where that is possible and of use; the record says which."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import numpy as np
import xarray as xr

from homodyne.optimization.nlsq.checkpoint import PassFunction
from homodyne.optimization.nlsq.report import Outcome, build_result
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.normal import Linearization, PassSums
from homodyne.optimization.uncertainty.fitted import Whitened
from homodyne.optimization.uncertainty.noise import estimate_noise
from homodyne.optimization.uncertainty.scores import Scores
from homodyne.optimization.uncertainty.traces import Nodes
from homodyne.optimization.whitened.limits import Plan, excluded, plan
from homodyne.optimization.whitened.misfit import p_value
from homodyne.optimization.whitened.refine import RIDGE, Refined, refine
from homodyne.result import FitResult, Status, Weighting

log = logging.getLogger("homodyne")

INTERRUPTED = "it was interrupted"
# Geometric mean of whitened over uniform errors: above the first uniform weights are recommended, above the second ``auto``
# takes them. Where noise is independent, that of no light, 0.90 to 1.10 is predicted and estimates scatter by up to a
# quarter more (experiments/whitened).
_WORSE, _WORTH = 1.0, 0.9


def weighted(outcome: Outcome, assessed: Callable[[Outcome], FitResult], run_pass: PassFunction) -> FitResult:
    """The result with the weights that the request asks for.

    Args:
        outcome: of the fit with uniform weights. assessed: gives its result. run_pass: sums with uniform weights.
    """
    request, sizes = outcome.request, plan(outcome.request)
    reason = _excluded(outcome, sizes)
    if reason is not None:
        return _uniform(request, assessed(outcome), reason)
    pilot = assessed(dataclasses.replace(outcome, request=dataclasses.replace(request, covariance="speckle")))
    record: Weighting | None = None
    if "speckle" not in pilot.uncertainties:
        reason = "the data do not tell the noise of speckle that the weights are made of"
    else:
        try:
            result = _whitened(outcome, pilot, sizes, run_pass)
        except KeyboardInterrupt:
            reason = INTERRUPTED
        else:
            record = result.weighting
            if request.weighting == "whitened" or _of_use(record):
                return result
            reason = record.reason
    return _uniform(request, pilot if request.covariance == "speckle" else assessed(outcome), reason, record)


def _uniform(request: Request, result: FitResult, reason: str, found: Weighting | None = None) -> FitResult:
    """The fit with uniform weights, and why it is not whitened: a warning where that was asked for.

    Args:
        found: what whitening would have given, where it was tried.
    """
    asked, findings = request.weighting, result.findings
    record = Weighting(asked=asked, reason=reason, uniform=result.theta, uniform_stderr=result.stderr)
    if found is not None:
        record, findings = dataclasses.replace(found, name="uniform"), (*findings, reason)
    if asked == "auto" and reason != INTERRUPTED:
        log.info("Weighting: uniform, %s", reason)
        return dataclasses.replace(result, weighting=record, findings=findings)
    text = f"The fit is not whitened, weights are uniform: {reason}."
    return dataclasses.replace(result, weighting=record, warnings=(*result.warnings, text))


def _excluded(outcome: Outcome, sizes: Plan) -> str | None:
    """Why a fit cannot be whitened, as far as is known before its errors are."""
    status = outcome.state.status
    if status in (Status.INTERRUPTED, Status.STALLED, Status.MAX_PASSES):
        return f"the fit with uniform weights ended with status {status.value}"
    return excluded(outcome.request, sizes)


def _whitened(outcome: Outcome, pilot: FitResult, sizes: Plan, run_pass: PassFunction) -> FitResult:
    request, state = outcome.request, outcome.state
    noise = estimate_noise(request.source, request.model, state.theta, state.at.scaling, request.counts, request.pixels)
    assert noise is not None
    log.info(
        "Whitened fit: the noise of %d frames in %d block%s", sizes.n_t, sizes.blocks, "s" if sizes.blocks > 1 else ""
    )
    refined = refine(request, outcome.scaling, state, noise, longest=sizes.longest)
    state = refined.state
    at = uniform_at(run_pass(state.theta, state.at.scaling), np.asarray(request.source.sigma, dtype=float))
    inside = np.array([p.lower < x < p.upper for p, x in zip(request.parameters, state.theta, strict=True)])
    whitened = Whitened(
        state.at, refined.loop.light.noise, _scores(request, refined), *_expected_chi2(pilot, at),
        p_value(state.at, outcome.scaling, request.free & inside, refined.noise), refined.repeated,
    )  # fmt: skip
    whole = dataclasses.replace(outcome, state=dataclasses.replace(state, at=at), whitened=whitened)
    result = build_result(whole)
    record = dataclasses.replace(_record(request, pilot, result, refined, sizes), p_value=whitened.p_value)
    return dataclasses.replace(
        result, weighting=record, findings=(_sentence(record), *result.findings), curve_table=_beside(result, pilot)
    )


def _beside(result: FitResult, pilot: FitResult) -> xr.Dataset:
    """The table of curves, with the errors that uniform weights would have given them."""
    uniform = {
        f"{name}_uniform": variable for name, variable in pilot.curve_table.items() if str(name).endswith("_stderr")
    }
    return result.curve_table.assign(uniform)


def _scores(request: Request, refined: Refined) -> Scores:
    n_t, unknown = len(request.source.t), np.full(len(refined.noise), np.nan)
    return Scores([n.root for n in refined.noise], unknown, unknown, Nodes(np.arange(n_t), np.ones(n_t)))


def uniform_at(sums: PassSums, sigma: np.ndarray) -> Linearization:
    """The sums with uniform weights at the contrast and offset of ``sums.reference``, none of them fitted again."""
    f = sums.factors / sigma[:, None, None]
    n_phi, m, q = f.shape
    residual = f[:, :, -1]
    theta = (sums.reference[:, 0, None, None] * f[:, :, 2:-1]).reshape(n_phi * m, q - 3)
    chi2 = (residual**2).sum(1)
    nothing = np.zeros((n_phi * m, 0))
    return Linearization(
        0.5 * float(chi2.sum()), theta, residual.reshape(-1), sums.reference, chi2, nothing, theta, sums
    )


def _expected_chi2(pilot: FitResult, at: Linearization) -> tuple[np.ndarray, np.ndarray]:
    """Of every sector with uniform weights, and its standard deviation: what the pilot found."""
    counts = np.maximum(at.counts, 1)
    return pilot.diagnostics["chi2_expected"].values * counts, pilot.diagnostics["chi2_sd"].values * counts


def _record(request: Request, pilot: FitResult, result: FitResult, refined: Refined, sizes: Plan) -> Weighting:
    uniform, whitened = pilot.stderr_by("speckle"), result.stderr_by("speckle")
    logs = [
        np.log(whitened[n] / uniform[n])
        for n in uniform
        if np.isfinite([uniform[n], whitened[n]]).all() and min(uniform[n], whitened[n]) > 0
    ]
    ratio = float(np.exp(np.mean(logs))) if logs else float("nan")
    recommended = "uniform" if ratio > _WORSE else "whitened"
    return Weighting(
        "whitened", request.weighting, recommended,
        f"errors predicted from the noise of speckle are {ratio:.2f} times those of uniform weights (geometric mean)",
        dict(pilot.theta), uniform, dict(result.theta), whitened, ratio,
        made_of=refined.loop.record(), ridge=RIDGE, block_frames=sizes.longest, passes=refined.passes, seconds=refined.seconds,
    )  # fmt: skip


def _of_use(record: Weighting) -> bool:
    """Errors that are smaller by enough, or of more parameters."""
    known = [
        sum(np.isfinite(e) and e > 0 for e in errors.values())
        for errors in (record.uniform_stderr, record.whitened_stderr)
    ]
    if known[1] > known[0]:
        return not record.ratio > _WORSE
    return record.ratio <= _WORTH


def _sentence(record: Weighting) -> str:
    text = f"Whitened weights: {record.reason}"
    if record.recommended == "uniform":
        return f"{text}; use weighting=uniform"
    return text
