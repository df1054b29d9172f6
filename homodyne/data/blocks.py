"""Pairs and square blocks of a two-time matrix, as pure index arithmetic."""

from __future__ import annotations

import numpy as np


def count_pairs(n_phi: int, n_t: int, min_lag: int = 1) -> int:
    """Unordered pairs with lag >= min_lag: n_phi * m * (m + 1) / 2 with m = n_t - min_lag."""
    m = max(int(n_t) - int(min_lag), 0)
    return int(n_phi) * (m * (m + 1) // 2)


def upper_tiles(n_t: int, size: int) -> list[tuple[slice, slice]]:
    """Squares of at most ``size`` frames that cover the upper triangle, row by row; none lies below the diagonal."""
    edges = range(0, n_t, size)
    return [(slice(r, min(r + size, n_t)), slice(c, min(c + size, n_t))) for r in edges for c in edges if c >= r]


def lags(rows: slice, cols: slice) -> np.ndarray:
    """t2 - t1 in frames for every point of a block, shape (rows, cols)."""
    return np.arange(cols.start, cols.stop)[None, :] - np.arange(rows.start, rows.stop)[:, None]
