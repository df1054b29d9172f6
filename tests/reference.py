"""A second, slow implementation of the physics, in NumPy, straight from the equations; for comparisons only.

It accepts complex parameters, so that derivatives come from complex steps, exact to rounding.
"""

from __future__ import annotations

import numpy as np

FLOW = {
    "D0": 8e3, "alpha": -0.4, "D_offset": 300.0, "gamma_dot_0": 2e-3, "beta": -0.2, "gamma_dot_offset": 1e-4, "phi0": 2.0,
}  # fmt: skip
STATIC = {"D0": 1.7e4, "alpha": -1.57, "D_offset": 3.05}
HETERODYNE = {
    "D0": 5e3, "alpha": -0.4, "D_offset": 300.0, "v0": 700.0, "beta": -0.2, "v_offset": 50.0, "phi0": 2.0, "reference_fraction": 0.35,
}  # fmt: skip
KWW = {"Gamma_0": 0.5, "aging": -0.4, "Gamma_offset": 0.05, "kww_exponent": 1.3}
Q, GAP, DT = 0.0054, 2e6, 0.1


def integral(a, b, c, t, dt):
    """Trapezoid integral of a t**b + c from frame 0, with t floored at dt/2."""
    rate = a * np.exp(b * np.log(np.maximum(t, dt / 2))) + c
    out = np.zeros(len(t), dtype=rate.dtype)
    for i in range(1, len(t)):
        out[i] = out[i - 1] + 0.5 * dt * (rate[i] + rate[i - 1])
    return out


def g1_squared(theta, t, phi, q=Q, gap=GAP, convention="physical"):
    """s(t1, t2) on the upper triangle (earlier = row); lower half mirrored."""
    dt = t[1] - t[0]
    a = integral(*theta[:3], t, dt)
    i, j = np.triu_indices(len(t), k=1)
    s = np.exp(-(q**2) * (a[j] - a[i]))
    if len(theta) == 7:
        g = integral(*theta[3:6], t, dt)
        x = 0.5 * q * gap * np.cos(np.pi / 180 * (theta[6] - phi)) * (g[j] - g[i])
        s = s * (np.sin(x) / x) ** 2 if convention == "physical" else s * (np.sin(x / np.pi) / (x / np.pi)) ** 4
    out = np.ones((len(t), len(t)), dtype=s.dtype)
    out[i, j] = out[j, i] = s
    return out


def heterodyne(theta, t, phi, q=Q, gap=None):
    """s of a static component and one that diffuses and moves; arguments and result as in ``g1_squared``."""
    dt = t[1] - t[0]
    a, path = integral(*theta[:3], t, dt), integral(*theta[3:6], t, dt)
    i, j = np.triu_indices(len(t), k=1)
    x = q * np.cos(np.pi / 180 * (theta[6] - phi)) * (path[j] - path[i])
    decay, f = np.exp(-0.5 * q**2 * (a[j] - a[i])), theta[7]
    return _both_halves(f**2 + (1 - f) ** 2 * decay**2 + 2 * f * (1 - f) * decay * np.cos(x), len(t))


def heterodyne_field(theta, t, phi, q=Q):
    """Its g1(t1, t2) = <E*(t1) E(t2)>, complex; real parameters only."""
    dt = t[1] - t[0]
    a, path = integral(*theta[:3], t, dt), integral(*theta[3:6], t, dt)
    x = q * np.cos(np.pi / 180 * (theta[6] - phi)) * (path[None, :] - path[:, None])
    return theta[7] + (1 - theta[7]) * np.exp(-0.5 * q**2 * np.abs(a[None, :] - a[:, None]) + 1j * x)


def kww(theta, t, phi=0.0, q=Q, gap=None):
    """s of a stretched or compressed exponential of the integrated rate."""
    a = integral(*theta[:3], t, t[1] - t[0])
    i, j = np.triu_indices(len(t), k=1)
    return _both_halves(np.exp(-2 * np.exp(theta[3] * np.log(a[j] - a[i]))), len(t))


def _both_halves(pairs, n):
    out = np.ones((n, n), dtype=pairs.dtype)
    i, j = np.triu_indices(n, k=1)
    out[i, j] = out[j, i] = pairs
    return out


def jacobian(theta, t, phi, q=Q, gap=GAP, s=g1_squared):
    """s and ds/dtheta at the pairs i < j in the order of triu_indices: (n,), (n, p); complex steps."""
    i, j = np.triu_indices(len(t), k=1)
    theta = np.asarray(theta, dtype=float)
    columns = []
    for m in range(len(theta)):
        step = 1e-30 * max(1.0, abs(theta[m]))
        moved = theta.astype(complex)
        moved[m] += 1j * step
        columns.append(s(moved, t, phi, q, gap)[i, j].imag / step)
    return s(theta, t, phi, q, gap)[i, j], np.stack(columns, axis=1)
