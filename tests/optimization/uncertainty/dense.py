"""A fit at its linearization, twice: the package's sums from the rows of a dense Jacobian, and those rows themselves."""

from __future__ import annotations

import numpy as np

from homodyne.optimization.normal import PassSums, linearize
from homodyne.optimization.scaling import make_scaling
from homodyne.optimization.uncertainty.design import make_design
from tests.reference import jacobian


class Dense:
    """One angle after the other: rows of s, ds/dtheta and data over the pairs i < j, at ``theta``.

    Attributes:
        design: of the package. a: (rows, p + b), derivatives of the model / sigma, parameters first, then the scaling.
        r: (rows,), (data - model) / sigma at the best scaling. angle: (rows,), which angle a row belongs to.
        terms: (n_phi, 2, b), contrast and offset of every angle from the free scaling parameters.
    """

    def __init__(self, source, theta, mode="individual", moved=None, min_lag=1):
        n_phi, n_t = len(source.phi), len(source.t)
        theta = np.asarray(theta, dtype=float)
        i, j = np.triu_indices(n_t, 1)
        keep = j - i >= min_lag
        self.terms = _terms(mode, source.phi)
        fixed = np.tile([0.3, 1.0], (n_phi, 1))
        self.parts = []
        for k, phi in enumerate(source.phi):
            s, ds = jacobian(theta, source.t, phi, source.q, source.gap)
            valid = keep & np.isfinite(source.c2[k][i, j])
            self.parts.append((s.real[valid], ds[valid], source.c2[k][i, j][valid]))
        # contrasts and offsets by weighted linear least squares
        sigma = np.asarray(source.sigma, dtype=float)
        linear = [np.einsum("ni,ib->nb", np.column_stack([s, np.ones_like(s)]), self.terms[k]) / sigma[k]
                  for k, (s, _, _) in enumerate(self.parts)]  # fmt: skip
        base = fixed if mode == "constant" else np.zeros((n_phi, 2))
        target = np.concatenate(
            [(y - base[k, 1] - base[k, 0] * s) / sigma[k] for k, (s, _, y) in enumerate(self.parts)]
        )
        beta = np.linalg.lstsq(np.concatenate(linear), target, rcond=None)[0]
        self.pairs = base + np.einsum("kib,b->ki", self.terms, beta)
        self.moved = np.ones(len(theta), dtype=bool) if moved is None else np.asarray(moved)
        rows = [np.hstack([self.pairs[k, 0] * ds[:, self.moved] / sigma[k], linear[k]])
                for k, (_, ds, _) in enumerate(self.parts)]  # fmt: skip
        self.a, self.r = np.concatenate(rows), target - np.concatenate(linear) @ beta
        self.angle = np.concatenate([np.full(len(x), k) for k, x in enumerate(rows)])
        stacked = [np.column_stack([s, np.ones_like(s), ds, y - 1.0 - 0.3 * s]) for s, ds, y in self.parts]
        factors = np.stack([np.linalg.qr(x, mode="r") for x in stacked])
        sums = PassSums(factors, np.array([float(len(x)) for x in stacked]), fixed)
        scaling = make_scaling(mode, source.phi, 1, fixed)
        self.design = make_design(linearize(sums, scaling, sigma), scaling, self.moved)
        self.sigma = sigma

    @property
    def f(self):
        """Number of parameters that moved."""
        return int(self.moved.sum())


def _terms(mode, phi):
    """(n_phi, 2, b)."""
    x = np.deg2rad(phi)
    columns = {
        "individual": np.eye(len(x)),
        "auto": np.ones((len(x), 1)),
        "fourier": np.stack([np.ones_like(x), np.cos(x), np.sin(x)], axis=1),
        "constant": np.zeros((len(x), 0)),
    }[mode]
    zero = np.zeros_like(columns)
    return np.stack([np.hstack([columns, zero]), np.hstack([zero, columns])], axis=1)


def solve(a, b):
    """Least squares with columns of one size, so that no digits are lost."""
    scale = np.linalg.norm(a, axis=0)
    return np.linalg.lstsq(a / scale, b, rcond=None)[0] / (scale if b.ndim == 1 else scale[:, None])
