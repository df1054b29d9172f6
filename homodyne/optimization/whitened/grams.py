"""Whitened products of many columns, those of other thetas among them: what the summary of a posterior is made of."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from homodyne.errors import InputError
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import sector_signal
from homodyne.optimization.whitened.loop import Loop
from homodyne.optimization.whitened.passes import whitened_sector
from homodyne.optimization.whitened.sector import Columns, Pairs

GB = 2**30
# Columns to which the weights are applied before they are multiplied with all others.
_TOGETHER = 8
# Bytes per pair of frames of a sector at work, beside those of the columns: matrices of the weights and of a column.
_BYTES = 160


def whitened_grams(
    loop: Loop, theta: np.ndarray, scaling: np.ndarray, snapshots: np.ndarray, frames: np.ndarray, threshold_gb: float
) -> np.ndarray:
    """X^T W X of X = [D_1 ... D_S, s, 1, r, ds/dtheta] of every sector, D_n = s(theta_n) - s(theta).

    Args:
        theta: (p,), where s and its derivatives are taken. scaling: contrast and offset of the residuals, (n_phi, 2).
        snapshots: theta_n, (S, p). frames: those whose pairs take part, (m,). threshold_gb: memory that may be used.

    Returns:
        (n_phi, S + 3 + f, S + 3 + f), P / offset**2 included.

    Raises:
        InputError: frames that need more memory than the threshold.
    """
    light, n_phi = loop.light, len(loop.light.source.phi)

    def of_sector(k: int) -> np.ndarray:
        pairs, columns, weights = whitened_sector(light, loop.pilot, theta, k, frames)
        upper = np.triu_indices(len(pairs.frames), 1)
        every = np.empty((len(snapshots) + 1 + columns.size, len(upper[0])))
        for row, x in enumerate(_every(loop, columns, pairs, k, scaling[k], snapshots)):
            every[row] = x[upper]
        gram = np.empty((len(every), len(every)))
        matrix = np.zeros((len(pairs.frames),) * 2)
        for first in range(0, len(every), _TOGETHER):
            some = slice(first, min(first + _TOGETHER, len(every)))
            products = np.empty((some.stop - first, every.shape[1]))
            for row, column in enumerate(every[some]):
                matrix[upper] = column
                products[row] = pairs.masked(weights.apply(matrix + matrix.T))[upper]
            gram[some] = products @ every.T
        loop.progress.advance(pairs.count)
        spread = _to_parameters(columns, len(snapshots), light.free)
        return spread.T @ (0.5 * light.strength[k] * (gram + gram.T)) @ spread

    loop.progress.begin()
    at_once = _at_once(len(frames), len(snapshots) + 3 + int(light.free.sum()), threshold_gb)
    threads = min(at_once, n_workers())
    with threadpool_limits(max(1, n_workers() // threads), user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(of_sector, range(n_phi))))


def _every(
    loop: Loop, columns: Columns, pairs: Pairs, k: int, scaling: np.ndarray, snapshots: np.ndarray
) -> Iterator[np.ndarray]:
    """D_1 ... D_S, s, 1, r and the columns of the channels, as symmetric matrices."""
    light = loop.light
    for snapshot in snapshots:
        s = sector_signal(light.model, snapshot, light.source, k, pairs.frames)
        yield pairs.masked(np.triu(s, 1) + np.triu(s, 1).T - columns.s)
    yield from columns.plain()
    yield columns.residual(scaling)
    yield from columns.channels()


def _to_parameters(columns: Columns, n_snapshots: int, free: np.ndarray) -> np.ndarray:
    """How X is made of the columns: parameters that channels share add up."""
    of_channels = columns.to_parameters[2:-1, 2:-1][:, free]
    spread = np.zeros((n_snapshots + 3 + len(of_channels), n_snapshots + 3 + of_channels.shape[1]))
    same = np.arange(n_snapshots + 3)
    spread[same, same] = 1.0
    spread[n_snapshots + 3 :, n_snapshots + 3 :] = of_channels
    return spread


def _at_once(n: int, n_columns: int, threshold_gb: float) -> int:
    """Sectors that fit into memory together."""
    gb = n**2 * (_BYTES + 4 * (n_columns + _TOGETHER)) / GB
    if gb > threshold_gb:
        raise InputError(
            "frames", n, f"need {gb:.3g} GB to be sampled with whitened weights, and {threshold_gb:.3g} GB may be used",
            "fit and sample with weighting=uniform, or select fewer frames",
        )  # fmt: skip
    return int(threshold_gb / gb)
