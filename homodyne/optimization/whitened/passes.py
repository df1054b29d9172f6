"""Sums of a whitened fit, sector by sector: what ``normal.linearize`` needs, and what noise does to it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from homodyne.models import Model
from homodyne.optimization.normal import PassSums, factors_from_moments
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import BlockSource, sector_q
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.uncertainty.traces import intensity_traces
from homodyne.optimization.whitened.sector import Columns, Pairs, coherence, read_pairs
from homodyne.optimization.whitened.weights import FrameWeights, frame_weights

T = TypeVar("T")

# Multiplications of the forms of a column with the traces of all sectors, which bound the traces of a sector between these.
_FORMS, _LEAST, _MOST = 4e9, 256, 768
# Modes in the pool of which traces are made: with more the scatter of the pool is not smaller.
_MODES = 2048
# Up to this many frames a sector a thread; above, one sector at a time with all threads in its matrix products.
_ALONE = 2000


@dataclasses.dataclass(frozen=True)
class Light:
    """Data, model, and what the weights are made of.

    Attributes:
        noise: of the light, as a pilot fit found it. ridge: added to Sigma's diagonal, in units of the contrast.
        longest: most frames that are whitened together. free: which parameters move, (p,) bool.
    """

    source: BlockSource
    model: Model
    min_lag: int
    noise: SpeckleNoise
    ridge: float
    longest: int
    free: np.ndarray

    @property
    def strength(self) -> np.ndarray:
        """P / offset**2 of every sector: by which its sums weigh, (n_phi,)."""
        return np.asarray(self.noise.pixels / self.noise.offset**2)

    def weights(self, signal: np.ndarray, k: int) -> FrameWeights:
        """W of sector ``k``: Sigma = contrast s + (nu + ridge contrast) 1."""
        contrast = float(self.noise.contrast[k])
        sigma = contrast * signal
        sigma[np.diag_indices(len(sigma))] += float(self.noise.nu[k]) + self.ridge * contrast
        return frame_weights(sigma, self.longest)

    def each_sector(self, work: Callable[[int], T]) -> list[T]:
        """``work`` of every sector, in threads."""
        if len(self.source.t) > _ALONE:
            return [work(k) for k in range(len(self.source.phi))]
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_workers()) as pool:
            return list(pool.map(work, range(len(self.source.phi))))


@dataclasses.dataclass(frozen=True)
class _OfSector:
    gram: np.ndarray
    count: int
    spread: np.ndarray
    root: np.ndarray | None


def whitened_pass(
    light: Light, pilot: np.ndarray, theta: np.ndarray, reference: np.ndarray, with_roots: bool = False
) -> tuple[PassSums, list[np.ndarray]]:
    """Sums of X^T W X, X = [s, 1, ds/dtheta, r] at ``theta``, W that of ``pilot``; r against ``reference`` (n_phi, 2).

    Args:
        with_roots: also what the noise of speckle does to the scores X^T W r, see ``uncertainty.scores.Scores.roots``;
            weights included, so that they go with sigma = 1.
    """
    n_phi, n_t = len(light.source.phi), len(light.source.t)
    n_traces = int(np.clip(_FORMS / (n_phi * n_t**2), _LEAST, _MOST)) if with_roots else 0
    strength = light.strength
    # by the order of the sectors, so that their order in the file does not matter
    rank = np.argsort(np.lexsort((np.asarray(light.source.phi), sector_q(light.source))))

    def of_sector(k: int) -> _OfSector:
        pairs = read_pairs(light.source, k, light.min_lag)
        columns = Columns(light.model, theta, light.source, k, pairs, light.free)
        same = np.array_equal(theta, pilot)
        signal = columns.s if same else Columns(light.model, pilot, light.source, k, pairs, light.free).s
        delta = _traces(light, theta, k, pairs, n_traces, int(rank[k])) if with_roots else None
        return _sums(light, k, pairs, columns, light.weights(signal, k), columns.residual(reference[k]), delta)

    found = light.each_sector(of_sector)
    gram = np.array([one.gram for one in found]) * strength[:, None, None]
    factors = factors_from_moments(gram) @ np.array([one.spread for one in found])
    roots = [one.root * strength[k] for k, one in enumerate(found) if one.root is not None]
    return PassSums(factors, np.array([float(one.count) for one in found]), reference), roots


def _sums(
    light: Light,
    k: int,
    pairs: Pairs,
    columns: Columns,
    weights: FrameWeights,
    residual: np.ndarray,
    delta: np.ndarray | None,
) -> _OfSector:
    """X^T W X of one sector, and X^T W of the noise of traces."""
    m, contrast = columns.size, float(light.noise.contrast[k])
    gram = np.zeros((m + 1, m + 1))
    forms = None if delta is None else np.empty((delta.shape[1], m))
    for row, x in enumerate(itertools.chain(columns.plain(), columns.channels(), [residual])):
        y = pairs.masked(weights.apply(x))
        gram[row, :m] = columns.sums(y)
        gram[row, m] = 0.5 * np.vdot(residual, y)
        if forms is not None and delta is not None and row < m:
            forms[:, row] = _forms(y, delta, columns.s, contrast)
    root = None
    if forms is not None:
        unit = float(light.noise.offset[k] / np.sqrt(light.noise.pixels[k] * (len(forms) - 1)))
        root = unit * (forms - forms.mean(0)) @ columns.to_parameters[:-1, :-1]
    return _OfSector(0.5 * (gram + gram.T), pairs.count, columns.to_parameters, root)


def _forms(y: np.ndarray, delta: np.ndarray, s: np.ndarray, contrast: float) -> np.ndarray:
    """sum over i < j of y_ij (delta_i delta_j - contrast s_ij (delta_i + delta_j)) of every trace, (T,)."""
    products = 0.5 * np.einsum("it,it->t", delta, y @ delta)
    return np.asarray(products - contrast * (delta.T @ np.einsum("ij,ij->i", y, s)))


def _traces(light: Light, theta: np.ndarray, k: int, pairs: Pairs, n: int, rank: int) -> np.ndarray:
    """Intensity fluctuations of ``n`` pixels of sector ``k``, (frames, n)."""
    g1 = coherence(light.model, theta, light.source, k, pairs)
    size, rng = len(pairs.frames), np.random.default_rng([9, rank])
    nu = np.full(size, light.noise.nu[k])
    return intensity_traces(g1, float(light.noise.contrast[k]), nu, np.ones(size), n, _MODES, rng)
