"""Second implementations, in NumPy and closed forms, of what noise does to a fit; for comparisons only.

Intensities of M equal modes of a Gaussian field correlation g, real or Hermitian, have the joint cumulants M**(1 - n)
times the sum over cyclic orders of products of g (Goodman, Statistical Optics, ch. 2); photon counts add nu times the intensity to the
second moment of one frame. Moments up to the fourth order follow, and from them the covariance of one pixel's c2.
"""

from __future__ import annotations

import numpy as np

from tests.reference import DT, GAP, Q, integral


def field(theta, t, phi, q=Q, gap=GAP):
    """g1(t1, t2), signed, straight from the equations."""
    a = integral(*theta[:3], t, DT)
    g = np.exp(-0.5 * q**2 * np.abs(a[None, :] - a[:, None]))
    if len(theta) == 7:
        strain = integral(*theta[3:6], t, DT)
        x = 0.5 * q * gap * np.cos(np.pi / 180 * (theta[6] - phi)) * (strain[None, :] - strain[:, None])
        g = g * np.sinc(x / np.pi)
    return g


def covariance_of_pairs(g, modes, nu):
    """Covariance of one pixel's c2, the normalization by frame means included, over the pairs i < j; (pairs, pairs)."""
    n = len(g)
    i, j = np.triu_indices(n, 1)
    k2 = np.abs(g) ** 2 / modes
    k3 = 2 * np.einsum("ij,jk,ki->ijk", g, g, g).real / modes**2
    cycles = [np.einsum(f"{a},{b},{c},{d}->ijkl", g, g, g, g).real for a, b, c, d in (
        ("ij", "jk", "kl", "li"), ("ij", "jl", "lk", "ki"), ("ik", "kj", "jl", "li"))]  # fmt: skip
    m4 = 2 * sum(cycles) / modes**3
    m4 += sum(np.einsum(f"{a},{b}->ijkl", k2, k2) for a, b in (("ij", "kl"), ("ik", "jl"), ("il", "jk")))
    one = np.eye(n)
    # <I_i delta_j delta_l> of what the light itself does
    bright = k2[None, :, :] + k3
    four = m4 + nu * (
        np.einsum("ik,ijl->ijkl", one, bright)
        + np.einsum("il,ijk->ijkl", one, bright)
        + np.einsum("jk,jil->ijkl", one, bright)
        + np.einsum("jl,jik->ijkl", one, bright)
    )
    both = 1 + k2
    four += nu**2 * (np.einsum("ik,jl,ij->ijkl", one, one, both) + np.einsum("il,jk,ij->ijkl", one, one, both))
    three = k3 + nu * (np.einsum("ik,ij->ijk", one, k2) + np.einsum("jk,ij->ijk", one, k2))
    two = k2 + nu * one
    s = k2[i, j]  # contrast s
    # y = delta_i delta_j - contrast s (delta_i + delta_j)
    product = four[i, j][:, i, j]
    mixed = three[i, j][:, i] + three[i, j][:, j]
    linear = two[np.ix_(i, i)] + two[np.ix_(i, j)] + two[np.ix_(j, i)] + two[np.ix_(j, j)]
    raw = product - s[None, :] * mixed - s[:, None] * mixed.T + np.outer(s, s) * linear
    return raw - np.outer(s, s)


def traces(g, modes, nu, n, rng):
    """Intensities of ``n`` pixels divided by their mean, (n_t, n): complex Gaussian fields, Poisson photons."""
    root = np.linalg.cholesky(g + 1e-12 * np.eye(len(g)))
    intensity = np.zeros((len(g), n))
    for _ in range(modes):
        e = root @ (rng.normal(size=(len(g), n)) + 1j * rng.normal(size=(len(g), n)))
        intensity += np.abs(e) ** 2 / (2 * modes)
    return intensity if nu == 0 else rng.poisson(intensity / nu) * nu


def products(intensity, g, modes):
    """y of every pixel over the pairs i < j, (pairs, n)."""
    i, j = np.triu_indices(len(g), 1)
    delta = intensity - 1
    return delta[i] * delta[j] - (np.abs(g[i, j]) ** 2 / modes)[:, None] * (delta[i] + delta[j])


def kurtosis_limit(covariance, n, sigmas=4.5, excess=30.0):
    """How far a covariance from n draws may be off: ``sigmas`` standard deviations for draws of a kurtosis of ``excess``."""
    d = np.sqrt(np.diag(covariance))
    return sigmas * np.sqrt(excess / n) * np.outer(d, d)
