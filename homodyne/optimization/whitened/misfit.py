"""Whether whitened residuals are noise: a test with shapes that the parameters cannot make.

The sum of squares of uniform weights hardly notices a model that is wrong by less than the noise of a pair, and whitened weights
find such things, taking them for parameters. Under the model, t = Z^T W r of test shapes Z, less what the fit takes out of it,

    z = t - B^T (X^T W r),     B = (X^T W X)^-1 X^T W Z,

is noise of known covariance, from the same traces as the errors (a score test; C. R. Rao, Proc. Camb. Phil. Soc. 44, 50 (1948)).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import chdtrc

from homodyne.optimization.normal import Linearization
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.uncertainty.design import inverse_gram
from homodyne.optimization.whitened.passes import Noise


def p_value(at: Linearization, scaling: Scaling, moved: np.ndarray, noise: Sequence[Noise]) -> float:
    """Probability of residuals that do as badly in the tests, or worse, if model and noise are what the fit says.

    Args:
        at: the whitened linearization at the solution. moved: (p,) bool, parameters that were free and not at a bound.
        noise: of every sector, its tests against the contrast and offset of ``at``.
    """
    free = np.flatnonzero(moved)
    a = np.hstack([at.theta_jacobian[:, free], at.scaling_jacobian])
    maps = [_columns(at, scaling, free, k) for k in range(len(noise))]
    inverse = inverse_gram(a, np.linalg.norm(a, axis=0)).inverse
    slope = inverse @ np.sum([m.T @ n.cross.T for m, n in zip(maps, noise, strict=True)], axis=0)
    z = np.sum([n.tests for n in noise], axis=0)  # at the solution, where X^T W r = 0
    rows = [n.test_root - n.root @ m @ slope for m, n in zip(maps, noise, strict=True)]
    covariance = np.sum([r.T @ r for r in rows], axis=0)
    sd = np.sqrt(np.diag(covariance))
    if not np.all(sd > 0):
        return 1.0
    x = z / sd
    statistic = float(x @ np.linalg.pinv(covariance / np.outer(sd, sd), rcond=1e-6, hermitian=True) @ x)
    return float(chdtrc(len(z), statistic))


def _columns(at: Linearization, scaling: Scaling, free: np.ndarray, k: int) -> np.ndarray:
    """How the columns of theta and the scaling in sector ``k`` are made of X = [s, 1, ds/dtheta], (p + 2, f + b)."""
    p = at.theta_jacobian.shape[1]
    out = np.zeros((p + 2, len(free) + scaling.n_free))
    out[free + 2, np.arange(len(free))] = at.scaling[k, 0]
    out[:2, len(free) :] = scaling.basis[k]
    return out
