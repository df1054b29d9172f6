"""Two-time data from particles that diffuse and are sheared: slow, and free of the models' equations.

For checking models and speckle simulation against the microscopic picture they stand for. Nothing here knows g1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from homodyne.errors import InputError
from homodyne.simulate.correlator import PixelSums, detected

Rate = Callable[[np.ndarray], np.ndarray]

# Phases moved at a time: 8 MB.
PORTION = 1 << 20


def particle_maps(
    transport: Rate,
    shear_rate: Rate,
    phi: np.ndarray,
    t: np.ndarray,
    q: float,
    gap: float,
    *,
    phi0: float,
    contrast_modes: int = 3,
    counts: float | None = None,
    pixels: int = 200,
    particles: int = 100,
    seed: int = 0,
) -> np.ndarray:
    """c2 of Brownian particles in linear shear between two plates, from the light they scatter.

    A particle at height x, uniform in [0, gap] and kept, moves along phi0 with velocity gamma_dot(t) x and takes a
    Gaussian step per frame of variance integral J dt along every axis. A speckle is the field of N particles,

        E(t) = sum_n exp(i q . r_n(t)) / sqrt(N),

    and a pixel sees the mean of ``contrast_modes`` of them, each with particles of its own. Only the displacement along
    q enters, so one Gaussian number per particle and frame is exact. With N particles the expectation is
    1 + (1 - 1/N) |g1|**2 / contrast_modes.

    Args:
        transport, shear_rate: J(t) [angstrom**2 / s] and gamma_dot(t) [1/s], functions of an array of times [s]; taken
            at max(t, dt/2) and integrated by the trapezoidal rule between frames.
        phi: azimuths [degree], (n_phi,). t: uniform frame times [s], (n_t,). q [1/angstrom], gap [angstrom].
        phi0: flow direction [degree].
        counts: mean photons per pixel and frame; None for the intensities themselves.
        pixels: independent pixels of a sector. particles: N of every speckle.

    Returns:
        (n_phi, n_t, n_t), symmetric, float64; angle k depends on ``seed`` and k alone.

    Raises:
        InputError: J negative somewhere, or no pixel, particle or mode.
    """
    for name, number in (("contrast_modes", contrast_modes), ("pixels", pixels), ("particles", particles)):
        if number < 1:
            raise InputError(name, number, "must be at least 1", f"give a positive number of {name}")
    variance, strain = _per_step(transport, t), _per_step(shear_rate, t)
    if np.any(variance < 0):
        raise InputError("transport", float(variance.min()), "gives a negative displacement variance", "give J(t) >= 0")
    maps = []
    for k, angle in enumerate(phi):
        rng = np.random.default_rng([seed, k])
        along_q = q * np.cos(np.deg2rad(phi0 - angle)) * strain
        sums = PixelSums(len(t))
        portion = max(1, PORTION // (contrast_modes * particles))
        for first in range(0, pixels, portion):
            n = min(portion, pixels - first)
            shape = (n, contrast_modes, particles)
            sums.add(detected(_intensity(q * np.sqrt(variance), along_q, gap, shape, rng), counts, rng))
        maps.append(sums.c2())
    return np.stack(maps)


def _per_step(rate: Rate, t: np.ndarray) -> np.ndarray:
    """Integral of the rate between neighboring frames, (n_t - 1,)."""
    dt = (t[-1] - t[0]) / (len(t) - 1)
    values = np.broadcast_to(rate(np.maximum(t, 0.5 * dt)), np.shape(t))
    return 0.5 * dt * (values[1:] + values[:-1])


def _intensity(
    spread: np.ndarray, drift: np.ndarray, gap: float, shape: tuple[int, int, int], rng: np.random.Generator
) -> np.ndarray:
    """Mean over modes of |E|**2 of (pixels, modes, particles), for every frame: (n_t, pixels).

    Args:
        spread: standard deviation of the phase per step [rad]; drift: its drift per height [rad / angstrom].
    """
    height = rng.uniform(0.0, gap, shape)
    phase = rng.uniform(0.0, 2.0 * np.pi, shape)
    out = np.empty((len(spread) + 1, shape[0]))
    for i in range(len(out)):
        if i:
            phase += drift[i - 1] * height + spread[i - 1] * rng.standard_normal(shape)
        power = np.cos(phase).sum(-1) ** 2 + np.sin(phase).sum(-1) ** 2
        out[i] = power.mean(-1) / shape[2]
    return out
