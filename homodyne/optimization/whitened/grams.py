"""Whitened products of many columns, those of other thetas among them: what the summary of a posterior is made of."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.linalg import block_diag

from homodyne.errors import InputError
from homodyne.optimization.whitened.loop import Loop
from homodyne.optimization.whitened.passes import products, whitened_sector
from homodyne.optimization.whitened.sector import Columns

GB = 2**30
# Tiles of all columns that are held at a time, and bytes per pair of frames beside them.
_TILES, _BYTES = 4, 16


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
    n = len(snapshots) + 3 + int(loop.light.free.sum())
    light = dataclasses.replace(loop.light, at_once=_at_once(len(frames), loop.light.longest, n, threshold_gb))
    nothing = np.zeros(len(light.free), dtype=bool)

    def of_sector(k: int) -> np.ndarray:
        pairs, columns, weights = whitened_sector(light, loop.pilot, theta, k, frames)
        others = [Columns(light.model, other, light.source, k, pairs, nothing) for other in snapshots]
        gram = np.zeros((len(others) + columns.size + 1,) * 2)
        for b, c in weights.tiles():
            rows, cols = weights.blocks[b], weights.blocks[c]
            here, valid = columns.tile(rows, cols, scaling[k])
            changes = [(other.on(rows, cols, valid) - here[:, 0])[:, None] for other in others]
            x = np.concatenate([*changes, here], axis=1)
            gram += products(x, weights.apply(b, c, x), b == c)
        loop.progress.advance(pairs.count)
        order = np.concatenate([[0, 1, len(light.free) + 2], np.flatnonzero(light.free) + 2])
        spread = block_diag(np.eye(len(others)), columns.to_parameters[:, order])
        return np.asarray(spread.T @ (0.5 * light.strength[k] * (gram + gram.T)) @ spread)

    loop.progress.begin()
    return np.stack(light.each_sector(of_sector))


def _at_once(n_frames: int, longest: int, n_columns: int, threshold_gb: float) -> int:
    """Sectors that fit into memory together."""
    gb = 8 * (_TILES * n_columns * min(n_frames, longest) ** 2 + _BYTES // 8 * n_frames**2) / GB
    if gb > threshold_gb:
        raise InputError(
            "frames", n_frames, f"need {gb:.3g} GB to be sampled with whitened weights, and {threshold_gb:.3g} GB may be used",
            "fit and sample with weighting=uniform, or select fewer frames",
        )  # fmt: skip
    return int(threshold_gb / gb)
