"""Bounded Levenberg-Marquardt on the reduced problem: every trial point is one pass over the data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import lsq_linear

from homodyne.optimization.normal import Linearization
from homodyne.result import Status


@dataclasses.dataclass(frozen=True)
class Problem:
    """What the loop needs to know.

    Attributes:
        evaluate: theta (p,) -> Linearization; one pass. With a robust loss, where contrast and offset are part of the
            point, also (theta, contrast and offset (n_phi, 2)) -> Linearization.
        feasible: theta -> bool; costs no pass.
        lower, upper: bounds (p,); free: which parameters move (p,) bool.
        bend: (theta, straight step, contrast and offset) -> the problem whose solution a is the step's second order,
            step = v + a / 2, or None where there is none; costs no pass. Used once straight steps have failed.
    """

    evaluate: Callable[..., Linearization]
    feasible: Callable[[np.ndarray], bool]
    lower: np.ndarray
    upper: np.ndarray
    free: np.ndarray
    bend: Callable[[np.ndarray, np.ndarray, np.ndarray], Linearization | None] | None = None


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """When to stop: step in units of the iid standard error, predicted relative decrease of the cost, passes.

    ``rounding``: predicted relative decrease below which the difference of two costs is mostly rounding.
    """

    xtol: float = 1e-4
    rtol_cost: float = 1e-18
    max_passes: int = 100
    rounding: float = 1e-12


@dataclasses.dataclass(frozen=True)
class Info:
    """One pass, for the record; see ``result.HISTORY_VARIABLES``."""

    cost: float
    gradient_norm: float
    step_norm: float
    radius: float
    accepted: bool
    points: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class State:
    """Where the loop stands: the best point so far, its linearization, the damping and the parameters' scales (p,).

    ``bent``: a straight step has failed; steps are of second order from now on.
    """

    theta: np.ndarray
    at: Linearization
    damping: float
    scale: np.ndarray
    status: Status | None = None
    border: bool = False
    bent: bool = False


_MAX_DAMPING = 1e12
# Passes of second order, and the decrease of chi2 over them (1 is a change by one iid standard error), that show a valley
# without an end; where it has one, second order takes about ten.
_PATIENCE, _NOTHING = 30, 0.25
_STRAIGHT = 0.25  # ratio of actual to predicted decrease below which straight steps are given up
_LONG = 0.75  # length of the second order against the first, beyond which neither is to be trusted
# Damping of "undamped" steps. It keeps them out of directions the data leave open, whose relative singular value is
# rounding (1e-15 by QR, 1e-8 by moments): the residual's share in such a direction is arbitrary, up to all of it, and the
# step along it as long as the bounds allow. Directions with an error 1e4 times that of the best one lose 1 %.
_NULL = 1e-10


def minimize(
    problem: Problem,
    theta: np.ndarray,
    tolerances: Tolerances,
    report: Callable[[Info], None],
    damping: float = 1e-3,
) -> State:
    """Minimize from ``theta``; returns the best point with its status.

    Ctrl-C ends with status ``interrupted``; before the first pass is complete there is no point to return, and it
    is passed on.

    The last step, shorter than ``xtol``, is still taken, without another pass: what remains is a fraction of ``xtol``
    standard errors (the rate of convergence), and cost and linearization are those of a point that close.

    Convergence means that the undamped, bounded Gauss-Newton step is shorter than ``xtol`` standard errors in every
    parameter, or promises a relative decrease below ``rtol_cost``. That the cost did not change proves nothing.
    """
    start = time.perf_counter()
    at = problem.evaluate(theta)
    state = State(theta, at, damping, scales(problem, at))
    try:
        state, gradient = _check(problem, state, tolerances)
        report(Info(at.cost, *gradient, damping, True, int(at.counts.sum()), time.perf_counter() - start))
        passes = 1
        creeping: list[float] = []
        while state.status is None:
            if passes >= tolerances.max_passes:
                return dataclasses.replace(state, status=Status.MAX_PASSES)
            start = time.perf_counter()
            state, info = _trial(problem, state, tolerances)
            if info is not None:
                passes += 1
                report(dataclasses.replace(info, seconds=time.perf_counter() - start))
            if state.bent and state.status is None:
                creeping.append(state.at.cost)
                if _leads_nowhere(creeping, state.at.variance):
                    return dataclasses.replace(state, status=Status.FLAT)
    except KeyboardInterrupt:
        return dataclasses.replace(state, status=Status.INTERRUPTED)
    return state


def _leads_nowhere(costs: list[float], variance: float) -> bool:
    """Whether many passes of second order have lowered the cost by less than a fraction of what noise does to it."""
    return len(costs) > _PATIENCE and costs[-1 - _PATIENCE] - costs[-1] < _NOTHING * variance


def _trial(problem: Problem, state: State, tolerances: Tolerances) -> tuple[State, Info | None]:
    """One damped step: find a feasible trial point (no pass), evaluate it (one pass), accept or damp."""
    damping, border = state.damping, False
    step = _second_order(problem, state, damping)
    while step is None or not problem.feasible(state.theta + step):
        border = border or step is not None
        damping = max(4 * damping, 1e-4 if border else 1e-8)
        if damping > _MAX_DAMPING:
            return dataclasses.replace(state, status=Status.BORDER), None
        step = _second_order(problem, state, damping)
    straight = bounded_step(problem, state.theta, state.at, state.scale, damping)
    predicted = _decrease(state.at, straight, damping)
    trial = _evaluate(problem, state, step, damping)
    points = int(trial.counts.sum())
    promised = _decrease(state.at, bounded_step(problem, state.theta, state.at, state.scale, 0.0), 0.0)
    gain, accepted = _judge(state.at.cost, trial.cost, predicted, promised, tolerances.rounding)
    if accepted:
        damping = damping / 10 if gain > 0.75 else (damping if gain > 0.25 else max(4 * damping, 1e-6))
        scale = np.maximum(state.scale, scales(problem, trial))
        damping = damping if damping > 1e-12 else 0.0
        theta = _ending(problem, state.theta, step)
        state = State(theta, trial, damping, scale, border=border, bent=state.bent)
        state, norms = _check(problem, state, tolerances)
    else:
        damping = max(8 * damping, 1e-3)
        stalled = damping > _MAX_DAMPING
        status = (Status.BORDER if border else Status.STALLED) if stalled else None
        state = dataclasses.replace(state, damping=damping, status=status, border=border)
        norms = _norms(problem, state)
    if problem.bend is not None and gain < _STRAIGHT:
        state = dataclasses.replace(state, bent=True)
    return state, Info(trial.cost, norms[0], norms[1], damping, accepted, points, 0.0)


def _second_order(problem: Problem, state: State, damping: float) -> np.ndarray | None:
    """The damped step, bent once straight ones have failed; None where it is too long for second order."""
    step = bounded_step(problem, state.theta, state.at, state.scale, damping)
    if not state.bent or problem.bend is None:
        return step
    bend = problem.bend(state.theta, step, state.at.scaling)
    if bend is None:
        return step
    shift = bounded_step(problem, state.theta + step, bend, scales(problem, bend), max(damping, 1e-9))
    length = np.linalg.norm(state.scale * step)
    if np.linalg.norm(state.scale * shift) > _LONG * length and damping < 1.0:
        return None
    bent = step + 0.5 * shift
    return np.clip(state.theta + bent, problem.lower, problem.upper) - state.theta


def _ending(problem: Problem, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Where a step ends; rounding must not carry it over a bound."""
    return np.clip(theta + step, problem.lower, problem.upper)


def _evaluate(problem: Problem, state: State, step: np.ndarray, damping: float) -> Linearization:
    """The pass at the end of a step; contrast and offset of a robust fit take theirs."""
    following = state.at.following
    if following is None:
        return problem.evaluate(_ending(problem, state.theta, step))
    return problem.evaluate(_ending(problem, state.theta, step), following.after(step, damping))


def _judge(cost: float, trial_cost: float, predicted: float, promised: float, rounding: float) -> tuple[float, bool]:
    """Ratio of actual to predicted decrease, and whether the trial point is taken.

    Near the optimum even the decrease an undamped step promises falls below the rounding of the cost; the difference of
    two costs then says nothing. A step is taken unless the cost visibly rises, and the damping stays: where noise
    dominates, undamped steps may move away from the optimum again.
    """
    if not np.isfinite(trial_cost):
        return -1.0, False
    if promised <= rounding * cost:
        return 0.5, trial_cost <= cost * (1 + rounding)
    gain = (cost - trial_cost) / max(predicted, 1e-300)
    return gain, gain > 1e-4


def _decrease(at: Linearization, step: np.ndarray, damping: float) -> float:
    """Decrease of the cost that the linear model predicts for a step."""
    moved = at.jacobian @ step
    own = 0.0 if at.following is None else at.following.damped_decrease(damping)
    return float(moved @ at.residual - 0.5 * moved @ moved) + own


def _check(problem: Problem, state: State, tolerances: Tolerances) -> tuple[State, tuple[float, float]]:
    """Mark the state converged when its undamped step is negligible; a start of infinite cost leads nowhere."""
    if not np.isfinite(state.at.cost):
        return dataclasses.replace(state, status=Status.STALLED), (np.inf, np.inf)
    gradient, step_norm = _norms(problem, state)
    if step_norm <= tolerances.xtol or step_norm**2 <= tolerances.rtol_cost * float(state.at.counts.sum()):
        last = _ending(problem, state.theta, bounded_step(problem, state.theta, state.at, state.scale, 0.0))
        theta = last if problem.feasible(last) else state.theta
        at = _moved(state.at, theta - state.theta)
        state = dataclasses.replace(state, theta=theta, at=at, status=Status.CONVERGED)
    return state, (gradient, step_norm)


def _moved(at: Linearization, step: np.ndarray) -> Linearization:
    """The same linearization with contrast and offset of a robust fit after a negligible step."""
    return at if at.following is None else dataclasses.replace(at, scaling=at.following.after(step, 0.0))


def _norms(problem: Problem, state: State) -> tuple[float, float]:
    """Largest projected gradient, and length of the undamped step, in units of the iid noise.

    The step's length is the Mahalanobis one, |A d| / noise: no parameter moves by more standard errors than that, and
    a direction the data do not determine does not count.
    """
    a, r = state.at.jacobian, state.at.residual
    noise = np.sqrt(max(state.at.variance, 1e-300))
    # the share of contrast and offset, zero where they are eliminated
    own = 0.0 if state.at.following is None else np.sqrt(state.at.following.decrease)
    column = np.linalg.norm(a, axis=0)
    moved = problem.free & (column > 0)
    if not moved.any():
        return float(own / noise), float(own / noise)
    step = bounded_step(problem, state.theta, state.at, state.scale, 0.0)
    gradient = a.T @ r
    blocked = ((state.theta <= problem.lower) & (gradient < 0)) | ((state.theta >= problem.upper) & (gradient > 0))
    gradient = np.where(blocked, 0.0, gradient)
    largest = max(float(np.max(np.abs(gradient[moved]) / column[moved])), own)
    return float(largest / noise), float(np.hypot(np.linalg.norm(a @ step), own) / noise)


def scales(problem: Problem, at: Linearization) -> np.ndarray:
    """Column norms of the Jacobian, at least a thousandth of a sigma over the parameter's whole range; (p,).

    Steps are measured in them, and they never shrink during a fit (More's rule): near a point where a parameter loses
    its influence (phi0 parallel to the only azimuth), its own column would invite steps of any length.
    """
    return np.maximum(np.linalg.norm(at.jacobian, axis=0), 1e-3 / (problem.upper - problem.lower))


def bounded_step(
    problem: Problem, theta: np.ndarray, at: Linearization, scale: np.ndarray, damping: float
) -> np.ndarray:
    """argmin |r - A d|**2 + damping |D d|**2 within the bounds; D = ``scale``; fixed parameters do not move.

    The damping is at least ``_NULL``.
    """
    step = np.zeros_like(theta)
    free = problem.free & (np.linalg.norm(at.jacobian, axis=0) > 0)
    if not free.any():
        return step
    d = scale[free]
    # a QR first: p rows instead of one per angle and column
    q, a = np.linalg.qr(at.jacobian[:, free] / d)
    b = q.T @ at.residual
    a = np.vstack([a, np.sqrt(max(damping, _NULL)) * np.eye(len(d))])
    b = np.concatenate([b, np.zeros(len(d))])
    room = (problem.lower[free] - theta[free]) * d, (problem.upper[free] - theta[free]) * d
    solution = lsq_linear(a, b, bounds=(np.minimum(room[0], -0.0), np.maximum(room[1], 0.0)), method="bvls", tol=1e-14)
    step[free] = solution.x / d
    return np.clip(theta + step, problem.lower, problem.upper) - theta
