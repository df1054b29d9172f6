"""The log-likelihood of theta from a summary of the data, with contrast and offset eliminated, calibrated to be honest.

Least squares takes pairs for independent, which they are not: its likelihood is too narrow. With H the Gauss-Newton matrix
of chi2 / 2 at the fit and V the covariance that the noise gives the estimate (see uncertainty/), the likelihood

    log L(theta) = -1/2 [chi2(theta) - chi2(theta_0)] (d V^-1 d) / (d H d)

has the covariance V where the model is linear, keeps the shape of chi2 where it is not, and is largest at the fit
(Chandler and Bate, Biometrika 94 (2007) 167). The displacement d is taken in the space of the data, d = H^-1 A^T D(theta)
with D the change of the model and A its derivatives at the fit, so that it follows a curved valley.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Geometry, Model
from homodyne.optimization.posterior.metric import Metric
from homodyne.optimization.posterior.pairs import pair_signal
from homodyne.optimization.posterior.summary import Summary
from homodyne.optimization.posterior.sums import Sums
from homodyne.optimization.source import BlockSource, sector_geometries


class Change(NamedTuple):
    """From the fit to theta: chi2 of every sector (n_phi,), signal in the summary's space (n_phi, R), contrast and offset (n_phi, 2).

    ``made_up`` is the part of the scaling's change that only makes up for that of the signal, whatever the noise.
    """

    chi2: jax.Array
    signal: jax.Array
    scaling: jax.Array
    made_up: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("summary", "theta", "scaling", "basis", "weight", "t", "geometry"),
    meta_fields=("model", "free", "separate"),
)
@dataclasses.dataclass(frozen=True)
class Misfit:
    """chi2 as a function of the free parameters.

    Attributes:
        model; free: positions of the f free parameters. separate: every sector has its own contrast and offset.
        summary: of the data. theta: the fit, (p,). scaling: contrast and offset there, (n_phi, 2).
        basis: how these depend on the free numbers of the scaling, (n_phi, 2, b). weight: of the sums of every sector, (n_phi,).
        t, geometry: of the data.
    """

    model: Model
    free: tuple[int, ...]
    separate: bool
    summary: Summary
    theta: jax.Array
    scaling: jax.Array
    basis: jax.Array
    weight: jax.Array
    t: jax.Array
    geometry: Geometry

    def whole(self, free: jax.Array) -> jax.Array:
        """theta (p,) from the free parameters (f,)."""
        return self.theta.at[jnp.array(self.free, dtype=int)].set(free)

    def feasible(self, free: jax.Array) -> jax.Array:
        """Whether every rate that must be positive is, on all frames."""
        phi, q = jnp.asarray(self.geometry.phi), jnp.asarray(self.geometry.q)
        first = self.geometry._replace(phi=phi[0], q=q[0])
        rates = zip(self.model.rates, self.model.rate_values(self.whole(free), self.t, first), strict=True)
        return jnp.all(jnp.array([True, *(jnp.all(v > 0) for r, v in rates if r.positive)]))

    def change(self, free: jax.Array) -> Change:
        """How chi2, contrast and offset differ from those of the fit, at the best contrast and offset."""
        of, c = self.summary, self.scaling[:, 0]
        s = pair_signal(self.model, self.whole(free), self.t, self.geometry, of.rows, of.cols)
        ds = jnp.einsum("krm,km->kr", of.interpolation, s - of.signal)
        square = jnp.sum(ds**2, 1)
        with_s, with_one, with_r = (jnp.sum(ds * x, 1) for x in (of.with_s, of.with_one, of.with_r))
        corner = of.at_fit[:, 0, 1] + with_one
        first = of.at_fit[:, 0, 0] + 2 * with_s + square
        gram = jnp.stack([jnp.stack([first, corner], -1), jnp.stack([corner, of.at_fit[:, 1, 1]], -1)], -2)
        against = -jnp.stack([c * (with_s + square), c * with_one], -1)
        wanted = against + of.at_fit[:, :2, 2] + jnp.stack([with_r, jnp.zeros_like(with_r)], -1)
        best, made_up = self._best(gram, wanted), self._best(gram, against)
        chi2 = c * (c * square - 2 * with_r) - 2 * jnp.sum(best * wanted, -1)
        chi2 += jnp.einsum("ki,kij,kj->k", best, gram, best)
        return Change(chi2 * self.weight, ds, best, made_up)

    def _best(self, gram: jax.Array, wanted: jax.Array) -> jax.Array:
        """Change of contrast and offset, (n_phi, 2), within what the scaling allows."""
        if self.basis.shape[-1] == 0:
            return jnp.zeros_like(wanted)
        if self.separate:
            (a, b), d = (gram[:, 0, 0], gram[:, 0, 1]), gram[:, 1, 1]
            x, y = wanted.T
            return jnp.stack([d * x - b * y, a * y - b * x], -1) / (a * d - b**2)[:, None]
        normal = jnp.einsum("k,kib,kij,kjc->bc", self.weight, self.basis, gram, self.basis)
        return self.basis @ jnp.linalg.solve(normal, jnp.einsum("k,kib,ki->b", self.weight, self.basis, wanted))

    def projection(self, change: Change) -> jax.Array:
        """A^T D, (f,): with H^-1 before it the step that a linear model would need for this change."""
        of_signal = jnp.einsum("krf,kr->kf", self.summary.with_columns, change.signal)
        columns = self.summary.at_fit[:, 3:, :2]
        c, (contrast, offset) = self.scaling[:, 0], change.made_up.T
        of_s = columns[..., 0] + of_signal
        score = c[:, None] * of_signal + contrast[:, None] * of_s + offset[:, None] * columns[..., 1]
        return jnp.einsum("k,kf->f", self.weight * c, score)

    def hessians(self) -> np.ndarray:
        """H of every sector, contrast and offset eliminated where each has its own, (n_phi, f, f); their sum is H then."""
        own = self._unprojected()
        if not self.separate:
            return own
        mixed = self._at(slice(3, None), slice(0, 2)) * np.asarray(self.scaling)[:, :1, None]
        taken = np.einsum("kfi,kij,kgj->kfg", mixed, np.linalg.inv(self._at(slice(0, 2), slice(0, 2))), mixed)
        return own - taken * np.asarray(self.weight)[:, None, None]

    def hessian(self) -> np.ndarray:
        """H (f, f), the Gauss-Newton matrix of chi2 / 2 with the scaling eliminated."""
        if self.separate or self.basis.shape[-1] == 0:
            return self.hessians().sum(0)
        weight, basis = np.asarray(self.weight), np.asarray(self.basis)
        mixed = np.einsum(
            "k,kfi,kib->fb", weight * np.asarray(self.scaling)[:, 0], self._at(slice(3, None), slice(0, 2)), basis
        )
        normal = np.einsum("k,kib,kij,kjc->bc", weight, basis, self._at(slice(0, 2), slice(0, 2)), basis)
        return self._unprojected().sum(0) - mixed @ np.linalg.solve(normal, mixed.T)

    def _unprojected(self) -> np.ndarray:
        unit = np.asarray(self.weight) * np.asarray(self.scaling)[:, 0] ** 2
        return self._at(slice(3, None), slice(3, None)) * unit[:, None, None]

    def _at(self, rows: slice, cols: slice | int) -> np.ndarray:
        """Sums at the fit, of s, 1, r, ds/dtheta."""
        return np.asarray(self.summary.at_fit)[:, rows, cols]

    def scores(self) -> np.ndarray:
        """A^T r of every sector at the fit, (n_phi, f): they add up to zero at the optimum."""
        return self._at(slice(3, None), 2) * (np.asarray(self.weight) * np.asarray(self.scaling)[:, 0])[:, None]

    def of(self, sectors: np.ndarray) -> Misfit:
        """The same of some sectors; each has its own contrast and offset, or fixed ones."""
        n_basis = 2 * len(sectors) if self.basis.shape[-1] else 0
        phi, q = jnp.asarray(self.geometry.phi), jnp.asarray(self.geometry.q)
        return dataclasses.replace(
            self, summary=self.summary.of(sectors), scaling=self.scaling[sectors], weight=self.weight[sectors],
            basis=jnp.zeros((len(sectors), 2, n_basis)),
            geometry=self.geometry._replace(phi=phi[sectors], q=q[sectors]),
        )  # fmt: skip


def make_misfit(sums: Sums, source: BlockSource, summary: Summary, basis: np.ndarray) -> Misfit:
    """chi2 from a summary.

    Args:
        sums: what the summary was made of. basis: of the scaling, (n_phi, 2, b), see ``Scaling``.
    """
    model, fit = sums.model, sums.fit
    owners = np.count_nonzero(np.any(basis != 0, axis=1), axis=0)
    return Misfit(
        model,
        tuple(int(i) for i in np.flatnonzero(fit.free)),
        basis.shape[2] == 2 * len(basis) and bool(np.all(owners == 1)),
        summary,
        jnp.asarray(fit.theta),
        jnp.asarray(fit.scaling),
        jnp.asarray(basis),
        jnp.asarray(sums.weight),
        jnp.asarray(source.t, dtype=float),
        jax.tree.map(jnp.asarray, sector_geometries(model, source)),
    )


def log_likelihood(misfit: Misfit, metric: Metric, free: jax.Array) -> jax.Array:
    """See the module docstring; -inf where a rate has the wrong sign."""
    change = misfit.change(free)
    d = metric.inverse @ misfit.projection(change)
    value = -0.5 * change.chi2.sum() * metric.ratio(d)
    return jnp.where(misfit.feasible(free) & jnp.isfinite(value), value, -jnp.inf)
