"""Whether the model is linear over the reach of an error: where it is not, a symmetric interval is no good answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from homodyne.optimization.uncertainty.design import Design

# Standard errors at which the model is tried, and how far the distance it moves may be from that of a linear model.
_REACH, _BENT = 2.0, 0.25


def bent(
    design: Design,
    theta: np.ndarray,
    stderr: np.ndarray,
    signal: Callable[[np.ndarray], np.ndarray | None],
    valid: np.ndarray,
    sigma: np.ndarray,
) -> tuple[int, ...]:
    """Parameters along whose valley the model is far from linear within two standard errors.

    The model is moved along the valley of each parameter, the others following as the linear model says, and the distance
    it moves compared on either side with the expected one; contrast and offset of every angle are free to follow.

    Args:
        theta, stderr: (p,). signal: theta -> s on the subset's pairs, (n_phi, m, m), None where the model makes no sense.
        valid: (n_phi, m, m) bool. sigma: (n_phi,).
    """
    here = signal(theta)
    if here is None or not np.all(np.isfinite(here[valid])):
        return ()  # a model that overflows there has worse problems
    found = []
    inverse = design.theta.inverse
    for n, i in enumerate(design.free):
        if not (np.isfinite(stderr[i]) and stderr[i] > 0 and inverse[n, n] > 0):
            continue
        step = np.zeros(len(theta))
        step[design.free] = _REACH * stderr[i] * inverse[:, n] / inverse[n, n]
        small = _moved(signal(theta + 1e-3 * step), here, valid, design.at.scaling, sigma)
        sides = [_moved(signal(theta + sign * step), here, valid, design.at.scaling, sigma) for sign in (-1, 1)]
        if any(not abs(side / max(1e3 * small, 1e-300) - 1) <= _BENT for side in sides):
            found.append(int(i))
    return tuple(found)


def _moved(
    there: np.ndarray | None, here: np.ndarray, valid: np.ndarray, scaling: np.ndarray, sigma: np.ndarray
) -> float:
    """Distance between two signals beyond what contrast and offset of every angle make up for; inf without a signal."""
    if there is None or not np.all(np.isfinite(there[valid])):
        return np.inf
    total = 0.0
    for k in range(len(here)):
        change = scaling[k, 0] * (there[k] - here[k])[valid[k]] / sigma[k]
        basis = np.stack([here[k][valid[k]], np.ones(change.size)], axis=1)
        rest = change - basis @ np.linalg.lstsq(basis, change, rcond=None)[0]
        total += float(rest @ rest)
    return float(np.sqrt(total)) if np.isfinite(total) else np.inf
