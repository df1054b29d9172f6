"""Two-time maps of a model with independent noise: the simplest data with known truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from homodyne.models import Model, get_model, reference_q


def two_time(
    model: str | Model,
    theta: Mapping[str, float],
    phi: np.ndarray,
    t: np.ndarray,
    q: float | np.ndarray,
    gap: float | None = None,
    *,
    contrast: float | np.ndarray = 0.3,
    offset: float | np.ndarray = 1.0,
    noise: float = 0.0,
    counts: float = 2.0,
    seed: int = 0,
) -> np.ndarray:
    """c2(phi, t1, t2) = offset + contrast s + Gaussian noise, one independent value per unordered pair.

    The diagonal is raw, as a correlator leaves it: offset + contrast + 1/counts (shot noise of ``counts`` photons per
    pixel and frame). It must not matter to any fit.

    Args:
        phi: azimuths [degree], (n_phi,). t: uniform frame times [s], (n_t,). gap [angstrom].
        q: [1/angstrom], one number, or one a sector, (n_phi,).
        contrast, offset: one number, or one per angle.
        noise: standard deviation of c2 at one pair.

    Returns:
        (n_phi, n_t, n_t), symmetric, float64.
    """
    chosen = get_model(model) if isinstance(model, str) else model
    rng = np.random.default_rng(seed)
    n = len(t)
    scale = np.broadcast_to(contrast, (len(phi),)), np.broadcast_to(offset, (len(phi),))
    c2 = np.empty((len(phi), n, n))
    each, q_ref = np.broadcast_to(q, (len(phi),)), reference_q(q)
    for k, angle in enumerate(phi):
        upper = np.triu(rng.normal(0.0, noise, (n, n)), k=1) if noise > 0 else np.zeros((n, n))
        s = chosen.g1_squared(theta, t, float(angle), float(each[k]), gap, q_ref=q_ref)
        c2[k] = scale[1][k] + scale[0][k] * s + upper + upper.T
        np.fill_diagonal(c2[k], scale[1][k] + scale[0][k] + 1.0 / counts)
    return c2
