"""Small problems with known truth, shared by the tests of the optimizer."""

from __future__ import annotations

import dataclasses

import numpy as np

import homodyne
from tests.reference import DT, FLOW, GAP, STATIC, Q, g1_squared


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A BlockSource over arrays, without the Dataset."""

    c2: np.ndarray
    phi: np.ndarray
    t: np.ndarray
    sigma: np.ndarray
    q: float = Q
    gap: float | None = GAP
    dt: float = DT
    sigma_points: np.ndarray | None = None
    sigma_source: str = "given per angle"

    def read_block(self, k, rows, cols):
        return self.c2[k, rows, cols]

    def read_sigma(self, k, rows, cols):
        return None if self.sigma_points is None else self.sigma_points[k, rows, cols]

    def fingerprint(self):
        return {"path": None}


def problem(model="laminar_flow", n_t=40, n_phi=4, noise=0.005, spread=0.1, seed=0, phi=None, missing=0.0):
    """Data of the NumPy reference with independent noise; contrasts that differ by ``spread`` between angles."""
    rng = np.random.default_rng(seed)
    phi = np.linspace(-70, 90, n_phi) + rng.uniform(-3, 3, n_phi) if phi is None else np.asarray(phi, dtype=float)
    t = DT * np.arange(n_t)
    theta = FLOW if model == "laminar_flow" else STATIC
    contrast = 0.3 * (1 + spread * np.cos(2.4 * np.arange(len(phi))))
    c2 = np.empty((len(phi), n_t, n_t))
    for k, angle in enumerate(phi):
        upper = np.triu(rng.normal(0, noise, (n_t, n_t)), 1)
        c2[k] = 1.05 + contrast[k] * g1_squared(list(theta.values()), t, angle).real + upper + upper.T
        np.fill_diagonal(c2[k], 7.0)  # shot noise: must not matter
    if missing:
        c2[rng.random(c2.shape) < missing] = np.nan
    return Arrays(c2, phi, t, np.full(len(phi), noise or 0.005)), theta, contrast


def uniform_fit(*given, **settings):
    """``homodyne.fit`` without what follows the sums of uniform weights, for tests of these."""
    return homodyne.fit(*given, **{"weighting": "uniform", **settings})
