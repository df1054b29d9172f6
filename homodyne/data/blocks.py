"""What an optimizer needs from data: rectangular blocks of two-time matrices, as plain arrays."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class BlockSource(Protocol):
    """Two-time correlation c2(phi, t1, t2) that can be read block by block.

    Rows are t1 (the earlier time), columns t2, both as frame indices of the selected window. Only pairs
    t1 < t2 carry meaning: values on and below the diagonal are to be ignored.
    """

    @property
    def n_phi(self) -> int:
        """Number of angles."""

    @property
    def n_t(self) -> int:
        """Number of frames."""

    @property
    def sigma(self) -> np.ndarray:
        """Standard deviation of one point per angle, shape (n_phi,); ones where sigma is given per point."""

    def n_points(self, min_lag: int = 1) -> int:
        """Number of unordered pairs with t2 - t1 >= min_lag over all angles, before masking."""

    def read_block(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """c2 of angle k, shape (rows, cols), float32 or float64, perhaps a view; NaN marks invalid points."""

    def read_sigma(self, k: int, rows: slice, cols: slice) -> np.ndarray | None:
        """Sigma per point, positive everywhere, or None where ``sigma[k]`` applies."""


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
