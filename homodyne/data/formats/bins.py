"""The layout beamline readers produce: c2(bin, t1, t2), one bin per (q, phi) cell that the file holds."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import xarray as xr
from xarray.core import indexing

from homodyne.data.formats.stacks import Stack
from homodyne.errors import InputError

Q_UNITS = "1/angstrom"
PHI_UNITS = "degree"
#: The attribute ``phi_source`` of files that average over all directions.
NO_PHI = "none: averaged over all directions, 0 stands for it"
# Bins of one ring differ in q by up to about +-10 % where q is listed bin by bin.
RING_SPREAD = 0.2
_DEGREES = ("deg", "degree", "degrees", "°")
_RADIANS = ("rad", "radian", "radians")


def time_coordinates(n_t: int, dt_s: float | None) -> dict[str, xr.Variable]:
    """t1 and t2: seconds from the first frame, or frame numbers where dt is unknown."""
    units = "frame" if dt_s is None else "s"
    values = np.arange(n_t, dtype=np.float64) * (1.0 if dt_s is None else dt_s)
    names = {"t1": "time of the earlier frame", "t2": "time of the later frame"}
    return {name: xr.Variable(name, values, {"units": units, "long_name": label}) for name, label in names.items()}


def bins_dataset(
    stack: Stack,
    *,
    labels: np.ndarray,
    q: np.ndarray,
    phi: np.ndarray | None,
    dt_s: float | None,
    dt_source: str,
    q_spread: float,
    attrs: Mapping[str, object],
    filled_half: str = "upper",
    pixels: np.ndarray | None = None,
) -> xr.Dataset:
    """Lazy, labeled dataset of a stack of matrices.

    Args:
        stack: matrices (n_bin, n_t, n_t).
        labels, q, phi: per bin, shape (n_bin,); [-], [1/angstrom], [deg]; phi None where there are no directions: 0 then,
            and ``phi_source`` says so.
        dt_s: frame spacing [s] or None when the file does not tell; dt_source: where from, or what is missing.
        q_spread: how far q may differ, relatively, between the bins of one ring.
        attrs: further facts worth keeping (temperatures, start time).
        filled_half: upper, rows = earlier time, or lower, rows = later time.
        pixels: detector pixels of every bin, (n_bin,), None where the file does not tell.
    """
    if phi is None:
        phi, attrs = np.zeros(len(q)), {**attrs, "phi_source": NO_PHI}
    c2 = xr.Variable(
        ("bin", "t1", "t2"),
        indexing.LazilyIndexedArray(stack),
        {"units": "1", "long_name": "two-time intensity correlation", "filled_half": filled_half},
        {"chunksizes": (1, *stack.chunks)} if stack.chunks else {},
    )
    coords = {
        "bin": xr.Variable("bin", labels, {"long_name": "label of the bin in the dynamic map"}),
        "q": xr.Variable("bin", q, {"units": Q_UNITS, "ring_spread": q_spread}),
        "phi": xr.Variable("bin", phi, {"units": PHI_UNITS}),
        **time_coordinates(stack.shape[1], dt_s),
    }
    if pixels is not None:
        coords["pixels"] = xr.Variable("bin", pixels, {"long_name": "detector pixels of the bin"})
    facts = {name: value for name, value in attrs.items() if value is not None}
    if dt_s is not None:
        facts["dt"] = dt_s
    facts |= {"dt_source": dt_source, "reader_cache_bytes": stack.cache_bytes}
    dataset = xr.Dataset({"c2": c2}, coords, facts)
    dataset.set_close(stack.close)
    return dataset


def degrees(values: np.ndarray, unit: str, field: str) -> np.ndarray:
    """Azimuths [deg] from values whose unit is known, or shows: beyond 2 pi they cannot be radians.

    Raises:
        InputError: no unit of angle, and values that may be degrees, radians, or something else.
    """
    if unit.lower() in _DEGREES:
        return values
    if unit.lower() in _RADIANS:
        return np.degrees(values)
    if np.any(np.abs(values) > 2 * np.pi + 1e-6) or not np.any(values):
        return values
    raise InputError(
        field, values[:4].tolist(), f"may be degrees, radians or no angles at all (unit {unit or None})",
        "store units = degree with it",
    )  # fmt: skip


def ring_spread(q: np.ndarray, phi: np.ndarray | None) -> float:
    """How far q may differ within a ring: not at all where values recur or no directions are told apart."""
    return 1e-6 if phi is None or np.unique(q).size < q.size or q.size == 1 else RING_SPREAD


def source_file(path: str | os.PathLike[str]) -> str:
    """Absolute path of a data file, as recorded in every dataset."""
    return os.path.abspath(os.fspath(path))
