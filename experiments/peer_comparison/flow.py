"""An independent reference for the comparison: laminar flow in the ``homodyne-2`` convention, plain NumPy.

It shares no code with either program under test, so it can also judge both answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NAMES = ("D0", "alpha", "D_offset", "gamma_dot_0", "beta", "gamma_dot_offset", "phi0")


def _time_integral(scale: float, exponent: float, offset: float, t_s: np.ndarray) -> np.ndarray:
    """Prefix trapezoid of ``scale t**exponent + offset``, (n_t,); the power law is evaluated at max(t, dt/2)."""
    dt_s = t_s[1] - t_s[0]
    rate = scale * np.maximum(t_s, dt_s / 2) ** exponent + offset
    return np.concatenate([[0.0], np.cumsum(0.5 * dt_s * (rate[1:] + rate[:-1]))])


def signal(theta: Mapping[str, float], phi_deg: float, t_s: np.ndarray, q: float, gap: float) -> np.ndarray:
    """``exp(-q**2 |dA|) [sin(X/pi) / (X/pi)]**4`` for one angle, (n_t, n_t).

    X = (q gap / 2) cos(phi0 - phi) |dG|; q in 1/angstrom, gap in angstrom.
    """
    decay = q**2 * _time_integral(theta["D0"], theta["alpha"], theta["D_offset"], t_s)
    strain = _time_integral(theta["gamma_dot_0"], theta["beta"], theta["gamma_dot_offset"], t_s)
    phase = 0.5 * q * gap * np.cos(np.deg2rad(theta["phi0"] - phi_deg)) * strain
    # np.sinc is normalized: np.sinc(y) = sin(pi y) / (pi y), so y = X / pi**2 gives sin(X/pi) / (X/pi)
    sinc = np.sinc((phase[None, :] - phase[:, None]) / np.pi**2)
    return np.exp(-np.abs(decay[None, :] - decay[:, None])) * sinc**4


def profiled_chi2(theta: Mapping[str, float], data: Mapping[str, np.ndarray]) -> float:
    """Chi-squared over all unordered pairs t1 < t2, with the best contrast and offset of each angle for this theta."""
    t_s, q, gap, sigma = data["t"], float(data["q"]), float(data["gap"]), float(data["sigma"])
    c2 = data["c2"]
    upper = np.triu_indices(len(t_s), k=1)
    total = 0.0
    for phi_deg, measured in zip(data["phi"], c2, strict=True):
        s = signal(theta, float(phi_deg), t_s, q, gap)[upper]
        design = np.column_stack([s, np.ones_like(s)])
        y = measured[upper]
        best = np.linalg.solve(design.T @ design, design.T @ y)
        total += float(np.sum((y - design @ best) ** 2)) / sigma**2
    return total
