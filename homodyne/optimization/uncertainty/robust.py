"""What a robust loss changes in errors: which pairs count, by how much, and what the noise of speckle makes of that.

The estimate solves sum psi(z) J = 0, z = residual / sigma. To first order in the noise it moves by H^-1 times the scores,

    H = sum psi'(z) J J^T,     Cov(scores) = sum over pairs of pairs  Cov(psi(z_a), psi(z_b)) J_a J_b^T,

a sandwich (Huber and Ronchetti, Robust Statistics, 2009, ch. 3). Frames and speckle correlate the noise of different pairs,
whose covariance is that of the linear part of psi: by Price's theorem Cov(psi(z_a), psi(z_b)) = E psi' E psi' Cov(z_a, z_b)
to first order in the correlation. So the forms of ``scores`` weighted with psi'(z) give all of it but the diagonal a = b,
where psi**2 itself is known from the last pass: what it exceeds the linear part by, outliers included, is added as noise
that pairs do not share.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.fields import mode_weights
from homodyne.models import Model
from homodyne.optimization.channels import Frames, Side, frame_values, kernel_fields, take
from homodyne.optimization.loss import TERMS, Loss
from homodyne.optimization.normal import Linearization
from homodyne.optimization.source import BlockSource, sector_geometries, sector_signal
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.uncertainty.scores import Scores

# Deviations, in robust standard deviations of an angle's residuals, that are no speckle noise.
_FAR = 4.5
_MAD_TO_SIGMA = 1.4826
# Frames, evenly spaced, whose pairs stand for all where a mean over pairs is needed; nodes of the tables and quadratures.
_FRAMES, _TABLE, _NODES, _REACH = 256, 64, 2001, 8.0


def scatter(z: np.ndarray) -> np.ndarray:
    """Robust standard deviation of the residuals of every angle, (n_phi,), from (n_phi, m, m) with NaN where invalid."""
    flat = z.reshape(len(z), -1)
    middle = np.array([np.median(np.abs(row[np.isfinite(row)])) if np.isfinite(row).any() else np.nan for row in flat])
    return _MAD_TO_SIGMA * middle


@dataclasses.dataclass(frozen=True, eq=False)
class Counted:
    """A source as a robust fit counts it: pairs that no noise explains are NaN, others weigh by their curvature psi'.

    It has what ``BlockSource`` asks for. ``spread``: from ``scatter``, (n_phi,); pairs beyond 4.5 of it are NaN.
    """

    source: BlockSource
    model: Model
    theta: np.ndarray
    scaling: np.ndarray
    loss: Loss
    spread: np.ndarray

    @property
    def phi(self) -> np.ndarray:
        """Of the source, as the others."""
        return self.source.phi

    @property
    def t(self) -> np.ndarray:
        """Frame times [s]."""
        return self.source.t

    @property
    def q(self) -> float | np.ndarray:
        """Wave vector [1/angstrom]."""
        return self.source.q

    @property
    def gap(self) -> float | None:
        """Gap [angstrom]."""
        return self.source.gap

    @property
    def dt(self) -> float:
        """Frame spacing [s]."""
        return self.source.dt

    @property
    def sigma(self) -> np.ndarray:
        """Noise per angle."""
        return self.source.sigma

    @property
    def attrs(self) -> dict:
        """What the file says beside."""
        return getattr(self.source, "attrs", {})

    def read_block(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """c2, NaN where a pair is beyond all noise, or a diagonal element is."""
        c2, z = self._residuals(k, rows, cols)
        i, j = _numbers(rows, cols)
        above = j[None, :] > i[:, None]
        c2 = np.where(above & (np.abs(z) > _FAR * self.spread[k]), np.nan, c2)
        on = j[None, :] == i[:, None]
        values = c2[on]
        if np.isfinite(values).any():
            away = np.abs(values - np.nanmedian(values))
            c2[on] = np.where(away > _FAR * _MAD_TO_SIGMA * np.nanmedian(away), np.nan, values)
        return c2

    def read_sigma(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """Noise per point over the root of the curvature."""
        _, z = self._residuals(k, rows, cols)
        curvature = np.asarray(self.loss.weights(np.nan_to_num(z))[1])
        sigma = self.source.read_sigma(k, rows, cols)
        return np.asarray((1.0 if sigma is None else np.asarray(sigma)) / np.sqrt(curvature))

    def _residuals(self, k: int, rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        """c2 and (c2 - model) / sigma; both NaN where a point has no weight."""
        c2 = np.array(self.source.read_block(k, rows, cols), dtype=float)
        sigma = self.source.read_sigma(k, rows, cols)
        unit = float(self.source.sigma[k]) * (1.0 if sigma is None else np.asarray(sigma, dtype=float))
        i, j = _numbers(rows, cols)
        side = self._sides[k]
        early, late = (
            tuple(take(f, jnp.asarray(x[0]), len(x)) for f in part) for part, x in ((side.early, i), (side.late, j))
        )
        model = self.scaling[k, 1] + self.scaling[k, 0] * np.asarray(_signal(self.model, early, late))
        with np.errstate(invalid="ignore", divide="ignore"):
            z = np.where(unit > 0, (c2 - model) / unit, np.nan)
        return np.where(unit > 0, c2, np.nan), z

    @cached_property
    def _sides(self) -> list[Side]:
        """Channels of every angle on all frames."""
        frames, t = np.arange(len(self.t)), np.asarray(self.t)
        whole = frame_values(self.model, self.theta, t, frames, sector_geometries(self.model, self.source), len(frames))
        return [
            Side(*(tuple(Frames(*(a[k] for a in f)) for f in part) for part in whole)) for k in range(len(self.phi))
        ]


def _numbers(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(rows.start, rows.stop), np.arange(cols.start, cols.stop)


@partial(jax.jit, static_argnames=("model",))
def _signal(model: Model, early: tuple[Frames, ...], late: tuple[Frames, ...]) -> jax.Array:
    return kernel_fields(model, early, late)[0]


def pair_variance(s: np.ndarray, contrast: float, nu: float) -> np.ndarray:
    """Variance of the noise of c2 of one pixel at pairs with signal ``s``, in closed form; see ``forms.AngleForms.squares``."""
    w = mode_weights(contrast)
    w3, w4, c = float((w**3).sum()), float((w**4).sum()), contrast
    plain = c**2 + 2 * c * nu + nu**2
    once = 4 * w4 + 4 * w3 * nu + c * nu**2
    twice = 2 * w4 + c**2 - 8 * c * w3 + 2 * c**3 - 2 * c**2 * nu
    return plain + s * (once + s * (twice + s * 2 * c**3))


def expected_terms(loss: Loss, variance: np.ndarray) -> np.ndarray:
    """Means of ``Loss.terms`` over normal z of the given variances (n,), and of curvature**2 times variance; (7, n)."""
    low, high = float(variance.min()), float(variance.max())
    table = np.geomspace(low, high, _TABLE) if high > low else np.array([low])
    x = np.linspace(-_REACH, _REACH, _NODES)
    density = np.exp(-0.5 * x**2)
    density /= density.sum()
    z = np.sqrt(table)[:, None] * x
    terms = np.asarray(loss.terms(z))
    means = np.concatenate([terms, (terms[TERMS.index("curvature")] ** 2 * table[:, None])[None]]) @ density
    return np.stack([np.interp(np.log(variance), np.log(table), row) for row in means])


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the noise of speckle alone makes of the loss's terms, by angle, (n_phi,) each: sums over the valid pairs.

    Attributes:
        cost: c**2 rho. core: squares of the pairs that keep half their influence. aside: number of those that do not.
        psi2: psi**2. linear: psi'**2 times the variance.
    """

    cost: np.ndarray
    core: np.ndarray
    aside: np.ndarray
    psi2: np.ndarray
    linear: np.ndarray


def expected(counted: Counted, noise: SpeckleNoise, at: Linearization, min_lag: int) -> Expected:
    """Means over the pairs of evenly spaced frames, times the number of valid pairs."""
    n = len(counted.t)
    frames = np.unique(np.linspace(0, n - 1, min(n, _FRAMES)).astype(int))
    pick = np.triu(frames[None, :] - frames[:, None] >= min_lag)
    sums = []
    for k in range(len(counted.phi)):
        s = sector_signal(counted.model, counted.theta, counted.source, k, frames)[pick]
        per_pixel = pair_variance(s, float(noise.contrast[k]), float(noise.nu[k]))
        unit = noise.offset[k] / (np.sqrt(noise.pixels[k]) * float(counted.sigma[k]))
        variance = unit**2 * per_pixel / _points_squared(counted.source, k, frames)[pick]
        usable = np.isfinite(variance)
        sums.append(at.counts[k] * expected_terms(counted.loss, np.maximum(variance[usable], 1e-30)).mean(1))
    table = dict(zip((*TERMS, "linear"), np.array(sums).T, strict=True))
    return Expected(*(table[name] for name in ("cost", "core", "aside", "psi2", "linear")))


def _points_squared(source: BlockSource, k: int, frames: np.ndarray) -> np.ndarray:
    """sigma**2 of every point where points have their own, ones elsewhere, (m, m); NaN without weight."""
    n = len(source.t)
    rows = [source.read_sigma(k, slice(int(f), int(f) + 1), slice(0, n)) for f in frames]
    if any(row is None for row in rows):
        return np.ones((len(frames), len(frames)))
    sigma = np.concatenate([np.asarray(row, dtype=float)[:, frames] for row in rows])
    return np.where(np.isfinite(sigma) & (sigma > 0), sigma, np.nan) ** 2


def with_loss(scores: Scores, expectation: Expected, at: Linearization, sigma: np.ndarray) -> Scores:
    """Scores of the forms weighted with psi', completed: the diagonal that psi**2 has beyond its linear part, and chi2.

    Args:
        sigma: noise per angle, (n_phi,).
    """
    excess = np.maximum(at.sums.term("psi2") - expectation.linear, 0.0) / np.maximum(at.sums.term("curvature"), 1e-300)
    white = (np.sqrt(excess) * sigma)[:, None, None] * at.sums.factors[:, :, :-1]
    roots = [np.concatenate([root, own]) for root, own in zip(scores.roots, white, strict=True)]
    return dataclasses.replace(scores, roots=roots, chi2_mean=expectation.cost * sigma**2)


@dataclasses.dataclass(frozen=True)
class Robust:
    """The loss of a fit and how its residuals scatter, for ``assess``; ``spread``: from ``scatter``, (n_phi,)."""

    loss: Loss
    spread: np.ndarray

    def sentence(self, at: Linearization, expectation: Expected | None) -> str:
        """For the findings: which loss, and how many pairs it sets aside."""
        n = max(1.0, float(at.counts.sum()))
        found = 100 * float(at.sums.term("aside").sum()) / n
        chance = "" if expectation is None else f", speckle noise alone {100 * expectation.aside.sum() / n:.2g} %"
        squares = float(at.sums.term("squares").sum()) / n
        return (
            f"Loss {self.loss.name}, {self.loss.scale:g} sigma: {found:.2g} % of the pairs are further than "
            f"{self.loss.limit:.3g} sigma from the model and count less than half{chance}; chi2 counts c**2 rho a pair, "
            f"the mean of plain squares is {squares:.4g}"
        )
