"""Scatter of the scores: how the noise of speckle moves the sums that a least-squares fit is made of.

A fit is linear in small noise: with X = [s, 1, ds/dtheta] (see ``moments``) it depends on the data through the scores

    q_l = sum_(i<j) X_l,ij (c2_ij - <c2_ij>),        c2_ij = <I_i I_j> / (<I_i> <I_j>), averages over P pixels.

To first order in 1 / P the score is the mean over pixels of a quadratic form of the intensity fluctuations delta,

    Q_l = sum_(i<j) X_l,ij (delta_i delta_j - contrast s_ij (delta_i + delta_j)),

the second part from the normalization by the frame means, so Cov(q) = Cov(Q of one pixel) / P. The covariance over
traces drawn from the fitted model is an estimate of it; no noise of c2 needs to be Gaussian or independent. With
X_m = sum_c f_c (P_cm[j] - P_cm[i]) a form costs matrix products with the few fields f_c, not with every X_l.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from homodyne.models import Model
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import BlockSource, sector_q
from homodyne.optimization.uncertainty.forms import AngleForms
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.uncertainty.traces import Nodes, choose_nodes, group_coherence, intensity_traces

# Multiplications for the forms, and for the modes, of all angles together, which bound the traces of an angle between
# these: a variance from T traces is good to sqrt((kurtosis - 1) / T), and forms of slow speckle have kurtoses of 10.
_FORMS, _MODES, _LEAST, _MOST = 1e10, 4e10, 256, 1024


@dataclasses.dataclass(frozen=True)
class Scores:
    """What noise does to the scores of every angle.

    Attributes:
        roots: for every angle (T, p + 2); root^T root = Cov(q), columns s, 1, ds/dtheta, in units of c2 (weights of
            points included where they have their own, otherwise not).
        chi2_mean, chi2_sd: expected sum of squared noise of every angle, and its standard deviation, (n_phi,); same units.
        nodes: the frames that were used.
        second_order: what means over a finite number of pixels change of chi2, about, in parts, (n_phi,).
    """

    roots: list[np.ndarray]
    chi2_mean: np.ndarray
    chi2_sd: np.ndarray
    nodes: Nodes
    second_order: np.ndarray | float = 0.0


@dataclasses.dataclass(frozen=True)
class Absorbed:
    """Columns of X that every angle's residuals are free of.

    Attributes: columns: their positions. inverse: (n_phi, c, c), of X^T X of these columns, by angle.
    """

    columns: np.ndarray
    inverse: np.ndarray

    def taken_out(self, products: np.ndarray, forms: np.ndarray, k: int) -> np.ndarray:
        """Products of the noise of traces without its share in the columns; the forms are X^T of the noise."""
        share = forms[: len(products), self.columns]
        return products - share @ self.inverse[k] @ share.T


def _variance(products: np.ndarray) -> float:
    """2 tr C**2 from the products of different traces."""
    n = len(products)
    return float(2 * ((products**2).sum() - (np.diag(products) ** 2).sum()) / (n * (n - 1)))


def draw_scores(
    model: Model,
    theta: np.ndarray,
    source: BlockSource,
    noise: SpeckleNoise,
    min_lag: int,
    seed: int = 0,
    absorbed: Absorbed | None = None,
) -> Scores:
    """Scores of every angle at the fitted ``theta`` (p,) for the noise found; reads the data once, for masked points.

    Args:
        absorbed: what the fit takes out of every angle's residuals, for ``chi2_sd``.
    """
    nodes = choose_nodes(model, theta, source)
    n_phi = len(source.phi)
    work = n_phi * len(nodes.frames) ** 2
    n_traces = int(np.clip(_FORMS / (2 * (1 + len(model.channels)) * work), _LEAST, _MOST))
    most_modes = int(_MODES / (2 * work))
    # by the order of the angles, so that their order in the file does not matter
    rank = np.argsort(np.lexsort((np.asarray(source.phi), sector_q(source))))

    def of_angle(k: int) -> tuple[np.ndarray, float, float]:
        rng = np.random.default_rng([seed, int(rank[k])])
        angle = AngleForms(model, theta, source, k, nodes, min_lag)
        coherence = group_coherence(model, theta, source, k, nodes)
        contrast, nu = float(noise.contrast[k]), noise.nu[k] / nodes.sizes
        delta = intensity_traces(angle.g1, contrast, nu, coherence, n_traces, most_modes, rng)
        forms, products = angle.evaluate(delta, contrast)
        unit = noise.offset[k] / np.sqrt(noise.pixels[k])
        centered = (forms - forms.mean(0)) @ angle.to_theta
        if absorbed is not None:
            products = absorbed.taken_out(products, centered, k)
        root = centered * (unit / np.sqrt(n_traces - 1))
        mean = unit**2 * angle.squares(contrast, nu)
        return root, mean, float(unit**2 * np.sqrt(_variance(products)))

    # an angle a thread, and one thread each in the library of linear algebra: its own wait for each other when there are
    # more of them than processors
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_workers()) as pool:
        roots, mean, sd = zip(*pool.map(of_angle, range(n_phi)), strict=True)
    return Scores(list(roots), np.array(mean), np.array(sd), nodes, 2 * (noise.contrast + noise.nu) / noise.pixels)
