"""A simulated dataset in memory, from a few numbers: for trying settings without a file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from homodyne.data import Dataset
from homodyne.models import get_model
from homodyne.parameters import check_values
from homodyne.simulate.two_time import two_time

#: A sample whose every parameter is well determined at q = 0.0054 / angstrom within 20 s.
THETA = {
    "D0": 8e3,
    "alpha": -0.6,
    "D_offset": 1e3,
    "gamma_dot_0": 5e-4,
    "beta": -0.5,
    "gamma_dot_offset": 1e-4,
    "phi0": 4.0,
}
#: What other models need beside it, or in its place; determined as well.
OTHERS = {
    "heterodyne": {"v0": 300.0, "beta": -0.3, "v_offset": 30.0, "reference_fraction": 0.3},
    "kww": {"Gamma_0": 0.4, "aging": -0.5, "Gamma_offset": 0.05, "kww_exponent": 1.3},
}


def synthetic_dataset(
    model: str = "laminar_flow",
    convention: str = "physical",
    theta: Mapping[str, float] | None = None,
    *,
    n_phi: int = 10,
    n_t: int = 200,
    dt: float = 0.1,
    q: float = 0.0054,
    gap: float = 2e6,
    contrast: float = 0.25,
    contrast_spread: float = 0.1,
    noise: float = 0.005,
    seed: int = 0,
) -> Dataset:
    """Two-time data of a built-in model with independent Gaussian noise.

    Args:
        theta: values that replace those of ``THETA`` and ``OTHERS``, by name.
        n_phi, n_t: angles, evenly from -80 to 80 deg, and frames; dt [s], q [1/angstrom], gap [angstrom].
        contrast, contrast_spread: mean over the angles, and largest relative deviation from it.
        noise: standard deviation of one point, also handed to the dataset as its sigma.

    Raises:
        InputError: unknown model or parameter, or a value out of its bounds.
    """
    chosen = get_model(model, convention)
    given = check_values(theta or {}, chosen.parameters, "dataset.theta")
    usual = {**THETA, **OTHERS.get(model, {})}
    values = {p.name: given.get(p.name, usual[p.name]) for p in chosen.parameters}
    phi, t = np.linspace(-80.0, 80.0, n_phi), dt * np.arange(n_t)
    by_angle = contrast * (1.0 + contrast_spread * np.cos(2.4 * np.arange(n_phi)))
    c2 = two_time(chosen, values, phi, t, q, gap, contrast=by_angle, noise=noise, seed=seed)
    return Dataset.from_arrays(c2, phi, t, q, gap=gap, sigma=noise)
