"""Repetitions of one measurement as one dataset: the mean of their c2, block by block, and every one of them when asked for.

A point is invalid where it is in any of the repetitions, so that all points of the mean have the noise of R measurements:
a mean over those that are left would be noisier where one is missing, and no sigma per angle could say so. A frame without
counts in one repetition is therefore masked in the mean.
"""

from __future__ import annotations

import dataclasses
import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from homodyne.data.arrays import check_sigma
from homodyne.data.dataset import Dataset
from homodyne.data.formats import is_zarr
from homodyne.data.maps import Maps
from homodyne.data.opening import open_dataset
from homodyne.errors import InputError

log = logging.getLogger(__name__)

#: What several files are: measurements of the same sectors, or different sectors of one measurement.
COMBINE = ("repetitions", "sectors")
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
# Repetitions share their geometry; these differences are rounding, or a frame time as the detector reports it.
Q_RTOL, PHI_DEG, DT_RTOL = 1e-4, 1e-2, 1e-5


def files_of(path: Paths) -> list[Path]:
    """The files of a path, of a list of paths, of folders and of patterns (``run_*.hdf``) in either; the latter in their order.

    Raises:
        InputError: an empty list, a pattern that matches nothing, an empty folder, a file that is named twice.
    """
    given = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not given:
        raise InputError("dataset.path", path, "names no file", "give a path, a list of paths or a pattern")
    found: list[Path] = []
    for item in given:
        if Path(item).is_dir() and not is_zarr(Path(item)):
            found += _in_folder(Path(item))
            continue
        if Path(item).exists() or not glob.has_magic(os.fspath(item)):
            found.append(Path(item))
            continue
        matches = sorted(glob.glob(os.fspath(item)))
        if not matches:
            raise InputError("dataset.path", os.fspath(item), "matches no file", "check the folder and the pattern")
        found += [Path(match) for match in matches]
    resolved = [p.resolve() for p in found]
    twice = next((p for p, r in zip(found, resolved, strict=True) if resolved.count(r) > 1), None)
    if twice is not None:
        raise InputError("dataset.path", str(twice), "is named twice", "name every file once: a copy is no evidence")
    return found


def _in_folder(folder: Path) -> list[Path]:
    """The files of a folder, hidden ones left out."""
    files = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and (p.is_file() or is_zarr(p))]
    if not files:
        raise InputError("dataset.path", str(folder), "is a folder without files", "check the folder")
    return files


def open_files(path: Paths, *, combine: str, sigma: Any, **settings: Any) -> Dataset:
    """``open_dataset`` of one file, the mean of several, or their sectors side by side; see ``Dataset.open``."""
    if combine not in COMBINE:
        raise InputError("dataset.combine", combine, "is unknown", f"choose one of {', '.join(COMBINE)}")
    files = files_of(path)
    if len(files) == 1:
        return open_dataset(files[0], sigma=sigma, **settings)
    if combine == "sectors":
        from homodyne.data.parts import sectors_of

        angles = settings["angles"]
        each = {**settings, "angles": dataclasses.replace(angles, wanted=None)}
        return sectors_of([open_dataset(file, sigma=None, **each) for file in files], angles, sigma)
    parts = [open_dataset(file, sigma=None, **settings) for file in files]
    mean = mean_of(parts)
    if sigma is None:
        return mean
    if np.ndim(sigma) > 1:
        raise InputError("dataset.sigma", np.shape(sigma), "is not one number per angle", "store sigma in the files")
    given, source = check_sigma(sigma, mean.n_phi, ())
    return dataclasses.replace(mean, sigma_given=given, sigma_source=source)


def mean_of(parts: Sequence[Dataset]) -> Dataset:
    """The mean of repetitions; nothing is read.

    Args:
        parts: at least two datasets of the same q, phi, frames and dt.

    Raises:
        InputError: they differ, naming the file and the field; one file is a mean of more repetitions than another.
    """
    first = parts[0]
    for other in parts[1:]:
        _require_same(first, other)
    each = {int(part.attrs.get("n_repetitions", 1)) for part in parts}
    if len(each) > 1:
        raise InputError(
            "n_repetitions", sorted(each), "files that are means of different numbers of repetitions cannot be averaged",
            "give the files of the single repetitions",
        )  # fmt: skip
    names = [f"in memory {n + 1}" if part.path is None else str(part.path) for n, part in enumerate(parts)]
    attrs = {
        **first.attrs,
        "n_repetitions": len(parts) * each.pop(),
        "repetitions": names,
        "source_file": "; ".join(
            str(part.attrs.get("source_file", Path(name).name)) for part, name in zip(parts, names, strict=True)
        ),
        "bytes": sum(int(part.attrs["bytes"]) for part in parts),
        "reader_cache_bytes": sum(int(part.attrs.get("reader_cache_bytes", 0)) for part in parts),
    }
    if any(part.attrs.get("invalid_points") != "NaN" for part in parts):
        attrs["invalid_points"] = "zero rows"
    if all("pixels" in part.attrs for part in parts):
        attrs["pixels"] = np.sum([part.attrs["pixels"] for part in parts], axis=0).tolist()
    else:
        attrs.pop("pixels", None)
    engines = {part.engine for part in parts}
    sigma, source = _sigma(parts)
    return dataclasses.replace(
        first, engine=first.engine if len(engines) == 1 else "+".join(sorted(engines)), attrs=attrs,
        maps=_together([part.maps for part in parts]), sigma_given=sigma, sigma_source=source, recipe=None, _dead={}, _counts={},
    )  # fmt: skip


def single_repetitions(mean: Dataset) -> tuple[Dataset, ...]:
    """Every repetition of a mean, with the weights and the empty frames of the mean; empty where there is one file.

    Same weights and same frames let fits of the repetitions scatter about the fit of the mean. Points that are NaN in some
    of the files (not whole frames without counts) are masked in these alone.
    """
    if mean.maps.variable.dims[0] != DIMENSION:
        return ()
    sigma = mean.sigma if mean.sigma_given is None else mean.sigma_given
    dead = {k: mean.dead_frames(k) for k in range(mean.n_phi)}
    paths = mean.attrs["repetitions"]
    return tuple(
        dataclasses.replace(
            mean,
            path=None if mean.path is None else Path(paths[r]),
            maps=_only(mean.maps, r),
            sigma_given=sigma,
            recipe=None if mean.recipe is None else dataclasses.replace(mean.recipe, repetition=r),
            _dead=dict(dead),
            _counts={},
        )
        for r in range(mean.maps.variable.shape[0])
    )


DIMENSION = "repetition"


class FilesArray(BackendArray):
    """Matrices of several files as one lazy array (file, matrix, t1, t2), in frames of their windows."""

    def __init__(self, parts: Sequence[Maps]) -> None:
        self._parts = tuple(parts)
        self._flat = [[index for members in part.members for index in members] for part in parts]
        n_t = parts[0].n_t
        self.shape = (len(parts), max(len(flat) for flat in self._flat), n_t, n_t)
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        r, m, rows, cols = key
        if not (isinstance(r, (int, np.integer)) and isinstance(m, (int, np.integer))):
            raise IndexError("one matrix of one file at a time")
        n_t = self.shape[-1]
        rows, cols = (slice(*part.indices(n_t)[:2]) for part in (rows, cols) if isinstance(part, slice))
        block = self._parts[r].member_values(self._flat[r][m], rows, cols)
        return block.astype(self.dtype, copy=False)


def _together(parts: Sequence[Maps]) -> Maps:
    """One map per angle, made of the matrices of all repetitions; merged angles have several in each."""
    dims = (DIMENSION, "matrix", "t1", "t2")
    variable = xr.Variable(dims, indexing.LazilyIndexedArray(FilesArray(parts)))
    members, place = [], 0
    for group in parts[0].members:
        places = range(place, place + len(group))
        members.append(tuple((r, m) for r in range(len(parts)) for m in places))
        place += len(group)
    return Maps(variable, tuple(members), 0, parts[0].n_t)


def _only(maps: Maps, r: int) -> Maps:
    """The matrices of one repetition."""
    return dataclasses.replace(
        maps, members=tuple(tuple(index for index in group if index[0] == r) for group in maps.members)
    )


def _sigma(parts: Sequence[Dataset]) -> tuple[np.ndarray | Maps | None, str]:
    """Sigma of the mean from those of the files: sqrt(sum sigma**2) / R; None where it is estimated."""
    kinds = {type(part.sigma_given) for part in parts}
    if len(kinds) > 1:
        raise InputError(
            "sigma", [part.sigma_source for part in parts], "is stored differently in the files of the repetitions",
            "give sigma of the mean (dataset.sigma), or store it alike in all",
        )  # fmt: skip
    given = [part.sigma_given for part in parts]
    if isinstance(given[0], Maps):
        return _together([s for s in given if isinstance(s, Maps)]), parts[0].sigma_source
    if given[0] is None:
        return None, parts[0].sigma_source
    squares = np.sum([np.asarray(s) ** 2 for s in given if isinstance(s, np.ndarray)], axis=0)
    return np.sqrt(squares) / len(parts), parts[0].sigma_source


def _require_same(first: Dataset, other: Dataset) -> None:
    """Raise InputError naming the file and the first field in which it differs from the first file."""

    def refuse(field: str, value: object, reference: object, remedy: str) -> InputError:
        return InputError(f"{field} of {other.path}", value, f"differs from {reference} of {first.path}", remedy)

    same = "give repetitions of one measurement only"
    if first.n_t != other.n_t:
        n = min(first.n_t, other.n_t)
        raise refuse("frames", other.n_t, first.n_t, f"choose frames that all files have, e.g. dataset.frames=[1,{n}]")
    remedy = f"{same}, or select q and phi that all have (dataset.q, dataset.phi)"
    if first.n_phi != other.n_phi:
        raise refuse("phi", _shown(other.phi), _shown(first.phi), remedy)
    if not np.allclose(other.sector_q, first.sector_q, rtol=Q_RTOL, atol=0):
        raise refuse("q", _shown(other.sector_q), _shown(first.sector_q), remedy)
    if np.any(np.abs((other.phi - first.phi + 180) % 360 - 180) > PHI_DEG):
        raise refuse("phi", _shown(other.phi), _shown(first.phi), remedy)
    if abs(first.dt - other.dt) > DT_RTOL * first.dt:
        raise refuse("dt", other.dt, f"{first.dt:.9g} s", same)
    if (first.gap is None) != (other.gap is None) or (first.gap and other.gap and first.gap != other.gap):
        raise refuse("gap", other.gap, first.gap, "give dataset.gap_angstrom")
    if [len(m) for m in first.maps.members] != [len(m) for m in other.maps.members]:
        raise refuse("merged angles", other.attrs.get("merged_angles"), first.attrs.get("merged_angles"), same)


def _shown(values: np.ndarray) -> str:
    """Different values, in order."""
    return ", ".join(dict.fromkeys(f"{value:.6g}" for value in values))
