"""A second, slow implementation of the physics, in NumPy, straight from the equations; for comparisons only.

It accepts complex parameters, so that derivatives come from complex steps, exact to rounding.
"""

from __future__ import annotations

import numpy as np

FLOW = {
    "D0": 8e3, "alpha": -0.4, "D_offset": 300.0, "gamma_dot_0": 2e-3, "beta": -0.2, "gamma_dot_offset": 1e-4, "phi0": 2.0,
}  # fmt: skip
STATIC = {"D0": 1.7e4, "alpha": -1.57, "D_offset": 3.05}
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


def jacobian(theta, t, phi, q=Q, gap=GAP):
    """s and ds/dtheta at the pairs i < j in the order of triu_indices: (n,), (n, p); complex steps."""
    i, j = np.triu_indices(len(t), k=1)
    theta = np.asarray(theta, dtype=float)
    columns = []
    for m in range(len(theta)):
        step = 1e-30 * max(1.0, abs(theta[m]))
        moved = theta.astype(complex)
        moved[m] += 1j * step
        columns.append(g1_squared(moved, t, phi, q, gap)[i, j].imag / step)
    return g1_squared(theta, t, phi, q, gap)[i, j], np.stack(columns, axis=1)
