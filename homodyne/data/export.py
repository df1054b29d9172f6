"""A Dataset as lazy xarray objects and as a NetCDF file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from homodyne.data.formats.bins import PHI_UNITS, Q_UNITS, time_coordinates
from homodyne.data.formats.netcdf import write_netcdf_stream
from homodyne.data.maps import Maps

if TYPE_CHECKING:
    from homodyne.data.dataset import Dataset


class DatasetArray(BackendArray):
    """c2(phi, t1, t2) that reads blocks of a Dataset when indexed."""

    def __init__(self, source: Dataset) -> None:
        self.shape, self.dtype = (source.n_phi, source.n_t, source.n_t), source.maps.dtype
        self._source = source

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        which, *window = key
        ranges = [part if isinstance(part, slice) else slice(part, part + 1) for part in window]
        rows, cols = (slice(*part.indices(self.shape[1])[:2]) for part in ranges)
        steps = tuple(slice(None, None, part.step) if isinstance(part, slice) else 0 for part in window)
        if not isinstance(which, slice):
            return self._source.read_block(int(which), rows, cols)[steps]
        blocks = [self._source.read_block(k, rows, cols)[steps] for k in range(*which.indices(self.shape[0]))]
        return np.stack(blocks) if blocks else np.empty((0, 0, 0), self.dtype)


def to_xarray(source: Dataset) -> xr.Dataset:
    """Lazy dataset with units; nothing is read."""
    c2 = xr.Variable(
        ("phi", "t1", "t2"),
        indexing.LazilyIndexedArray(DatasetArray(source)),
        {"units": "1", "long_name": "two-time intensity correlation", "invalid_points": "NaN"},
    )
    coords = {
        "phi": xr.Variable("phi", source.phi, {"units": PHI_UNITS}),
        "q": xr.Variable(() if isinstance(source.q, float) else "phi", source.q, {"units": Q_UNITS}),
        **time_coordinates(source.n_t, source.dt),
    }
    attrs: dict[str, object] = {"dt": source.dt, "format": source.engine}
    if source.path is not None:
        attrs["source_file"] = str(source.path.absolute())
    if source.gap is not None:
        attrs |= {"gap": source.gap, "gap_units": "angstrom"}
    return xr.Dataset({"c2": c2}, coords, attrs)


def to_netcdf(source: Dataset, path: str | os.PathLike[str], *, compression: bool = False) -> None:
    """Stream the upper triangle to NetCDF; a given sigma is kept, an estimated one is left to be estimated again."""
    sigma = source.sigma_given

    def sigma_block(k: int, rows: slice, cols: slice) -> np.ndarray:
        block = source.read_sigma(k, rows, cols)
        assert block is not None
        return block

    kept = {name: value for name, value in source.attrs.items() if name not in ("format", "bytes", "invalid_points")}
    kept["original_format"] = source.engine
    if source.path is not None:
        kept.setdefault("source_file", str(source.path.absolute()))
    write_netcdf_stream(
        path, source.read_block, phi=source.phi, n_t=source.n_t, dt=source.dt, q=source.q, gap=source.gap,
        sigma=sigma_block if isinstance(sigma, Maps) else sigma, dtype=source.maps.dtype, compression=compression, attrs=kept,
    )  # fmt: skip
