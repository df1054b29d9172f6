"""What the beamline HDF5 readers share: opening, scalars, key order, and a lazy stack of matrices."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from xarray.backends import BackendArray, CachingFileManager
from xarray.core import indexing

from homodyne.errors import InputError

# Default HDF5 chunk cache; compressed matrices stored as one chunk get a cache that holds one matrix instead,
# since otherwise every block would decompress the whole matrix again.
CACHE_BYTES = 1 << 20
SECONDS = {"": 1.0, "s": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6}


@contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open for reading; what HDF5 reports about an unreadable file becomes an InputError."""
    if not Path(path).exists():
        raise InputError("dataset.path", str(path), "does not exist", "check the path and its spelling")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise unreadable(path, error) from error
    with file:
        try:
            yield file
        except (OSError, RuntimeError) as error:
            raise unreadable(path, error) from error


def unreadable(path: str | os.PathLike[str], error: Exception) -> InputError:
    """The error for a file that is damaged, incomplete or not what its name says."""
    return InputError(
        "dataset.path",
        str(path),
        f"cannot be read (truncated or damaged?): {error}",
        "copy the file again from its source",
    )


def number(file: h5py.File, path: str) -> float | None:
    """A scalar stored as (), (1,) or (1, 1); None when absent or a group of that name."""
    if not isinstance(file.get(path), h5py.Dataset):
        return None
    values = np.asarray(file[path][()], dtype=np.float64).ravel()
    if values.size != 1:
        raise InputError(path, values.shape, "is not a single number", "check the writer of this file")
    return float(values[0])


def seconds(file: h5py.File, path: str) -> tuple[float | None, str]:
    """A time [s] by its unit attribute, seconds without one, and what is wrong with it: None, "" when absent."""
    value = number(file, path)
    if value is None:
        return None, ""
    unit = as_text(file[path].attrs.get("unit", file[path].attrs.get("units", "")))
    if unit not in SECONDS:
        return None, f"not usable: {path.rsplit('/', 1)[-1]} has the unknown unit {unit!r}"
    return value * SECONDS[unit], ""


def text(file: h5py.File, path: str) -> str | None:
    """A scalar string; None when absent or a group of that name."""
    if not isinstance(file.get(path), h5py.Dataset):
        return None
    value = np.asarray(file[path][()]).ravel()
    return None if value.size == 0 else as_text(value[0])


def as_text(value: object) -> str:
    """Bytes or anything else as str."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def vector(file: h5py.File, path: str, remedy: str) -> np.ndarray:
    """A numeric dataset as a flat float64 vector; InputError when it is absent."""
    if not isinstance(file.get(path), h5py.Dataset):
        raise InputError(f"/{path}", None, "is missing from the file", remedy)
    return np.asarray(file[path][()], dtype=np.float64).ravel()


def numeric_order(keys: Sequence[str]) -> list[tuple[int, str]]:
    """Keys with the integer they end in, in numerical order (``c2_10`` after ``c2_2``)."""
    found = [(re.search(r"(\d+)$", key), key) for key in keys]
    bad = [key for match, key in found if match is None]
    if bad:
        raise InputError("matrix keys", bad[:5], "do not end in a number", "check the writer of this file")
    return sorted((int(match.group(1)), key) for match, key in found if match is not None)


def frame_spacing(factors: dict[str, float | None]) -> tuple[float | None, str]:
    """dt as the product of the named factors, and a sentence that says where it is from or what is missing."""
    missing = [name for name, value in factors.items() if value is None]
    if missing:
        return None, f"not in the file: {', '.join(missing)} is missing"
    values = {name: float(value) for name, value in factors.items() if value is not None}
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            return None, f"not usable: {name} = {value:g} is not positive"
    return float(np.prod(list(values.values()))), " x ".join(f"{name} ({value:g})" for name, value in values.items())


class MatrixStack(BackendArray):
    """Equal square matrices, one HDF5 dataset each, as one lazy array (bin, t1, t2).

    h5py serializes access itself. The dataset read last stays open so that its chunk cache survives between
    blocks; for compressed one-chunk matrices that is one matrix in memory.
    """

    def __init__(self, path: str | os.PathLike[str], group: str, keys: Sequence[str]) -> None:
        with open_hdf5(path) as file:
            shapes = {key: file[group][key].shape for key in keys}
            first = file[group][keys[0]]
            self.dtype, self.chunks = first.dtype, first.chunks
            compressed = first.compression is not None
        check_square(group, shapes)
        n_t = shapes[keys[0]][0]
        self.shape = (len(keys), n_t, n_t)
        self.cache_bytes = CACHE_BYTES
        if compressed and self.chunks:
            self.cache_bytes = max(CACHE_BYTES, int(np.prod(self.chunks)) * self.dtype.itemsize)
        self._paths = [f"{group}/{key}" for key in keys]
        self._open = CachingFileManager(h5py.File, os.fspath(path), mode="r", kwargs={"rdcc_nbytes": self.cache_bytes})
        self._last: tuple[int, h5py.Dataset] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_last": None}

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        which, rows, cols = key
        try:
            if isinstance(which, slice):
                parts = [self._dataset(k)[rows, cols] for k in range(*which.indices(self.shape[0]))]
                return np.stack(parts) if parts else np.empty((0, *self._empty_shape(rows, cols)), self.dtype)
            return self._dataset(int(which))[rows, cols]
        except OSError as error:
            raise unreadable(self._paths[0], error) from error

    def _empty_shape(self, *parts: int | slice) -> tuple[int, ...]:
        return tuple(len(range(*p.indices(self.shape[1]))) for p in parts if isinstance(p, slice))

    def _dataset(self, k: int) -> h5py.Dataset:
        last = self._last
        if last is not None and last[0] == k and last[1]:  # a closed dataset is false
            return last[1]
        dataset = self._open.acquire()[self._paths[k]]
        self._last = (k, dataset)
        return dataset

    def close(self) -> None:
        """Close the file; it is opened again when something is read."""
        self._last = None
        self._open.close()


def check_square(group: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """InputError unless all matrices are square and of one size."""
    for key, shape in shapes.items():
        if len(shape) != 2 or shape[0] != shape[1]:
            raise InputError(f"{group}/{key}", shape, "is not a square matrix", "check the writer of this file")
    if len(set(shapes.values())) > 1:
        raise InputError(
            group, sorted(set(shapes.values())), "holds matrices of different sizes", "convert them one by one"
        )


def tree(file: h5py.File, limit: int = 12) -> str:
    """The first datasets and groups of a file, for messages about unknown formats."""
    found: list[str] = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> bool | None:
        if isinstance(item, h5py.Dataset):
            found.append(f"{name}{item.shape}")
        return True if len(found) >= limit else None

    file.visititems(visit)
    return ", ".join(found) + (", ..." if len(found) >= limit else "") if found else "an empty file"
