"""Beamline files written with plain h5py from the format description, independently of the package's writers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def matrix(seed: int, n_t: int = 24) -> np.ndarray:
    """Symmetric float32 matrix with values that identify it and a raw diagonal that must never matter."""
    rng = np.random.default_rng(seed)
    upper = np.triu(1.0 + 0.01 * seed + 0.05 * rng.random((n_t, n_t)), k=1)
    full = upper + upper.T
    np.fill_diagonal(full, 1e6)
    return full.astype(np.float32)


def pairs(values: np.ndarray) -> np.ndarray:
    """The meaningful half of a matrix as a vector."""
    return values[np.triu_indices(values.shape[0], k=1)]


def write_apsu_raw(path: Path, **changes: object) -> list[np.ndarray]:
    """APS-U file: 2 q x 4 phi (unsorted), two cells dropped, three bins not processed; returns the matrices.

    Kept cells in flat order: (0,0) (0,2) (0,3) (1,0) (1,1) (1,3); processed labels 1, 3, 5, 6 ->
    (0,0) (0,3) (1,1) (1,3).
    """
    parts: dict[str, object] = {
        "processed": [1, 3, 5, 6],
        "mapping": np.array([0, 2, 3, 4, 5, 7], dtype=np.uint8),
        "q": [0.0054, 0.0070],
        "phi": [170.0, -35.0, 10.0, -175.0],
        "map_names": [b"q", b"phi"],
        "frame_time": np.array([[0.02]], dtype=np.float32),
        "stride": 3,
        "avg": 2,
        "upper_only": True,
        "frame_unit": None,
        "n_t": 24,
        "count": 4,
    } | changes
    data = [matrix(seed + 1, int(parts["n_t"])) for seed in range(int(parts["count"]))]  # type: ignore[call-overload]
    with h5py.File(path, "w") as file:
        for n, values in enumerate(data):
            stored = np.triu(values) if parts["upper_only"] else values
            name = f"xpcs/twotime/correlation_map/c2_{n + 1:05d}"
            file.create_dataset(name, data=stored, compression="lzf", chunks=stored.shape)
        for name, key in {
            "xpcs/twotime/processed_bins": "processed",
            "xpcs/qmap/dynamic_index_mapping": "mapping",
            "xpcs/qmap/dynamic_v_list_dim0": "q",
            "xpcs/qmap/dynamic_v_list_dim1": "phi",
            "xpcs/qmap/map_names": "map_names",
            "entry/instrument/detector_1/frame_time": "frame_time",
            "xpcs/twotime/config/stride_frame": "stride",
            "xpcs/twotime/config/avg_frame": "avg",
        }.items():
            if parts[key] is not None:
                file[name] = parts[key]
        if parts["frame_unit"] is not None:
            file["entry/instrument/detector_1/frame_time"].attrs["unit"] = parts["frame_unit"]
    return data


def write_legacy_raw(
    path: Path, *, keys: list[str], labels: list[int] | None = None, **changes: object
) -> list[np.ndarray]:
    """Legacy file: two rings of three bins each whose q differ a little from bin to bin; returns the matrices."""
    parts: dict[str, object] = {
        "q": [0.0050, 0.0053, 0.0047, 0.0080, 0.0083, 0.0078],
        "phi": [0.0, 60.0, -60.0, 0.1, 60.05, -60.02],
        "exposure": [[0.05]],
        "stride": [[2]],
        "avg": [[2]],
    } | changes
    data = [matrix(seed + 1) for seed in range(len(keys))]
    with h5py.File(path, "w") as file:
        for key, values in zip(keys, data, strict=True):
            file[f"exchange/C2T_all/{key}"] = np.triu(values)
        file["xpcs/dqlist"] = np.array([parts["q"]])
        file["xpcs/dphilist"] = np.array([parts["phi"]])
        for name, key in {
            "measurement/instrument/detector/exposure_period": "exposure",
            "xpcs/stride_frames": "stride",
            "xpcs/avg_frames": "avg",
        }.items():
            if parts[key] is not None:
                file[name] = parts[key]
        if labels is not None:
            file["xpcs/qphi_bin_to_process"] = labels
    return data
