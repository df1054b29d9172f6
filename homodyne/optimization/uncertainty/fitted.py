"""A finished fit as its errors need it: data, model, solution and the sums that it is made of."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.models import Model
from homodyne.optimization.normal import Linearization
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.source import BlockSource
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.uncertainty.robust import Robust
from homodyne.optimization.uncertainty.scores import Scores
from homodyne.parameters import Parameter


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

    def without_error(self) -> frozenset[int]:
        """Parameters at a bound, and all of them at an infeasible border: nothing that depends on them has an error."""
        if self.border:
            return frozenset(range(len(self.parameters)))
        at_bound = (x in (p.lower, p.upper) for p, x in zip(self.parameters, self.theta, strict=True))
        fixed = set(np.flatnonzero(~self.free).tolist())
        return frozenset(i for i, there in enumerate(at_bound) if there and i not in fixed)
