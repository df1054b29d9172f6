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
from homodyne.optimization.whitened.sector import TESTS, Columns, Pairs, coherence, read_pairs
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
class Noise:
    """What the noise of speckle does to the scores of one sector, and how its residuals do in the tests.

    Attributes:
        root: (T, p + 2), see ``uncertainty.scores.Scores.roots``; weights included, so that it goes with sigma = 1.
        tests: (TESTS,), Z^T W r of the test shapes Z. test_root: (T, TESTS), of these. cross: (TESTS, p + 2), Z^T W X.
    """

    root: np.ndarray
    tests: np.ndarray
    test_root: np.ndarray
    cross: np.ndarray


def _untold(n_points: int) -> None:
    """Nobody wants to know how far a pass is."""


def whitened_pass(
    light: Light, pilot: np.ndarray, theta: np.ndarray, reference: np.ndarray, tell: Callable[[int], None] = _untold
) -> PassSums:
    """Sums of X^T W X, X = [s, 1, ds/dtheta, r] at ``theta``, W that of ``pilot``; r against ``reference`` (n_phi, 2).

    Args:
        tell: is called with the points of every sector that is done.
    """

    def of_sector(k: int) -> tuple[np.ndarray, int, np.ndarray]:
        pairs, columns, weights = whitened_sector(light, pilot, theta, k)
        m, residual = columns.size, columns.residual(reference[k])
        gram = np.zeros((m + 1, m + 1))
        for row, x in enumerate(itertools.chain(columns.plain(), columns.channels(), [residual])):
            y = weights.apply(x)
            gram[row, :m] = columns.sums(pairs.masked(y))
            gram[row, m] = 0.5 * np.vdot(residual, y)
        tell(pairs.count)
        return 0.5 * (gram + gram.T), pairs.count, columns.to_parameters

    found = light.each_sector(of_sector)
    gram = np.array([gram for gram, *_ in found]) * light.strength[:, None, None]
    factors = factors_from_moments(gram) @ np.array([spread for *_, spread in found])
    return PassSums(factors, np.array([float(count) for _, count, _ in found]), reference)


def noise_pass(
    light: Light, pilot: np.ndarray, theta: np.ndarray, reference: np.ndarray, tell: Callable[[int], None] = _untold
) -> list[Noise]:
    """The noise of every sector's scores at ``theta``, from traces of single pixels, and the tests of its residuals."""
    n_phi, n_t = len(light.source.phi), len(light.source.t)
    n_traces = int(np.clip(_FORMS / (n_phi * n_t**2), _LEAST, _MOST))
    # by the order of the sectors, so that their order in the file does not matter
    rank = np.argsort(np.lexsort((np.asarray(light.source.phi), sector_q(light.source))))

    def of_sector(k: int) -> Noise:
        pairs, columns, weights = whitened_sector(light, pilot, theta, k)
        residual, contrast, m = columns.residual(reference[k]), float(light.noise.contrast[k]), columns.size
        delta = _traces(light, theta, k, pairs, n_traces, int(rank[k]))
        forms, tests, cross = np.empty((n_traces, m + TESTS)), np.empty(TESTS), np.empty((TESTS, m))
        for row, x in enumerate(itertools.chain(columns.plain(), columns.channels(), columns.tests())):
            y = pairs.masked(weights.apply(x))
            forms[:, row] = _forms(y, delta, columns.s, contrast)
            if row >= m:
                tests[row - m], cross[row - m] = 0.5 * np.vdot(residual, y), columns.sums(y)
        strength, spread = float(light.strength[k]), columns.to_parameters[:-1, :-1]
        unit = strength * light.noise.offset[k] / np.sqrt(light.noise.pixels[k] * (n_traces - 1))
        forms = float(unit) * (forms - forms.mean(0))
        tell(pairs.count)
        return Noise(forms[:, :m] @ spread, strength * tests, forms[:, m:], strength * cross @ spread)

    return light.each_sector(of_sector)


def whitened_sector(
    light: Light, pilot: np.ndarray, theta: np.ndarray, k: int, frames: np.ndarray | None = None
) -> tuple[Pairs, Columns, FrameWeights]:
    """Data of sector ``k``, of all frames or of some, the columns at ``theta`` and the weights of ``pilot``."""
    pairs = read_pairs(light.source, k, light.min_lag, frames)
    columns = Columns(light.model, theta, light.source, k, pairs, light.free)
    same = np.array_equal(theta, pilot)
    signal = columns.s if same else Columns(light.model, pilot, light.source, k, pairs, light.free).s
    return pairs, columns, light.weights(signal, k)


def _forms(y: np.ndarray, delta: np.ndarray, s: np.ndarray, contrast: float) -> np.ndarray:
    """sum over i < j of y_ij (delta_i delta_j - contrast s_ij (delta_i + delta_j)) of every trace, (T,)."""
    # in single precision, twice as fast: what they scatter by is known to a few percent
    products = 0.5 * np.einsum("it,it->t", delta, y.astype(np.float32) @ delta.astype(np.float32))
    return np.asarray(products - contrast * (delta.T @ np.einsum("ij,ij->i", y, s)))


def _traces(light: Light, theta: np.ndarray, k: int, pairs: Pairs, n: int, rank: int) -> np.ndarray:
    """Intensity fluctuations of ``n`` pixels of sector ``k``, (frames, n)."""
    g1 = coherence(light.model, theta, light.source, k, pairs)
    size, rng = len(pairs.frames), np.random.default_rng([9, rank])
    nu = np.full(size, light.noise.nu[k])
    return intensity_traces(g1, float(light.noise.contrast[k]), nu, np.ones(size), n, _MODES, rng)
