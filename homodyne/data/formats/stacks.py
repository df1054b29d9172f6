"""Lazy stacks of matrices that are not stored the way they are read: in one array, upside down, or with baseline 0."""

from __future__ import annotations

import os
from typing import Any, Protocol

import h5py
import numpy as np
from xarray.backends import BackendArray, CachingFileManager
from xarray.core import indexing

from homodyne.data.formats.hdf5 import CACHE_BYTES, check_square, open_hdf5, unreadable
from homodyne.data.noise import dead_frames
from homodyne.errors import InputError

#: Matrices that are compared at the corners, of at most this many frames.
CORNER = 8
# Elements that must be equal for symmetry may differ by rounding of float32 averages.
RTOL, ATOL = 1e-4, 1e-6
# Bytes of a contiguous array with q last that are mapped into memory at a time.
MAPPED_BYTES = 1 << 24

Window = tuple[int, slice, slice]


class Stack(Protocol):
    """What readers hand over: a lazy array (bin, row, column) that can be closed."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def chunks(self) -> tuple[int, ...] | None: ...
    @property
    def cache_bytes(self) -> int: ...
    def __getitem__(self, key: Any) -> np.ndarray: ...
    def close(self) -> None:
        """Close the file; it is opened again when something is read."""
        ...


class ArrayStack(BackendArray):
    """Square matrices in one HDF5 dataset, as one lazy array (bin, row, column).

    With q last, the matrices are interleaved: a file that stores them in one piece is mapped into memory a few rows at a
    time (four times as fast as HDF5's own selection of every n-th element), others are read through HDF5.

    Args:
        path: the file. name: the dataset, (N, N) for a single bin or with three dimensions.
        q_last: the bin is the last dimension, not the first.

    Raises:
        InputError: other dimensions, or matrices that are not square.
    """

    def __init__(self, path: str | os.PathLike[str], name: str, q_last: bool) -> None:
        with open_hdf5(path) as file:
            data = file[name]
            self.dtype, stored = data.dtype, data.shape
            self._ndim, self._last, chunks = data.ndim, q_last, data.chunks
            compressed, offset = data.compression is not None, data.id.get_offset()
        if self._ndim not in (2, 3) or self.dtype.kind not in "fiu":
            raise InputError(
                f"/{name}",
                (stored, str(self.dtype)),
                "does not hold two-time matrices",
                "check the writer of this file",
            )
        side = stored[:2] if q_last or self._ndim == 2 else stored[1:]
        check_square("/" + name, {"": side})
        self.shape = (1 if self._ndim == 2 else stored[-1 if q_last else 0], *side)
        self.chunks = None if chunks is None else tuple(chunks[:2] if q_last else chunks[-2:])
        self.cache_bytes = CACHE_BYTES
        if compressed and chunks:
            self.cache_bytes = max(CACHE_BYTES, int(np.prod(chunks)) * self.dtype.itemsize)
        self._path, self._name, self._stored = os.fspath(path), name, stored
        self._offset = offset if q_last and self._ndim == 3 and chunks is None else None
        self._open = CachingFileManager(h5py.File, self._path, mode="r", kwargs={"rdcc_nbytes": self.cache_bytes})

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        return by_window(key, self.shape, self.window)

    def window(self, where: Window) -> np.ndarray:
        """Block of one matrix; slices ascending."""
        k, rows, cols = where
        try:
            if self._offset is not None:
                return self._mapped(k, rows, cols)
            data = self._open.acquire()[self._name]
            if self._ndim == 2:
                return data[rows, cols]
            return data[rows, cols, k] if self._last else data[k, rows, cols]
        except OSError as error:
            raise unreadable(self._path, error) from error

    def _mapped(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """The same from a map of the file, a bounded piece at a time: mapped pages count as used memory."""
        wanted = range(*rows.indices(self._stored[0]))
        out = np.empty((len(wanted), len(range(*cols.indices(self._stored[1])))), self.dtype)
        row_bytes = self._stored[1] * self._stored[2] * self.dtype.itemsize
        step = max(1, MAPPED_BYTES // (row_bytes * wanted.step))
        for first in range(0, len(wanted), step):
            part = wanted[first : first + step]
            piece = np.memmap(
                self._path, self.dtype, "r", (self._offset or 0) + part[0] * row_bytes,
                (part[-1] - part[0] + 1, *self._stored[1:]),
            )  # fmt: skip
            out[first : first + step] = piece[:: wanted.step, cols, k]
        return out

    def close(self) -> None:
        """Close the file; it is opened again when something is read."""
        self._open.close()


class OrientedStack(BackendArray):
    """A stack as this package reads it: time zero at [0, 0], rows and columns in order of time, baseline 1.

    Before a matrix is first read its corners are compared with what the file says of it, see ``check_corners``.

    Args:
        stack: as stored. upside_down: time zero is in the last row. lower: rows = later time are filled, not the others.
        add: what the baseline lacks, 0 or 1.
        field: of the attributes, for messages.
    """

    def __init__(self, stack: ArrayStack | Any, *, upside_down: bool, lower: bool, add: float, field: str) -> None:
        self.shape, self.chunks, self.cache_bytes = stack.shape, stack.chunks, stack.cache_bytes
        self.dtype = stack.dtype if stack.dtype.kind == "f" else np.dtype(np.float64)
        self._stack, self._flip, self._lower, self._add, self._field = stack, upside_down, lower, add, field
        self._dead: dict[int, np.ndarray] = {}

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        return by_window(key, self.shape, self._window)

    def _window(self, where: Window) -> np.ndarray:
        k, rows, cols = where
        dead = self._checked(k)
        block = self._stored(k, rows, cols)
        if not self._add:
            return block
        block = block + np.asarray(self._add, block.dtype)
        n = self.shape[1]
        for axis, part in enumerate((rows, cols)):
            empty = np.isin(np.arange(n)[part], dead)
            block[(slice(None),) * axis + (empty,)] = 0.0  # as files with baseline 1 mark frames without counts
        return block

    def _stored(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """Rows and columns in order of time, the baseline as stored."""
        n = self.shape[1]
        if self._flip:
            wanted = range(*rows.indices(n))
            rows = slice(n - 1 - wanted[-1], n - wanted[0], wanted.step) if len(wanted) else slice(0, 0)
        block = np.asarray(self._stack[indexing.BasicIndexer((k, rows, cols))]).astype(self.dtype, copy=False)
        return block[::-1] if self._flip else block

    def _checked(self, k: int) -> np.ndarray:
        """Frames without counts, where they cannot be seen from outside; the matrix is what the file says it is."""
        if k not in self._dead:
            n = self.shape[1]
            m = min(CORNER, n // 2)
            early, late = slice(0, m), slice(n - m, n)
            above, below = self._stored(k, early, late), self._stored(k, late, early).T
            far = (below, above) if self._lower else (above, below)
            check_corners(*far, self._stored(k, early, early), self._stored(k, late, late), self._field)
            self._dead[k] = dead_frames(lambda r, c: self._upper(k, r, c), n) if self._add else np.array([], dtype=int)
        return self._dead[k]

    def _upper(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        return self._stored(k, cols, rows).T if self._lower else self._stored(k, rows, cols)

    def close(self) -> None:
        """Close the file; it is opened again when something is read."""
        self._stack.close()


def check_corners(filled: np.ndarray, other: np.ndarray, first: np.ndarray, last: np.ndarray, field: str) -> None:
    """Compare the corners of a matrix, (m, m) each, with what its attributes say.

    The line of equal times is far from the earliest frames against the latest where the origin is where the file says;
    else it runs through that corner.

    Args:
        filled, other: the earliest frames against the latest, from the half that is read and from the other.
        first, last: the earliest frames, and the latest, against themselves.

    Raises:
        InputError: the half that should be filled is empty and the other is not; both are filled and differ; half of a
            corner is empty, so that the line of equal times is there; or a matrix that is symmetric either way (only one
            without noise is) has its larger values away from that line.
    """
    if _empty(filled) and not _empty(other):
        raise InputError(
            f"{field}:populated_elements", None, "names the half of the matrices that is empty: the other one is filled",
            "correct this attribute in the file, or time_origin_location",
        )  # fmt: skip
    m = len(filled)
    sums = np.add.outer(np.arange(m), np.arange(m)) - (m - 1)
    half = m > 2 and _empty(filled[sums < 0]) != _empty(filled[sums > 0])
    differ = not _empty(other) and not _equal(filled, other)
    off = ~np.eye(m, dtype=bool)
    either_way = m > 2 and not _empty(other) and _equal(last[::-1], first[::-1].T)
    if half or differ or (either_way and np.mean(filled) > (1 + RTOL) * np.mean(first[off])):
        raise InputError(
            f"{field}:time_origin_location", None,
            "does not fit the matrices: they are not symmetric about the line of equal times that it implies",
            "correct this attribute in the file (upper_left: time zero in the first row; lower_left: in the last)",
        )  # fmt: skip


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=RTOL, atol=ATOL, equal_nan=True)


def _empty(values: np.ndarray) -> bool:
    return bool(np.all((values == 0) | ~np.isfinite(values)))


def by_window(key: tuple[int | slice, ...], shape: tuple[int, ...], window: Any) -> np.ndarray:
    """Any basic index (bin, rows, columns) from a function of (bin number, ascending slice, ascending slice)."""
    which, *sides = key
    parts, back = [], []
    for part, n in zip(sides, shape[1:], strict=True):
        wanted = range(*part.indices(n)) if isinstance(part, slice) else range(int(part) % n, int(part) % n + 1)
        ascending = wanted if wanted.step > 0 else wanted[::-1]
        parts.append(slice(ascending.start, ascending.stop, ascending.step))
        back.append(0 if not isinstance(part, slice) else slice(None, None, 1 if wanted.step > 0 else -1))
    if not isinstance(which, slice):
        return window((int(which) % shape[0], *parts))[tuple(back)]
    blocks = [window((k, *parts))[tuple(back)] for k in range(*which.indices(shape[0]))]
    if blocks:
        return np.stack(blocks)
    return np.empty((0, *(len(range(*p.indices(n))) for p, n in zip(parts, shape[1:], strict=True))))
