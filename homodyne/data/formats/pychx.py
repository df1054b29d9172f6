"""Result files of pyCHX (NSLS-II, 11-ID; ``uid=..._Res.h5``) with two-time matrices: reader.

Layout: ``/g12b`` (N, N, n) holds the full matrices with the bin last, raw diagonal included; the attributes "0", "1", ... of
``/qval_dict`` hold the values of every bin, q or (q, phi); attributes of ``/md`` hold the metadata, ``frame_time`` [s] among
them. ``/tausb`` holds delays of the same matrices [s]: the frame spacing must be found there too, it is not where frames were
binned before the correlation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendEntrypoint

from homodyne.data.formats.bins import bins_dataset, degrees, ring_spread, source_file
from homodyne.data.formats.hdf5 import as_text, frame_spacing, open_hdf5, tree
from homodyne.data.formats.stacks import ArrayStack
from homodyne.errors import InputError

MATRICES = "g12b"
VALUES = "qval_dict"
METADATA = "md"
KEPT = ("uid", "sample", "Measurement", "start_time", "temperature")
# Delays are whole multiples of the frame spacing, within rounding.
_ROUNDING = 1e-4


def recognized(file: h5py.File) -> bool:
    """True for a file with pyCHX two-time results."""
    return MATRICES in file and VALUES in file


class PychxBackend(BackendEntrypoint):
    """``xr.open_dataset(path, engine="pychx")`` -> c2(bin, t1, t2) with q(bin), phi(bin); only metadata is read."""

    description = "pyCHX two-time correlation results"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = ("filename_or_obj", "drop_variables")

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.Dataset:
        """Lazy dataset of all bins.

        Raises:
            InputError: not a pyCHX two-time file, or bins whose q is unknown.
        """
        with open_hdf5(filename_or_obj) as file:
            if not recognized(file):
                raise InputError(
                    "dataset.path", str(filename_or_obj), f"lacks /{MATRICES} or /{VALUES}; found {tree(file)}",
                    "run pyCHX with the two-time analysis and give that result file",
                )  # fmt: skip
            labels, q, phi = _values(file)
            metadata = file[METADATA].attrs if METADATA in file else {}
            dt_s, dt_source = _dt(file, metadata)
            attrs: dict[str, object] = {name: _plain(metadata[name]) for name in KEPT if name in metadata}
        attrs |= {"format": "pychx", "source_file": source_file(filename_or_obj)}
        stack = ArrayStack(filename_or_obj, MATRICES, q_last=True)
        if stack.shape[0] != labels.size:
            raise InputError(
                f"/{VALUES}", labels.size, f"entries do not match the {stack.shape[0]} matrices of /{MATRICES}",
                "give a file with one entry for every matrix",
            )  # fmt: skip
        dataset = bins_dataset(
            stack, labels=labels, q=q, phi=phi, dt_s=dt_s, dt_source=dt_source, q_spread=ring_spread(q, phi), attrs=attrs,
        )  # fmt: skip
        return dataset.drop_vars(drop_variables) if drop_variables else dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Leave the choice to the user: the suffix says nothing about the content."""
        return False


def _values(file: h5py.File) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Bin numbers, q [1/angstrom] and phi [deg] or None, in the order of the matrices."""
    stored = {}
    for key, value in file[VALUES].attrs.items():
        if not key.isdecimal():
            raise InputError(f"/{VALUES}", key, "is not the number of a bin", "check the writer of this file")
        stored[int(key)] = np.asarray(value, dtype=np.float64).ravel()
    labels = np.array(sorted(stored), dtype=np.int64)
    if not labels.size or not np.array_equal(labels, labels[0] + np.arange(labels.size)):
        raise InputError(
            f"/{VALUES}", labels.tolist(), "does not number the bins without gaps", "give one entry for every matrix"
        )
    sizes = {stored[n].size for n in stored}
    if len(sizes) != 1 or not sizes <= {1, 2}:
        raise InputError(
            f"/{VALUES}", sorted(sizes), "values per bin are neither q nor (q, phi)", "use regions of |q| and azimuth"
        )
    values = np.array([stored[int(n)] for n in labels])
    if values.shape[1] == 1:
        return labels, values[:, 0], None
    # pyCHX puts (q_parallel, q_perpendicular) of grazing incidence in the same place: small numbers are refused
    return labels, values[:, 0], degrees(values[:, 1], "", f"/{VALUES}")


def _dt(file: h5py.File, metadata: Any) -> tuple[float | None, str]:
    """Frame spacing [s]: ``frame_time``, if the delays of the two-time analysis are multiples of it and begin with it."""
    dt_s, source = frame_spacing({"frame_time": _number(metadata.get("frame_time"))})
    delays = file.get("tausb")
    if dt_s is None or not isinstance(delays, h5py.Dataset):
        return dt_s, source
    values = np.asarray(delays[()], dtype=np.float64).ravel()
    values = values[np.isfinite(values) & (values > 0)]
    if values.size and abs(values.min() - dt_s) > _ROUNDING * dt_s:
        return None, (
            f"not usable: frame_time = {dt_s:g} s, but the delays of the two-time analysis (tausb) begin with {values.min():g} s"
        )
    return dt_s, source


def _number(value: object) -> float | None:
    """A number that may be stored as text; None where it is not one."""
    try:
        return None if value is None else float(_plain(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _plain(value: object) -> object:
    """Attributes of pyCHX are numbers, texts, or arrays of one of these."""
    item = np.asarray(value).ravel()
    if item.size != 1:
        return as_text(value)
    return float(item[0]) if item.dtype.kind in "fiu" else as_text(item[0])
