"""Our own interchange layout: c2(phi, t1, t2) or c2(q, phi, t1, t2) in NetCDF-4 or Zarr, with units.

Attributes of c2 tell which half is filled (``filled_half``: upper, lower or both) and how invalid points are marked
(``invalid_points``: NaN means that empty frames were already masked). The empty half is never written, so it costs
neither disk nor reading.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import xarray as xr
from xarray.backends import NetCDF4DataStore

from homodyne.data.blocks import lags, upper_tiles
from homodyne.data.formats.hdf5 import unreadable
from homodyne.data.writing import replaced
from homodyne.errors import InputError

_COMPRESSORS = ("zlib", "szip", "zstd", "bzip2", "blosc", "fletcher32", "shuffle")
CHUNK_FRAMES = 1024  # 1 x 1024 x 1024 float32 = 4 MiB
Fill = Callable[[int, slice, slice], np.ndarray]


def recognized(file: h5py.File) -> bool:
    """True for a NetCDF-4 file with a c2 variable on time axes."""
    return "c2" in file and "t1" in file and "phi" in file


def open_netcdf(path: str | os.PathLike[str]) -> xr.Dataset:
    """Lazy dataset of a NetCDF file; xarray serializes access, which the NetCDF library needs."""
    try:
        store = NetCDF4DataStore.open(os.path.abspath(path))
        _read_past_the_chunk_cache(store.ds)
        opened = xr.open_dataset(store, chunks=None, cache=False, decode_times=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(path, error) from error
    return _with_c2(opened, path)


def _read_past_the_chunk_cache(file: netCDF4.Dataset) -> None:
    """Chunks that are stored as they are go straight to the reader: a third less time, and 64 MB less memory, measured."""
    for variable in file.variables.values():
        if variable.ndim >= 3 and not any((variable.filters() or {}).get(name) for name in _COMPRESSORS):
            variable.set_var_chunk_cache(0, 1, 0.0)


def open_zarr(path: str | os.PathLike[str]) -> xr.Dataset:
    """Lazy dataset of a Zarr store in the same layout (needs the extra ``homodyne[zarr]``)."""
    try:
        opened = xr.open_dataset(path, engine="zarr", chunks=None, cache=False, decode_times=False, consolidated=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(path, error) from error
    return _with_c2(opened, path)


def _with_c2(opened: xr.Dataset, path: str | os.PathLike[str]) -> xr.Dataset:
    if "c2" in opened:
        return opened
    names = ", ".join(str(name) for name in opened.variables) or "nothing"
    opened.close()
    raise InputError("dataset.path", str(path), f"has no variable c2; found {names}", "store c2(phi, t1, t2)")


def write_netcdf_stream(
    path: str | os.PathLike[str],
    fill: Fill,
    *,
    phi: np.ndarray,
    n_t: int,
    dt: float,
    q: float | np.ndarray,
    gap: float | None = None,
    sigma: np.ndarray | Fill | None = None,
    dtype: np.dtype | str = "float32",
    chunk_frames: int = CHUNK_FRAMES,
    compression: bool = False,
    attrs: Mapping[str, object] | None = None,
) -> None:
    """Write a dataset of any size block by block, upper triangle only, never holding more than one block.

    Args:
        path: the file; it appears under this name when complete.
        fill: ``fill(k, rows, cols)`` returns c2 of angle k for frames rows (t1) and cols (t2); NaN marks invalid
            points. Called once per tile, angle by angle, for tiles that touch t1 <= t2.
        phi: (n_phi,) [deg]; n_t frames spaced by dt [s]; q [1/angstrom], one number or (n_phi,); gap [angstrom] or None.
        sigma: None, (n_phi,) values, or a function like ``fill`` for sigma per point.
        dtype: float32 or float64.
        chunk_frames: side of the square chunks and tiles in frames.
        compression: zlib level 1 with shuffle; off by default for speed.
        attrs: global attributes.

    Raises:
        InputError: the folder cannot be written.
    """
    phi, chunk = np.asarray(phi, dtype=np.float64), min(chunk_frames, n_t)
    streams = {"c2": fill, **({"sigma": sigma} if callable(sigma) else {})}
    with replaced(path) as temporary, netCDF4.Dataset(temporary, "w", format="NETCDF4") as file:
        _write_axes(file, phi, n_t, dt, q)
        _write_attributes(file, gap, attrs or {})
        for name in streams:
            _declare(file, name, np.dtype(dtype), chunk, compression)
        if isinstance(sigma, np.ndarray):
            file.createVariable("sigma", "f8", ("phi",))[:] = sigma
        for name, stream in streams.items():
            _write_tiles(file[name], stream, phi.size, n_t, chunk)


def _declare(file: netCDF4.Dataset, name: str, dtype: np.dtype, chunk: int, compression: bool) -> None:
    variable = file.createVariable(
        name, dtype.str[1:], ("phi", "t1", "t2"), chunksizes=(1, chunk, chunk),
        fill_value=np.nan, zlib=compression, complevel=1, shuffle=compression,
    )  # fmt: skip
    variable.setncatts({"filled_half": "upper", "invalid_points": "NaN"})
    if name == "c2":
        variable.setncatts({"units": "1", "long_name": "two-time intensity correlation"})


def _write_tiles(variable: netCDF4.Variable, fill: Fill, n_phi: int, n_t: int, chunk: int) -> None:
    """Fill the upper triangle; the chunks below stay unwritten and the lower part of diagonal tiles NaN."""
    variable.set_auto_maskandscale(False)
    for k in range(n_phi):
        for rows, cols in upper_tiles(n_t, chunk):
            block = fill(k, rows, cols)
            if rows == cols:
                block = np.where(lags(rows, cols) < 0, np.nan, block)
            variable[k, rows, cols] = block


def _write_axes(file: netCDF4.Dataset, phi: np.ndarray, n_t: int, dt: float, q: float | np.ndarray) -> None:
    t = np.arange(n_t) * dt
    for name, values, units, label in (
        ("phi", phi, "degree", "azimuthal angle of the detector sector"),
        ("t1", t, "s", "time of the earlier frame"),
        ("t2", t, "s", "time of the later frame"),
    ):
        file.createDimension(name, values.size)
        axis = file.createVariable(name, "f8", (name,))
        axis.setncatts({"units": units, "long_name": label})
        axis[:] = values
    wave = file.createVariable("q", "f8", ("phi",) if np.ndim(q) else ())
    wave.setncatts({"units": "1/angstrom", "long_name": "scattering vector"})
    wave[...] = q
    file.setncattr("dt", float(dt))


def _write_attributes(file: netCDF4.Dataset, gap: float | None, attrs: Mapping[str, object]) -> None:
    if gap is not None:
        file.setncattr("gap", float(gap))
        file.setncattr("gap_units", "angstrom")
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    file.setncatts({"format": "netcdf", "Conventions": "CF-1.8", "history": f"{stamp} written by homodyne"})
    for name, value in attrs.items():
        if isinstance(value, (str, int, float, np.ndarray, np.number)):
            file.setncattr(name, value)


def is_zarr(path: Path) -> bool:
    """True for a directory that holds a Zarr group."""
    return path.is_dir() and any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata"))
