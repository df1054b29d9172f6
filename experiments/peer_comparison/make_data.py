#!/usr/bin/env python3
"""Write one simulated laminar-flow dataset of known truth, in the ``homodyne-2`` convention.

    python make_data.py 10x200 data.npz
    python make_data.py 23x300 data.npz --numbers c020

Keys: c2 (n_phi, n_t, n_t), phi [deg], t [s], q [1/angstrom], gap [angstrom], sigma, theta0 (start), theta_true (both in
the order of flow.NAMES), contrast, offset (n_phi,).
"""

from __future__ import annotations

import argparse

import numpy as np
from flow import NAMES, signal

TRUTH = {
    "mild": (8e3, -0.4, 300.0, 2e-3, -0.2, 1e-4, 2.0),
    "c020": (1.9e4, -1.06, 880.0, 1.3e-3, -0.23, -4.5e-4, -5.6),
}
START_FACTOR = (1.25, 1.25, 0.75, 1.3, 1.25, 1.3, 1.25)  # 25-30 % off
Q, GAP, DT_S, SIGMA = 0.0054, 2e6, 0.1, 0.005


def size(case: str) -> tuple[int, int]:
    """(n_phi, n_t) from text such as ``10x200``."""
    n_phi, n_t = case.split("x")
    return int(n_phi), int(n_t)


def symmetric_noise(rng: np.random.Generator, n_t: int) -> np.ndarray:
    """Unit Gaussian noise, (n_t, n_t), one value per unordered pair, as in a measured two-time matrix."""
    upper = np.triu(rng.standard_normal((n_t, n_t)))
    return upper + np.triu(upper, k=1).T


def interpolate_diagonal(c2: np.ndarray) -> np.ndarray:
    """Replace the diagonal by the mean of its neighbors, in place, as homodyne 2.x does to every file it loads.

    Some of its code paths fit the diagonal and rely on this; no pair t1 < t2 is touched.
    """
    side = np.diagonal(c2, offset=1)
    np.fill_diagonal(c2, 0.5 * (np.append(side[:1], side) + np.append(side, side[-1:])))
    return c2


def simulate(case: str, numbers: str, seed: int) -> dict[str, np.ndarray]:
    """All keys of the file; contrasts differ by up to 10 % and offsets by up to 1 % between the angles."""
    n_phi, n_t = size(case)
    rng = np.random.default_rng(seed)
    theta_true = np.array(TRUTH[numbers])
    phi_deg = np.linspace(-90.0, 90.0, n_phi, endpoint=False)
    t_s = DT_S * np.arange(n_t)
    contrast = 0.30 * (1 + 0.05 * np.cos(1.7 * np.arange(n_phi)))
    offset = 1.0 * (1 + 0.005 * np.cos(2.3 * np.arange(n_phi)))
    named = dict(zip(NAMES, theta_true, strict=True))
    c2 = np.empty((n_phi, n_t, n_t))
    for k in range(n_phi):
        clean = offset[k] + contrast[k] * signal(named, phi_deg[k], t_s, Q, GAP)
        c2[k] = interpolate_diagonal(clean + SIGMA * symmetric_noise(rng, n_t))
    return {
        "c2": c2,
        "phi": phi_deg,
        "t": t_s,
        "q": np.array(Q),
        "gap": np.array(GAP),
        "sigma": np.array(SIGMA),
        "theta0": theta_true * np.array(START_FACTOR),
        "theta_true": theta_true,
        "contrast": contrast,
        "offset": offset,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="angles x frames, such as 10x200")
    parser.add_argument("file")
    parser.add_argument("--numbers", choices=sorted(TRUTH), default="mild")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    np.savez(args.file, **simulate(args.case, args.numbers, args.seed))


if __name__ == "__main__":
    main()
