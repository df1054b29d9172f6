"""The matrices behind the angles of a dataset: lazily indexed, cut to the frame window, averaged where merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

Index = tuple[int, ...]


def stored_values(variable: xr.Variable, index: Index, rows: slice, cols: slice) -> np.ndarray:
    """One block of one matrix as a native float array, infinite values as NaN; a view where it is in memory."""
    block = variable[(*index, rows, cols)].values
    if block.dtype.kind != "f" or block.dtype.itemsize < 4:
        block = block.astype(np.float64)
    elif not block.dtype.isnative:
        block = block.astype(block.dtype.newbyteorder("="))
    # some tenths of a nanosecond per point; an infinite value is as invalid as NaN but would poison every sum
    infinite = np.isinf(block)
    return np.where(infinite, np.asarray(np.nan, block.dtype), block) if infinite.any() else block


def clip(part: slice, n_t: int) -> slice:
    """The slice with explicit bounds inside 0..n_t."""
    start, stop, step = part.indices(n_t)
    if step != 1:
        raise ValueError("blocks are contiguous: slices must have step 1")
    return slice(start, max(start, stop))


@dataclasses.dataclass(frozen=True, eq=False)
class Maps:
    """One matrix per angle.

    Attributes:
        variable: array with two trailing time dimensions; nothing is read until a block is asked for.
        members: for each angle the leading indices of the matrices it is made of (several when angles were merged).
        first: first frame of the window; n_t: frames in it.
        lower: True when only the lower half is filled (rows = later time); it is read transposed.
    """

    variable: xr.Variable
    members: tuple[tuple[Index, ...], ...]
    first: int
    n_t: int
    lower: bool = False

    def sectors(self, positions: Sequence[int]) -> Maps:
        """The matrices of some sectors."""
        return dataclasses.replace(self, members=tuple(self.members[k] for k in positions))

    def member_values(self, index: Index, rows: slice, cols: slice) -> np.ndarray:
        """Block of a single matrix, rows = earlier time, in frames of the window."""
        r = slice(self.first + rows.start, self.first + rows.stop)
        c = slice(self.first + cols.start, self.first + cols.stop)
        if self.lower:
            return stored_values(self.variable, index, c, r).T
        return stored_values(self.variable, index, r, c)

    def read(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """Block of angle k: the stored values, or the mean over merged angles (invalid where any member is)."""
        blocks = (self.member_values(index, rows, cols) for index in self.members[k])
        return _mean(blocks, len(self.members[k]))

    def read_sigma_of_mean(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """Standard deviation of the mean when the matrices hold sigma: sqrt(sum sigma^2) / m."""
        members = self.members[k]
        if len(members) == 1:
            return self.member_values(members[0], rows, cols)
        squares = (self.member_values(index, rows, cols) ** 2 for index in members)
        return np.sqrt(_mean(squares, len(members)) / len(members))

    @property
    def dtype(self) -> np.dtype:
        """Floating type of the blocks."""
        stored = self.variable.dtype
        return stored.newbyteorder("=") if stored.kind == "f" and stored.itemsize >= 4 else np.dtype(np.float64)

    @property
    def chunk_frames(self) -> tuple[int, int] | None:
        """Chunk of the stored array along (t1, t2), None where the storage is not chunked."""
        chunks = self.variable.encoding.get("chunksizes")
        return None if not chunks else (int(chunks[-2]), int(chunks[-1]))


def _mean(blocks: Iterator[np.ndarray], count: int) -> np.ndarray:
    """Mean of ``count`` equal-shaped arrays; the only array itself, without a copy, when count is 1."""
    total = next(blocks)
    if count == 1:
        return total
    total = total.copy()
    for block in blocks:
        total += block
    total /= count
    return total
