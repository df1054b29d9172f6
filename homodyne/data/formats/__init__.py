"""File formats: which one a file is in, by content, and how to open it lazily."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import xarray as xr

from homodyne.data.formats import aps_legacy, apsu, netcdf, nxxpcs, pychx
from homodyne.data.formats.aps_legacy import ApsLegacyBackend, write_aps_legacy
from homodyne.data.formats.apsu import ApsuBackend, write_apsu
from homodyne.data.formats.hdf5 import open_hdf5, tree
from homodyne.data.formats.netcdf import is_zarr, open_netcdf, open_zarr, write_netcdf_stream
from homodyne.data.formats.npz import NpzBackend
from homodyne.data.formats.nxxpcs import NxxpcsBackend
from homodyne.data.formats.pychx import PychxBackend
from homodyne.errors import InputError

__all__ = ["ENGINES", "is_zarr", "open_lazily", "recognize", "write_aps_legacy", "write_apsu", "write_netcdf_stream"]

Opener = Callable[[str | os.PathLike[str]], xr.Dataset]


def _open_apsu(path: str | os.PathLike[str]) -> xr.Dataset:
    return xr.open_dataset(path, engine=ApsuBackend, chunks=None, cache=False)


def _open_legacy(path: str | os.PathLike[str]) -> xr.Dataset:
    return xr.open_dataset(path, engine=ApsLegacyBackend, chunks=None, cache=False)


def _open_npz(path: str | os.PathLike[str]) -> xr.Dataset:
    return xr.open_dataset(path, engine=NpzBackend, chunks=None, cache=False)


def _open_nxxpcs(path: str | os.PathLike[str]) -> xr.Dataset:
    return xr.open_dataset(path, engine=NxxpcsBackend, chunks=None, cache=False)


def _open_pychx(path: str | os.PathLike[str]) -> xr.Dataset:
    return xr.open_dataset(path, engine=PychxBackend, chunks=None, cache=False)


ENGINES: dict[str, Opener] = {
    "apsu": _open_apsu,
    "aps_legacy": _open_legacy,
    "nxxpcs": _open_nxxpcs,
    "pychx": _open_pychx,
    "netcdf": open_netcdf,
    "npz": _open_npz,
    "zarr": open_zarr,
}


_BY_CONTENT = {"apsu": apsu, "aps_legacy": aps_legacy, "netcdf": netcdf, "nxxpcs": nxxpcs, "pychx": pychx}


def recognize(path: str | os.PathLike[str]) -> str:
    """Name of the format, from what the file contains (the suffix says nothing).

    Raises:
        InputError: the file is missing, unreadable, or in no known format; the message lists what was found.
    """
    target = Path(path)
    if not target.exists():
        raise InputError("dataset.path", str(path), "does not exist", "check the path and its spelling")
    if is_zarr(target):
        return "zarr"
    if target.is_dir():
        names = ", ".join(sorted(p.name for p in target.iterdir())[:8]) or "nothing"
        raise _unknown(path, f"a folder with {names}")
    with target.open("rb") as stream:
        magic = stream.read(8)
    if magic.startswith(b"\x89HDF"):
        return _recognize_hdf5(path)
    if zipfile.is_zipfile(target):
        return "npz"
    if magic.startswith(b"CDF"):
        return "netcdf"
    raise _unknown(path, f"{target.stat().st_size} bytes that start with {magic!r}")


def _recognize_hdf5(path: str | os.PathLike[str]) -> str:
    with open_hdf5(path) as file:
        for name, module in _BY_CONTENT.items():
            if module.recognized(file):
                return name
        if "xpcs/multitau" in file:
            return "apsu"  # its reader says that there are no two-time matrices, and what there is
        if nxxpcs.declared(file):
            return "nxxpcs"  # the same
        raise _unknown(path, tree(file))


def _unknown(path: str | os.PathLike[str], found: str) -> InputError:
    return InputError(
        "dataset.path", str(path), f"is in no known format; found {found}",
        f"give one of {', '.join(ENGINES)}, or convert it with Dataset.from_arrays(...).to_netcdf(...)",
    )  # fmt: skip


def open_lazily(path: str | os.PathLike[str], engine: str | None = None) -> tuple[str, xr.Dataset]:
    """Format and lazy xarray dataset of a file; only metadata is read.

    Raises:
        InputError: as ``recognize``; unknown engine; a file that its reader refuses.
    """
    if engine is not None and engine not in ENGINES:
        raise InputError("dataset.engine", engine, "is not a known format", f"use one of {', '.join(ENGINES)}")
    name = engine or recognize(path)
    if not Path(path).exists():
        raise InputError("dataset.path", str(path), "does not exist", "check the path and its spelling")
    return name, ENGINES[name](path)
