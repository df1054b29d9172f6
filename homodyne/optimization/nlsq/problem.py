"""The minimization of a request: what a pass returns, and within which bounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from homodyne.optimization.nlsq.bend import Frames
from homodyne.optimization.nlsq.checkpoint import PassFunction
from homodyne.optimization.nlsq.request import Request, check_counts
from homodyne.optimization.normal import Linearization, linearize, linearize_robust, nearest_pairs
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.trust_region import Problem


def evaluator(
    request: Request, run_pass: PassFunction, mapping: Scaling, reference: np.ndarray
) -> Callable[..., Linearization]:
    """theta -> reduced problem; residuals are formed against ``reference``, (n_phi, 2) contrast and offset.

    With a robust loss (theta, pairs) -> reduced problem at this contrast and offset, those nearest to ``reference`` where
    none are given.
    """
    sigma = np.asarray(request.source.sigma, dtype=float)
    if request.options.robust is None:
        return lambda theta: linearize(run_pass(theta, reference), mapping, sigma)
    first = nearest_pairs(mapping, reference)
    return lambda theta, pairs=first: linearize_robust(run_pass(theta, pairs), mapping, sigma)


def least_squares_evaluator(
    request: Request, run_pass: PassFunction, mapping: Scaling, reference: np.ndarray
) -> Callable[[np.ndarray], Linearization]:
    """The same by least squares whatever the loss of the request; passes without a loss."""
    sigma = np.asarray(request.source.sigma, dtype=float)
    return lambda theta: linearize(run_pass(theta, reference), mapping, sigma)


def checked(request: Request, mapping: Scaling, evaluate: Callable[..., Linearization]) -> Callable[..., Linearization]:
    """The same evaluation; raises InputError when the valid points of a pass cannot carry the fit."""

    def evaluate_checked(theta: np.ndarray, *pairs: np.ndarray) -> Linearization:
        at = evaluate(theta, *pairs)
        check_counts(request, mapping.n_free, at.counts)
        return at

    return evaluate_checked


def problem(request: Request, evaluate: Callable[..., Linearization], frames: Frames | None = None) -> Problem:
    """The bounded minimization of the request with a given evaluation; steps bend as ``frames`` tell."""
    parameters = request.parameters
    return Problem(
        evaluate=evaluate,
        feasible=request.is_feasible,
        lower=np.array([p.lower for p in parameters]),
        upper=np.array([p.upper for p in parameters]),
        free=request.free,
        bend=None if frames is None else frames.bend,
    )
