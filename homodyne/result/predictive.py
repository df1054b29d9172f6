"""What a posterior says of c2, beside the data."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class PredictiveCut:
    """c2(t1, t1 + lag) of one sector over the lag, at one t1.

    Attributes:
        phi_deg, q: of the sector [degree, 1/angstrom]. t1_s: the earlier time [s]. lag_s: (n,) [s].
        data: (n,), NaN where a point is invalid.
        median: of the model over the posterior, (n,).
        levels: probabilities, (m,). model: lower and upper ends of the model's bands, (m, 2, n).
        noisy: the same of a new measurement with the noise of one point, (m, 2, n).
    """

    phi_deg: float
    q: float
    t1_s: float
    lag_s: np.ndarray
    data: np.ndarray
    median: np.ndarray
    levels: tuple[float, ...]
    model: np.ndarray
    noisy: np.ndarray
