"""Sums of a whitened fit, sector by sector: what ``normal.linearize`` needs, and what noise does to it."""

from __future__ import annotations

import dataclasses
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
from homodyne.optimization.whitened.weights import FrameWeights, blocks_of, frame_weights

T = TypeVar("T")

# Multiplications of the forms of a column with the traces of all sectors, which bound the traces of a sector between these.
_FORMS, _LEAST, _MOST = 4e9, 256, 768
# Modes in the pool of which traces are made: with more the scatter of the pool is not smaller.
_MODES = 2048


@dataclasses.dataclass(frozen=True)
class Light:
    """Data, model, and what the weights are made of.

    Attributes:
        noise: of the light, as a pilot fit found it. ridge: added to Sigma's diagonal, in units of the contrast.
        longest: most frames that are whitened together. free: which parameters move, (p,) bool.
        at_once: most sectors at work at a time.
    """

    source: BlockSource
    model: Model
    min_lag: int
    noise: SpeckleNoise
    ridge: float
    longest: int
    free: np.ndarray
    at_once: int = 1_000_000

    @property
    def strength(self) -> np.ndarray:
        """P / offset**2 of every sector: by which its sums weigh, (n_phi,)."""
        return np.asarray(self.noise.pixels / self.noise.offset**2)

    def weights(self, columns: Columns, n: int, k: int) -> FrameWeights:
        """W of sector ``k`` with ``n`` frames: Sigma = contrast s + (nu + ridge contrast) 1, s from ``columns``."""
        contrast, blocks = float(self.noise.contrast[k]), blocks_of(n, self.longest)
        white = float(self.noise.nu[k]) + self.ridge * contrast
        return frame_weights(blocks, (_plus(contrast * columns.signal(block), white) for block in blocks))

    def each_sector(self, work: Callable[[int], T]) -> list[T]:
        """``work`` of every sector, in threads."""
        n_phi = len(self.source.phi)
        threads = max(1, min(n_workers(), self.at_once, n_phi))
        with threadpool_limits(max(1, n_workers() // threads), user_api="blas"), ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, range(n_phi)))


def _plus(matrix: np.ndarray, white: float) -> np.ndarray:
    matrix[np.diag_indices(len(matrix))] += white
    return matrix


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
        gram = np.zeros((columns.size + 1,) * 2)
        with np.errstate(over="ignore", invalid="ignore"):  # a trial step too far, which is rejected
            for b, c in weights.tiles():
                x, _ = columns.tile(weights.blocks[b], weights.blocks[c], reference[k])
                gram += products(x, weights.apply(b, c, x), b == c)
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
        m, contrast = columns.size, float(light.noise.contrast[k])
        delta = _traces(light, theta, k, pairs, n_traces, int(rank[k]))
        gram, forms = np.zeros((m + 1 + TESTS,) * 2), np.zeros((n_traces, m + 1 + TESTS))
        for b, c in weights.tiles():
            rows, cols = weights.blocks[b], weights.blocks[c]
            x, valid = columns.tile(rows, cols, reference[k], tests=True)
            y = weights.apply(b, c, x)
            if valid is not None:
                y *= valid[:, None, :]
            gram += products(x, y, b == c)
            forms += noise_forms(y, x[:, 0], delta[rows], delta[cols], contrast, b == c)
        tell(pairs.count)
        strength, spread = float(light.strength[k]), columns.to_parameters[:-1, :-1]
        unit = strength * light.noise.offset[k] / np.sqrt(light.noise.pixels[k] * (n_traces - 1))
        forms = float(unit) * (forms - forms.mean(0))
        tests = slice(m + 1, None)
        return Noise(
            forms[:, :m] @ spread, strength * gram[m, tests], forms[:, tests], strength * gram[tests, :m] @ spread
        )

    return light.each_sector(of_sector)


def products(x: np.ndarray, y: np.ndarray, mirrored: bool) -> np.ndarray:
    """sum over the pairs i < j of a tile of x_m y_n, (M, N); x (R, M, C), y (R, N, C), both triangles if ``mirrored``."""
    total = np.matmul(x, y.swapaxes(1, 2)).sum(0)
    return 0.5 * total if mirrored else total


def noise_forms(
    y: np.ndarray, s: np.ndarray, early: np.ndarray, late: np.ndarray, contrast: float, mirrored: bool
) -> np.ndarray:
    """sum over the pairs i < j of a tile of y_ij (delta_i delta_j - contrast s_ij (delta_i + delta_j)) of every trace, (T, M).

    Args:
        y: (R, M, C), 0 where no pair is valid. s: (R, C). early, late: delta of the rows (R, T) and the columns (C, T).
    """
    out = np.empty((early.shape[1], y.shape[1]))
    first, last = early.astype(np.float32), late.astype(np.float32)
    for m in range(y.shape[1]):
        # in single precision, twice as fast: what they scatter by is known to a few percent
        out[:, m] = np.einsum("it,it->t", first, y[:, m].astype(np.float32) @ last)
        shared = y[:, m] * s
        out[:, m] -= contrast * (early.T @ shared.sum(1) + late.T @ shared.sum(0))
    return 0.5 * out if mirrored else out


def whitened_sector(
    light: Light, pilot: np.ndarray, theta: np.ndarray, k: int, frames: np.ndarray | None = None
) -> tuple[Pairs, Columns, FrameWeights]:
    """Data of sector ``k``, of all frames or of some, the columns at ``theta`` and the weights of ``pilot``."""
    pairs = read_pairs(light.source, k, light.min_lag, frames)
    columns = Columns(light.model, theta, light.source, k, pairs, light.free)
    same = np.array_equal(theta, pilot)
    weighing = columns if same else Columns(light.model, pilot, light.source, k, pairs, light.free)
    return pairs, columns, light.weights(weighing, len(pairs.frames), k)


def _traces(light: Light, theta: np.ndarray, k: int, pairs: Pairs, n: int, rank: int) -> np.ndarray:
    """Intensity fluctuations of ``n`` pixels of sector ``k``, (frames, n)."""
    g1 = coherence(light.model, theta, light.source, k, pairs)
    size, rng = len(pairs.frames), np.random.default_rng([9, rank])
    nu = np.full(size, light.noise.nu[k])
    return intensity_traces(g1, float(light.noise.contrast[k]), nu, np.ones(size), n, _MODES, rng)
