"""The parts of a result."""

from __future__ import annotations

import dataclasses
import enum
import math

import numpy as np


class Status(enum.StrEnum):
    """How a fit ended. ``advice`` tells the user what to do about it."""

    CONVERGED = "converged"
    MAX_PASSES = "max_passes"
    STALLED = "stalled"
    FLAT = "flat_valley"
    BORDER = "infeasible_border"
    NOT_IDENTIFIABLE = "not_identifiable"
    INTERRUPTED = "interrupted"

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE = {
    Status.CONVERGED: "The next step would be negligible against the standard errors.",
    Status.MAX_PASSES: "The pass limit was reached first: raise optimization.nlsq.max_passes or give a closer start.",
    Status.STALLED: "No trial step lowers the cost although the gradient is not small: try another start, or check the data.",
    Status.FLAT: "The cost hardly falls any more along a valley without an end: parameters are determined only in combination. "
    "Fix one of those with the largest errors, or add angles, q values or frames.",
    Status.BORDER: "The best point lies where a rate J(t) or gamma_dot(t) changes its sign: fix or bound the offset parameters.",
    Status.NOT_IDENTIFIABLE: "The data do not determine all parameters: fix one of those listed, or add angles, q values or frames.",
    Status.INTERRUPTED: "Stopped by Ctrl-C or SIGTERM: the values are the best found so far.",
}


@dataclasses.dataclass(frozen=True)
class Decision:
    """Which strategy runs, and why. Memory figures in GB (2**30 bytes).

    Attributes:
        strategy: ``stratified_ls``, ``hybrid_streaming``, ``distributed``, ``cmaes_nlsq`` or ``multistart``.
        reason: one sentence.
        estimate_gb: predicted peak of the *full-batch* strategy, the number the choice compares.
        threshold_gb: what may be used.
        block_points: points per streamed block.
        n_points, n_params: unordered pairs over all angles; free parameters (physical + scaling).
        passes: how passes over all points are summed, ``stratified_ls``, ``hybrid_streaming`` or ``distributed``.
        log_lines: the lines that were logged at the moment of decision.
    """

    strategy: str
    reason: str
    estimate_gb: float
    threshold_gb: float
    block_points: int
    n_points: int
    n_params: int
    passes: str = ""
    log_lines: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Weighting:
    """How pairs were weighted, and what the other way would have given.

    Attributes:
        name: ``uniform``, or ``whitened``: by the inverse of the covariance that speckle gives to pairs.
        asked: what the user asked for: ``uniform``, ``whitened`` or ``auto``.
        recommended: the one with the smaller predicted errors; the only one that was computed for ``uniform``.
        reason: one sentence.
        uniform, uniform_stderr, whitened, whitened_stderr: values, and errors from the noise of speckle, of the parameters
            by name; empty where they were not computed.
        ratio: geometric mean of whitened over uniform errors; NaN where one is missing.
        p_value: probability of whitened residuals that do as badly, or worse, against shapes that no parameter has, if model
            and noise are right; NaN where it was not computed.
        made_of: what whitened weights were made of, so that they can be made again: ``theta`` (p,), and ``contrast``, ``offset``,
            ``nu`` (1 / counts) and ``pixels`` of every sector.
        ridge: of the weights, in units of the contrast. block_frames: most frames that were whitened together.
        passes, seconds: what whitening took.
    """

    name: str = "uniform"
    asked: str = "uniform"
    recommended: str = "uniform"
    reason: str = ""
    uniform: dict[str, float] = dataclasses.field(default_factory=dict)
    uniform_stderr: dict[str, float] = dataclasses.field(default_factory=dict)
    whitened: dict[str, float] = dataclasses.field(default_factory=dict)
    whitened_stderr: dict[str, float] = dataclasses.field(default_factory=dict)
    ratio: float = math.nan
    p_value: float = math.nan
    made_of: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    ridge: float = 0.0
    block_frames: int = 0
    passes: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory over a fit, GB (2**30 bytes); the series holds resident-set sizes against seconds since the start."""

    available_gb: float
    threshold_gb: float
    predicted_peak_gb: float
    measured_peak_gb: float
    baseline_gb: float
    series_seconds: np.ndarray
    series_gb: np.ndarray


@dataclasses.dataclass(frozen=True)
class AngleMap:
    """One sector of data and model on a (possibly strided) frame grid, for display; shapes (n, n), NaN on the diagonal.

    ``q`` [1/angstrom] tells sectors apart where there are several.
    """

    phi_deg: float
    t_s: np.ndarray
    data: np.ndarray
    model: np.ndarray
    sigma: float
    q: float = math.nan


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """Errors by one method.

    Attributes:
        method: ``speckle``, ``repetitions``, ``jackknife`` or ``iid``.
        root: (p, r); root root^T is the covariance of the physical parameters, exact where they are known only in
            combination. 0 for fixed parameters.
        null: (p, z), directions in which the data leave the parameters open.
        contrast_stderr, offset_stderr: per angle, (n_phi,).
        dof: degrees of freedom of the t distribution behind an interval, inf for the normal one.
    """

    method: str
    root: np.ndarray
    null: np.ndarray
    contrast_stderr: np.ndarray
    offset_stderr: np.ndarray
    dof: float = np.inf

    def stderr_of(self, gradient: np.ndarray) -> np.ndarray:
        """Standard error of functions of the parameters by the delta method; inf where an open direction changes them.

        Args:
            gradient: (p, ...), derivatives with respect to the parameters.
        """
        flat = gradient.reshape(len(gradient), -1)
        stderr = np.sqrt(((self.root.T @ flat) ** 2).sum(0))
        if self.null.shape[1]:
            largest = np.abs(flat).T @ np.abs(self.null)
            moved = np.abs(flat.T @ self.null) > 1e-6 * np.maximum(largest, 1e-300)
            stderr[np.any(moved & (largest > 0), axis=1)] = np.inf
        return stderr.reshape(gradient.shape[1:])
