"""APS-U result files (``*_results.hdf``) with two-time matrices: reader and writer.

Layout: ``/xpcs/twotime/correlation_map/c2_%05d`` holds one (N, N) matrix per processed bin, numbered by a running
counter; ``processed_bins`` holds the 1-based bin labels in the same order; ``/xpcs/qmap/dynamic_index_mapping`` maps
label - 1 to a flat index into the (q, phi) grid, phi fastest. Cells without pixels are dropped and labels renumbered,
so the label alone does not tell q and phi.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendEntrypoint

from homodyne.data.formats.bins import bins_dataset, source_file
from homodyne.data.formats.hdf5 import (
    MatrixStack,
    as_text,
    frame_spacing,
    number,
    numeric_order,
    open_hdf5,
    seconds,
    text,
    tree,
    vector,
)
from homodyne.data.writing import replaced
from homodyne.errors import InputError

MATRICES = "xpcs/twotime/correlation_map"
LABELS = "xpcs/twotime/processed_bins"
CONFIG = "xpcs/twotime/config"
QMAP = "xpcs/qmap"
FRAME_TIME = "entry/instrument/detector_1/frame_time"
KEPT_TEXT = {
    "start_time": "entry/start_time",
    "schema_version": "entry/schema_version",
    "rawdata_path": "xpcs/rawdata_path",
    "sample": "entry/sample/short_description",
}
KEPT_NUMBERS = {
    "frame_time_s": FRAME_TIME,
    "stride_frame": f"{CONFIG}/stride_frame",
    "avg_frame": f"{CONFIG}/avg_frame",
    "begin_frame": f"{CONFIG}/begin_frame",
    "end_frame": f"{CONFIG}/end_frame",
    **{f"qnw{n}_temperature": f"entry/sample/qnw{n}_temperature" for n in (1, 2, 3)},
    "qnw_lakeshore": "entry/sample/qnw_lakeshore",
}


def recognized(file: h5py.File) -> bool:
    """True for a file with APS-U two-time results."""
    return MATRICES in file and f"{QMAP}/dynamic_v_list_dim0" in file


class ApsuBackend(BackendEntrypoint):
    """``xr.open_dataset(path, engine="apsu")`` -> c2(bin, t1, t2) with q(bin), phi(bin); only metadata is read."""

    description = "APS-U two-time correlation results"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = ("filename_or_obj", "drop_variables")

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.Dataset:
        """Lazy dataset of all processed bins.

        Raises:
            InputError: not an APS-U two-time file, or labels that cannot be attached to q and phi.
        """
        with open_hdf5(filename_or_obj) as file:
            _require_two_time(file, filename_or_obj)
            keys = [key for _, key in numeric_order(list(file[MATRICES]))]
            labels = _labels(file, len(keys))
            q, phi = _cells(file, labels)
            dt_s, dt_source = _dt(file)
            pixels = _pixels(file, labels)
            attrs: dict[str, object] = {name: text(file, path) for name, path in KEPT_TEXT.items()}
            attrs |= {name: number(file, path) for name, path in KEPT_NUMBERS.items()}
        attrs |= {"format": "apsu", "source_file": source_file(filename_or_obj)}
        dataset = bins_dataset(
            MatrixStack(filename_or_obj, MATRICES, keys),
            labels=labels, q=q, phi=phi, dt_s=dt_s, dt_source=dt_source, q_spread=1e-6, attrs=attrs,
            pixels=pixels,
        )  # fmt: skip
        return dataset.drop_vars(drop_variables) if drop_variables else dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Leave the choice to the user: the suffix .hdf says nothing about the content."""
        return False


def _require_two_time(file: h5py.File, path: object) -> None:
    if MATRICES in file and len(file[MATRICES]) > 0:
        return
    if "xpcs/multitau" in file:
        names = ", ".join(sorted(file["xpcs/multitau"]))
        raise InputError(
            "dataset.path", str(path), f"holds multi-tau results only (/xpcs/multitau: {names}), no two-time matrices",
            "run the correlator with the two-time analysis and give that result file",
        )  # fmt: skip
    raise InputError(
        "dataset.path", str(path), f"has no /{MATRICES}; found {tree(file)}", "give an APS-U two-time result file"
    )


def _labels(file: h5py.File, n_matrices: int) -> np.ndarray:
    """1-based bin label of each matrix, in the order of the counter."""
    if LABELS in file:
        labels = vector(file, LABELS, "").astype(np.int64)
    else:
        labels = np.arange(1, _bin_count(file, n_matrices) + 1)
    if labels.size != n_matrices:
        raise InputError(
            f"/{LABELS}", labels.size, f"labels do not match the {n_matrices} matrices in /{MATRICES}",
            "correlate again: the file is incomplete",
        )  # fmt: skip
    if labels.min() < 1 or np.unique(labels).size != labels.size:
        raise InputError(
            f"/{LABELS}", labels.tolist(), "are not distinct labels from 1", "check the writer of this file"
        )
    return labels


def _bin_count(file: h5py.File, otherwise: int) -> int:
    """Number of bins in the dynamic map, from the mapping or else from the map itself."""
    if f"{QMAP}/dynamic_index_mapping" in file:
        return int(file[f"{QMAP}/dynamic_index_mapping"].size)
    if f"{QMAP}/dynamic_roi_map" in file:
        return int(np.max(file[f"{QMAP}/dynamic_roi_map"][()]))
    return otherwise


def _cells(file: h5py.File, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """q [1/angstrom] and phi [deg] of each label through the index mapping."""
    _require_q_phi(file)
    q = vector(file, f"{QMAP}/dynamic_v_list_dim0", "give a file with its q map")
    phi = vector(file, f"{QMAP}/dynamic_v_list_dim1", "give a file with its q map")
    mapping = _mapping(file, labels, q.size * phi.size)
    if labels.max() > mapping.size or mapping.min() < 0 or mapping.max() >= q.size * phi.size:
        raise InputError(
            f"/{QMAP}/dynamic_index_mapping", mapping.size,
            f"does not cover the labels up to {labels.max()} on a grid of {q.size} q x {phi.size} phi",
            "check that the file holds the q map it was correlated with",
        )  # fmt: skip
    flat = mapping[labels - 1]
    return q[flat // phi.size], phi[flat % phi.size]


def _pixels(file: h5py.File, labels: np.ndarray) -> np.ndarray | None:
    """Detector pixels of each label, (n,), from the dynamic map; None without it."""
    path = f"{QMAP}/dynamic_roi_map"
    if path not in file:
        return None
    counted = np.bincount(np.asarray(file[path][()]).ravel().astype(np.int64), minlength=int(labels.max()) + 1)
    return counted[labels] if np.all(counted[labels] > 0) else None


def _mapping(file: h5py.File, labels: np.ndarray, n_cells: int) -> np.ndarray:
    """Flat cell of each label - 1, as int64: the stored type may be uint8 and would overflow."""
    path = f"{QMAP}/dynamic_index_mapping"
    if path in file:
        return vector(file, path, "").astype(np.int64)
    n_bins = _bin_count(file, labels.size)
    if n_bins != n_cells:
        raise InputError(
            f"/{path}", None, f"is missing and the {n_bins} bins do not fill the grid of {n_cells} cells, so q and phi are unknown",
            "give a file with its index mapping",
        )  # fmt: skip
    return np.arange(n_cells)


def _require_q_phi(file: h5py.File) -> None:
    path = f"{QMAP}/map_names"
    if path in file:
        names = [as_text(name) for name in np.asarray(file[path][()]).ravel()]
        if names != ["q", "phi"]:
            raise InputError(f"/{path}", names, "is not a (q, phi) map", "correlate with a q map made of q and phi")


def _dt(file: h5py.File) -> tuple[float | None, str]:
    """dt = frame_time x stride_frame x avg_frame of the two-time analysis [s]."""
    frame_time, problem = seconds(file, FRAME_TIME)
    if problem:
        return None, problem
    names = ("stride_frame", "avg_frame")
    return frame_spacing({"frame_time": frame_time, **{name: number(file, f"{CONFIG}/{name}") for name in names}})


def write_apsu(
    path: str | os.PathLike[str],
    c2: np.ndarray | Callable[[int], np.ndarray],
    *,
    q: np.ndarray,
    phi: np.ndarray,
    cells: Sequence[tuple[int, int]],
    frame_time_s: float,
    stride_frame: int = 1,
    avg_frame: int = 1,
    processed: Sequence[int] | None = None,
    pixels: Sequence[int] | None = None,
    attrs: dict[str, str] | None = None,
) -> None:
    """Write matrices in the APS-U two-time layout (upper triangle, lzf, one chunk per matrix).

    Args:
        c2: per processed bin, in order: (n, N, N), or a function of the position that returns one (N, N) matrix.
        q, phi: the grid, (n_q,) [1/angstrom] and (n_phi,) [deg].
        cells: (q index, phi index) of the cells that have pixels; bins are labeled from 1 in flat order.
        frame_time_s: detector frame time; the spacing of the matrices is frame_time x stride x avg.
        processed: labels that were correlated, ascending; all by default.
        pixels: detector pixels of every cell, in the order of its label; a dynamic map with that many is written.
        attrs: texts stored below ``/entry`` (``start_time``).

    Raises:
        InputError: the folder cannot be written.
    """
    flat = np.array(sorted(iq * len(phi) + iphi for iq, iphi in cells))
    labels = np.arange(1, flat.size + 1) if processed is None else np.asarray(processed)
    matrix = c2 if callable(c2) else c2.__getitem__
    with replaced(path) as temporary, h5py.File(temporary, "w") as file:
        for k in range(labels.size):
            upper = np.triu(matrix(k)).astype(np.float32)
            file.create_dataset(f"{MATRICES}/c2_{k + 1:05d}", data=upper, chunks=upper.shape, compression="lzf")
        file[LABELS] = labels.astype(np.int32)
        file[f"{QMAP}/dynamic_index_mapping"] = flat.astype(np.min_scalar_type(int(flat.max())))
        for n, (name, unit, values) in enumerate((("q", "Å⁻¹", q), ("phi", "deg", phi))):
            axis = file.create_dataset(f"{QMAP}/dynamic_v_list_dim{n}", data=np.asarray(values, dtype=np.float64))
            axis.attrs.update({"name": name, "unit": unit, "size": len(values)})
        if pixels is not None:
            file[f"{QMAP}/dynamic_roi_map"] = _roi_map(pixels)
        file[f"{QMAP}/map_names"] = np.array([b"q", b"phi"])
        file[FRAME_TIME] = float(frame_time_s)
        settings = {"stride_frame": stride_frame, "avg_frame": avg_frame, "begin_frame": 0, "end_frame": -1}
        for name, value in settings.items():
            file[f"{CONFIG}/{name}"] = value
        for name, words in (attrs or {}).items():
            file[f"entry/{name}"] = words


def _roi_map(pixels: Sequence[int]) -> np.ndarray:
    """A detector, rows of 1024 pixels, on which label n has ``pixels[n - 1]`` of them."""
    flat = np.repeat(np.arange(1, len(pixels) + 1), pixels)
    rows = -(-flat.size // 1024)
    return np.pad(flat, (0, rows * 1024 - flat.size)).reshape(rows, 1024).astype(np.uint16)
