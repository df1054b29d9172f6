"""NXxpcs and pyCHX files written with plain h5py from their descriptions; the package has no writer for them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

N_T, Q, PHI, DT = 20, (0.005, 0.005, 0.007, 0.007), (-90.0, 10.0, -90.0, 10.0), 0.02
DEAD = 13


def time_ordered(n: int = 4, n_t: int = N_T) -> np.ndarray:
    """(n, n_t, n_t) symmetric, baseline 1, each map its own values; frame 13 of the second has no counts."""
    rng = np.random.default_rng(7)
    upper = np.triu(1.0 + 0.1 * np.arange(n)[:, None, None] + 0.05 * rng.random((n, n_t, n_t)), 1)
    c2 = upper + upper.transpose(0, 2, 1)
    if n > 1:
        c2[1, DEAD], c2[1, :, DEAD] = 0.0, 0.0
    c2[:, np.arange(n_t), np.arange(n_t)] = 1e6
    return c2.astype(np.float32)


def on_paper(c2: np.ndarray, populated: str, origin: str, baseline: int) -> np.ndarray:
    """One map as it is stored: seen as a picture with its first row on top, that half filled which the attribute names."""
    n_t = len(c2)
    row, column = np.indices(c2.shape)
    picture = np.where(c2 == 0, 0.0, c2 - 1.0) if baseline == 0 else c2.copy()
    # where the element of equal times is in every column of the picture
    equal = column
    if origin == "lower_left":
        picture, equal = np.flipud(picture), n_t - 1 - column
    if populated == "upper_half":
        return np.where(row <= equal, picture, 0.0)
    return np.where(row >= equal, picture, 0.0) if populated == "lower_half" else picture


def write_nxxpcs(path: Path, c2: np.ndarray | None = None, **changes: object) -> None:
    """An NXxpcs file; changes replace the four attributes (``stated``: what they say instead), ``q``, ``phi``, units, times; None leaves a part out."""
    c2 = time_ordered() if c2 is None else c2
    n = len(c2)
    parts: dict = {
        "storage_mode": "one_array_q_first", "populated_elements": "all", "time_origin_location": "upper_left",
        "baseline_reference": 1, "q": np.array(Q[:n]), "phi": np.array(PHI[:n]), "q_units": "1/angstrom",
        "phi_units": "degree", "frame_time": DT, "time_units": "s", "roi_map": None, "entry": "entry", "frame_sum": None,
        "stated": {},
    } | changes  # fmt: skip
    layout = [parts[name] for name in ("populated_elements", "time_origin_location", "baseline_reference")]
    stored = np.stack([on_paper(m, *layout) for m in c2])
    with h5py.File(path, "a") as file:
        entry = file.create_group(parts["entry"])
        entry["definition"] = "NXxpcs"
        name = "twotime/two_time_corr_func"
        if parts["storage_mode"] == "data_exchange_keys":
            for k in reversed(range(n)):  # in no order
                entry[f"{name}/c2_{k + 1}"] = stored[k]
        else:
            entry[name] = stored.transpose(1, 2, 0) if parts["storage_mode"] == "one_array_q_last" else stored
        for attribute in ("storage_mode", "populated_elements", "time_origin_location", "baseline_reference"):
            if parts[attribute] is not None:
                entry[name].attrs[attribute] = parts["stated"].get(attribute, parts[attribute])
        masks = entry.create_group("instrument/masks")
        for key, unit in (("q", "q_units"), ("phi", "phi_units")):
            if parts[key] is not None:
                masks[f"dynamic_{key}_list"] = parts[key]
                if parts[unit] is not None:
                    masks[f"dynamic_{key}_list"].attrs["units"] = parts[unit]
        if parts["roi_map"] is not None:
            masks["dynamic_roi_map"] = parts["roi_map"]
        if parts["frame_time"] is not None:
            entry["instrument/detector_1/frame_time"] = parts["frame_time"]
            entry["instrument/detector_1/frame_time"].attrs["units"] = parts["time_units"]
        if parts["frame_sum"] is not None:
            entry["data/frame_sum"] = parts["frame_sum"]


def write_pychx(path: Path, c2: np.ndarray | None = None, **changes: object) -> None:
    """A pyCHX file; ``values`` are those of qval_dict, ``layout`` arguments of h5py for the array."""
    c2 = time_ordered() if c2 is None else c2
    parts: dict = {
        "values": {str(k): [q, phi] for k, (q, phi) in enumerate(zip(Q[: len(c2)], PHI, strict=False))},
        "frame_time": DT, "tausb": None, "layout": {},
    } | changes  # fmt: skip
    with h5py.File(path, "w") as file:
        file.create_dataset("g12b", data=c2.transpose(1, 2, 0).astype(np.float64), **parts["layout"])
        file.create_dataset("md", (1,), dtype="i").attrs["uid"] = "d99ee9"
        if parts["frame_time"] is not None:
            file["md"].attrs["frame_time"] = parts["frame_time"]
        values = file.create_dataset("qval_dict", (1,), dtype="i")
        for key, value in parts["values"].items():
            values.attrs[key] = value
        if parts["tausb"] is not None:
            file["tausb"] = parts["tausb"]
