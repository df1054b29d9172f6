"""NPZ files with the keys of ``fit_nlsq_jax``'s mapping: reader.

Keys: ``phi_angles_list`` (n_phi,) [deg], ``c2_exp`` (n_phi, n_t, n_t), ``t1``, ``t2`` (n_t,) or meshgrids [s],
``wavevector_q_list`` (1,) or (n_phi,) [1/angstrom], and optionally ``sigma``, ``L`` (gap, angstrom) and ``dt`` [s].
Members of a zip archive cannot be mapped into memory: c2 is read completely at the first block. Convert large
files to NetCDF. Pickled objects are never loaded.
"""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from homodyne.data.arrays import check_halves
from homodyne.data.formats.bins import PHI_UNITS, Q_UNITS, source_file, time_coordinates
from homodyne.data.formats.hdf5 import unreadable
from homodyne.errors import InputError

REQUIRED = ("phi_angles_list", "c2_exp", "t1", "t2", "wavevector_q_list")
Header = tuple[tuple[int, ...], np.dtype]


def headers(path: str | os.PathLike[str]) -> dict[str, Header]:
    """Shape and dtype of every array in the archive, without reading the arrays."""
    found: dict[str, Header] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    version = np.lib.format.read_magic(member)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(member)
                    found[name.removesuffix(".npy")] = (shape, dtype)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise unreadable(path, error) from error
    return found


class NpzMember(BackendArray):
    """One array of the archive, read completely when first indexed, checked then, and kept."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str,
        header: Header,
        check: Callable[[np.ndarray], None] | None = None,
    ) -> None:
        self.shape, self.dtype = header
        self._path, self._name = os.fspath(path), name
        self._check = check
        self._values: np.ndarray | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_values": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        with self._lock:
            if self._values is None:
                with np.load(self._path, allow_pickle=False) as archive:
                    values = archive[self._name]
                if self._check is not None:
                    self._check(values)
                self._values = values
        return self._values[key]


class NpzBackend(BackendEntrypoint):
    """``xr.open_dataset(path, engine="homodyne_npz")`` -> c2(phi, t1, t2) with q, phi, t1, t2; c2 is lazy."""

    description = "homodyne NPZ arrays"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = ("filename_or_obj", "drop_variables")

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.Dataset:
        """Lazy dataset of all angles.

        Raises:
            InputError: missing keys, or shapes that do not fit.
        """
        found = headers(filename_or_obj)
        missing = [key for key in REQUIRED if key not in found]
        if missing:
            raise InputError(
                "dataset.path", str(filename_or_obj), f"lacks the arrays {', '.join(missing)}; found {', '.join(found)}",
                "store the keys that the documentation lists for NPZ files",
            )  # fmt: skip
        small = _small_arrays(filename_or_obj, found)
        shape, dtype = found["c2_exp"]
        phi = np.asarray(small["phi_angles_list"], dtype=np.float64).ravel()
        if dtype.hasobject or len(shape) != 3 or shape[0] != phi.size or shape[1] != shape[2]:
            raise InputError(
                "c2_exp",
                (shape, str(dtype)),
                f"does not fit {phi.size} angles",
                "store numbers of shape (n_phi, n_t, n_t)",
            )
        dataset = _dataset(filename_or_obj, found, small, phi)
        return dataset.drop_vars(drop_variables) if drop_variables else dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """NPZ files by suffix."""
        return isinstance(filename_or_obj, (str, os.PathLike)) and Path(filename_or_obj).suffix == ".npz"


def _small_arrays(path: str | os.PathLike[str], found: dict[str, Header]) -> dict[str, np.ndarray]:
    """Everything except c2 and a full sigma."""
    names = [n for n in (*REQUIRED, "sigma", "L", "dt") if n in found and n != "c2_exp" and not _full_sigma(n, found)]
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except ValueError as error:
        raise unreadable(path, error) from error


def _full_sigma(name: str, found: dict[str, Header]) -> bool:
    return name == "sigma" and len(found["sigma"][0]) == 3


def time_axis(name: str, values: np.ndarray, n_t: int) -> np.ndarray:
    """The time vector (n_t,) from a vector or a meshgrid (n_t, n_t) of it; ``name`` says which axis varies."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape == (n_t,):
        return values
    if values.shape == (n_t, n_t):
        # either convention of meshgrid: the direction in which it changes is the axis
        return values[:, 0] if values[0, 0] != values[-1, 0] else values[0]
    raise InputError(name, values.shape, f"does not fit the {n_t} frames of c2", f"store {name} with shape ({n_t},)")


def _dataset(
    path: str | os.PathLike[str], found: dict[str, Header], small: dict[str, np.ndarray], phi: np.ndarray
) -> xr.Dataset:
    n_t = found["c2_exp"][0][1]
    q = np.asarray(small["wavevector_q_list"], dtype=np.float64).ravel()
    if q.size not in (1, phi.size):
        raise InputError(
            "wavevector_q_list", q.tolist(), f"has neither one entry nor one per angle ({phi.size})", "store one q"
        )
    coords: dict[str, xr.Variable] = dict(time_coordinates(n_t, None))
    for name in ("t1", "t2"):
        coords[name] = xr.Variable(name, time_axis(name, small[name], n_t), {**coords[name].attrs, "units": "s"})
    coords["phi"] = xr.Variable("phi", phi, {"units": PHI_UNITS})
    coords["q"] = (
        xr.Variable((), q[0], {"units": Q_UNITS}) if q.size == 1 else xr.Variable("phi", q, {"units": Q_UNITS})
    )
    c2 = indexing.LazilyIndexedArray(NpzMember(path, "c2_exp", found["c2_exp"], partial(_check_maps, phi)))
    variables = {"c2": xr.Variable(("phi", "t1", "t2"), c2, {"units": "1"})}
    if "sigma" in found:
        variables["sigma"] = _sigma(path, found, small)
    attrs: dict[str, object] = {"format": "npz", "source_file": source_file(path), "dt_source": "t1 of the file"}
    if small.get("dt") is not None:
        attrs |= {"dt": float(small["dt"].ravel()[0]), "dt_source": "dt of the file"}
    if small.get("L") is not None:
        attrs["gap"] = float(small["L"].ravel()[0])
    return xr.Dataset(variables, coords, attrs)


def _check_maps(phi: np.ndarray, c2: np.ndarray) -> None:
    """What ``from_arrays`` checks: symmetric, or an empty lower half; an angle without data matters only if selected."""
    for k in range(len(phi)):
        if np.isfinite(c2[k]).any():
            check_halves(c2[k : k + 1], phi[k : k + 1])


def _sigma(path: str | os.PathLike[str], found: dict[str, Header], small: dict[str, np.ndarray]) -> xr.Variable:
    """sigma as a scalar, per angle or per point."""
    if _full_sigma("sigma", found):
        if found["sigma"][0] != found["c2_exp"][0]:
            raise InputError("sigma", found["sigma"][0], "differs in shape from c2_exp", "store both with one shape")
        return xr.Variable(("phi", "t1", "t2"), indexing.LazilyIndexedArray(NpzMember(path, "sigma", found["sigma"])))
    values = np.asarray(small["sigma"], dtype=np.float64)
    if values.size == 1:
        return xr.Variable((), values.ravel()[0])
    if values.shape != (found["c2_exp"][0][0],):
        raise InputError("sigma", values.shape, "fits neither one value, one per angle nor c2", "store one of these")
    return xr.Variable("phi", values)
