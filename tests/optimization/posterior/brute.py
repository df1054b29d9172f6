"""chi2 at any theta straight from all pairs, with the NumPy reference and ordinary least squares for contrast and offset."""

from __future__ import annotations

import numpy as np

from tests.optimization.uncertainty.dense import _terms
from tests.reference import g1_squared


def chi2(source, theta, mode="individual", fixed=None, min_lag=1, frames=None):
    """Weighted residual sum of squares, of some frames or all, at the best contrast and offset that the scaling mode allows."""
    i, j = np.triu_indices(len(source.t), 1)
    if frames is not None:
        some = np.isin(i, frames) & np.isin(j, frames)
        i, j = i[some], j[some]
    keep = j - i >= min_lag
    terms = _terms(mode, source.phi)
    base = np.zeros((len(source.phi), 2)) if mode != "constant" else fixed
    rows, target = [], []
    for k, phi in enumerate(source.phi):
        y = source.c2[k][i, j]
        sigma = np.full(len(i), source.sigma[k]) if source.sigma_points is None else source.sigma_points[k][i, j]
        valid = keep & np.isfinite(y) & (sigma > 0)
        s = g1_squared(list(theta), source.t, phi, source.q, source.gap).real[i, j][valid]
        linear = np.column_stack([s, np.ones_like(s)]) / sigma[valid, None]
        rows.append(linear @ terms[k])
        target.append(y[valid] / sigma[valid] - linear @ base[k])
    a, b = np.concatenate(rows), np.concatenate(target)
    beta = np.linalg.lstsq(a, b, rcond=None)[0]
    return float(((b - a @ beta) ** 2).sum())
