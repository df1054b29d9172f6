"""Files that follow the NeXus definition NXxpcs, with two-time matrices: reader.

Layout (https://manual.nexusformat.org, contributed definition NXxpcs): ``/<entry>/twotime/two_time_corr_func`` is one array
or a group with one matrix per bin; its attributes say how it is laid out, and all of their values are honored:

    storage_mode          one_array_q_first (bin, N, N) | one_array_q_last (N, N, bin) | data_exchange_keys (a group)
    time_origin_location  upper_left: time zero is element [0, 0] | lower_left: it is [N - 1, 0], rows run back in time
    populated_elements    all | upper_half | lower_half: of the array with its first row on top, seen from the line of
                          equal times; so upper_half holds earlier rows for upper_left, later ones for lower_left
    baseline_reference    1, or 0: then 1 is added

Bins are numbered from 1 by the roi map; the n-th entry of ``masks/dynamic_q_list`` and ``dynamic_phi_list`` belongs to bin n.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, ClassVar

import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendEntrypoint

from homodyne.data.formats.bins import bins_dataset, degrees, ring_spread, source_file
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
)
from homodyne.data.formats.stacks import ArrayStack, OrientedStack
from homodyne.errors import InputError

MATRICES = "twotime/two_time_corr_func"
CHOICES = {
    "storage_mode": ("one_array_q_first", "one_array_q_last", "data_exchange_keys"),
    "populated_elements": ("all", "upper_half", "lower_half"),
    "time_origin_location": ("upper_left", "lower_left"),
    "baseline_reference": ("0", "1"),
}
PER_ANGSTROM = {
    1.0: ("1/angstrom", "1/å", "å-1", "å⁻¹", "å^-1", "angstrom-1", "angstrom^-1", "1/a", "a-1", "a^-1", "inverse_angstrom"),
    0.1: ("1/nm", "nm-1", "nm⁻¹", "nm^-1"),
    1e-10: ("1/m", "m-1", "m⁻¹", "m^-1"),
}  # fmt: skip
KEPT_TEXT = {"start_time": "start_time", "end_time": "end_time", "sample": "sample/name"}
KEPT_NUMBERS = {"temperature": "sample/temperature", "temperature_set": "sample/temperature_set"}


def recognized(file: h5py.File) -> bool:
    """True for a file with an entry that follows NXxpcs and has two-time results."""
    return any(MATRICES in file[name] for name in _entries(file))


def declared(file: h5py.File) -> bool:
    """True for a file with an entry that says it follows NXxpcs."""
    return bool(_entries(file))


def _entries(file: h5py.File) -> list[str]:
    groups = [name for name in file if isinstance(file.get(name), h5py.Group)]
    return [name for name in groups if text(file, f"{name}/definition") == "NXxpcs"]


class NxxpcsBackend(BackendEntrypoint):
    """``xr.open_dataset(path, engine="nxxpcs")`` -> c2(bin, t1, t2) with q(bin), phi(bin); only metadata is read."""

    description = "NXxpcs two-time correlation results"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = ("filename_or_obj", "drop_variables")

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.Dataset:
        """Lazy dataset of all bins.

        Raises:
            InputError: no two-time results, attributes missing or not of the definition, q or phi unknown.
        """
        with open_hdf5(filename_or_obj) as file:
            entry = _entry(file, filename_or_obj)
            where = f"{entry}/{MATRICES}"
            layout = _layout(file[where])
            q, phi = _lists(file, f"{entry}/instrument/masks")
            keys, labels = _bins(file[where], layout["storage_mode"], q.size)
            dt_s, dt_source = _dt(file, entry)
            pixels = _pixels(file, f"{entry}/instrument/masks/dynamic_roi_map", labels)
            attrs: dict[str, object] = {name: text(file, f"{entry}/{path}") for name, path in KEPT_TEXT.items()}
            attrs |= {name: number(file, f"{entry}/{path}") for name, path in KEPT_NUMBERS.items()}
        attrs |= {"format": "nxxpcs", "source_file": source_file(filename_or_obj), **layout}
        chosen = phi[labels - 1] if phi is not None else None
        stack, filled = _stack(filename_or_obj, where, layout, keys)
        if stack.shape[0] != labels.size:
            raise InputError(
                f"/{where}", stack.shape[0], f"bins do not match the {labels.size} entries of dynamic_q_list",
                "check storage_mode, and that there is one q for every bin",
            )  # fmt: skip
        dataset = bins_dataset(
            stack, labels=labels, q=q[labels - 1], phi=chosen, dt_s=dt_s, dt_source=dt_source,
            q_spread=ring_spread(q[labels - 1], chosen), attrs=attrs, filled_half=filled, pixels=pixels,
        )  # fmt: skip
        return dataset.drop_vars(drop_variables) if drop_variables else dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Leave the choice to the user: the suffix says nothing about the content."""
        return False


def _entry(file: h5py.File, path: object) -> str:
    """The only entry with two-time results."""
    found = [name for name in _entries(file) if MATRICES in file[name]]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            "dataset.path", str(path), f"holds two-time results in {len(found)} entries: {', '.join(found)}",
            "copy the one you want into a file of its own",
        )  # fmt: skip
    raise InputError(
        "dataset.path", str(path), f"has no /<entry>/{MATRICES} in an entry with definition NXxpcs; found {tree(file)}",
        "give an NXxpcs file with two-time results",
    )  # fmt: skip


def _layout(data: h5py.Group | h5py.Dataset) -> dict[str, str]:
    """The four attributes; for a group they may stand at its members, if all agree."""
    found = {}
    for name, choices in CHOICES.items():
        values = {as_text(np.asarray(holder.attrs[name]).ravel()[0]) for holder in _holders(data, name)}
        if len(values) != 1 or not values <= set(choices):
            raise InputError(
                f"{data.name}:{name}", ", ".join(sorted(values)) or None,
                "is missing" if not values else "is none of the layouts that can be read",
                f"set this attribute to what the array is: {', '.join(choices)}",
            )  # fmt: skip
        found[name] = values.pop()
    if isinstance(data, h5py.Group) != (found["storage_mode"] == "data_exchange_keys"):
        kind = "a group" if isinstance(data, h5py.Group) else "an array"
        raise InputError(
            f"{data.name}:storage_mode",
            found["storage_mode"],
            f"does not fit {kind}",
            "correct this attribute in the file",
        )
    return found


def _holders(data: h5py.Group | h5py.Dataset, name: str) -> list[Any]:
    if name in data.attrs or not isinstance(data, h5py.Group):
        return [data] if name in data.attrs else []
    members = list(data.values())
    return members if all(name in member.attrs for member in members) else []


def _lists(file: h5py.File, masks: str) -> tuple[np.ndarray, np.ndarray | None]:
    """q [1/angstrom] and phi [deg] of every bin of the roi map; phi None where there is none."""
    path = f"{masks}/dynamic_q_list"
    if not isinstance(file.get(path), h5py.Dataset):
        raise InputError(
            f"/{path}", None, "is not a list of numbers in the file", "store q of every bin there, 1/angstrom"
        )
    stored = file[path]
    if stored.dtype.kind != "f" or not (stored.ndim == 1 or stored.shape[1:] in ((1,), (2,))):
        raise InputError(
            f"/{path}", (stored.shape, str(stored.dtype)), "is neither q nor (q, phi) of every bin",
            "store |q| [1/angstrom] as floating point numbers, and phi in dynamic_phi_list",
        )  # fmt: skip
    unit = _unit(stored)
    factors = [factor for factor, names in PER_ANGSTROM.items() if unit.lower().replace(" ", "") in names]
    if not factors:
        raise InputError(
            f"/{path}:units", unit or None, "is not a unit of q that is known",
            "set this attribute in the file: 1/angstrom, 1/nm or 1/m",
        )  # fmt: skip
    values = np.asarray(stored[()], dtype=np.float64).reshape(stored.shape[0], -1)
    q = values[:, 0] * factors[0]
    phi_path = f"{masks}/dynamic_phi_list"
    if isinstance(file.get(phi_path), h5py.Dataset):
        phi = np.asarray(file[phi_path][()], dtype=np.float64).ravel()
        if phi.size != q.size:
            raise InputError(
                f"/{phi_path}", phi.size, f"entries do not match the {q.size} of dynamic_q_list",
                "store one phi for every bin, in the order of the roi map",
            )  # fmt: skip
        return q, degrees(phi, _unit(file[phi_path]), f"/{phi_path}")
    return q, degrees(values[:, 1], "", f"/{path}") if values.shape[1] == 2 else None


def _unit(data: h5py.Dataset) -> str:
    return as_text(data.attrs.get("units", data.attrs.get("unit", "")))


def _bins(data: h5py.Group | h5py.Dataset, storage_mode: str, n_q: int) -> tuple[list[str], np.ndarray]:
    """Keys, where there are any, and the bin number of every matrix, from 1."""
    if storage_mode != "data_exchange_keys":
        return [], np.arange(1, n_q + 1)
    ordered = numeric_order(list(data))
    labels = np.array([n for n, _ in ordered], dtype=np.int64)
    if not labels.size or labels.min() < 1 or labels.max() > n_q or np.unique(labels).size != labels.size:
        raise InputError(
            data.name, labels.tolist(), f"are not numbers of the {n_q} bins of dynamic_q_list",
            "name every matrix after its value in the roi map, from 1",
        )  # fmt: skip
    return [key for _, key in ordered], labels


def _stack(
    path: str | os.PathLike[str], where: str, layout: dict[str, str], keys: list[str]
) -> tuple[OrientedStack, str]:
    """The matrices with rows and columns in order of time, and which half of them is filled."""
    mode = layout["storage_mode"]
    stored = MatrixStack(path, where, keys) if keys else ArrayStack(path, where, mode == "one_array_q_last")
    upside_down = layout["time_origin_location"] == "lower_left"
    # above the line of equal times are later columns, or later rows where those run back in time
    lower = layout["populated_elements"] == ("upper_half" if upside_down else "lower_half")
    add = 1.0 if layout["baseline_reference"] == "0" else 0.0
    return OrientedStack(stored, upside_down=upside_down, lower=lower, add=add, field=f"/{where}"), (
        "lower" if lower else "upper"
    )


def _dt(file: h5py.File, entry: str) -> tuple[float | None, str]:
    """frame_time of the detector [s], the spacing of the matrices unless frames were summed."""
    for name in ("frame_sum", "frame_average"):
        stored = file.get(f"{entry}/data/{name}")
        if isinstance(stored, h5py.Dataset) and stored.size == 1 and float(np.ravel(stored[()])[0]) > 1:
            return (
                None,
                f"not usable: {name} = {np.ravel(stored[()])[0]:g}, so frames of the map may not be those of the detector",
            )
    instrument = file.get(f"{entry}/instrument", {})
    paths = [f"{entry}/instrument/{name}/frame_time" for name in instrument]
    found = {seconds(file, path) for path in paths if isinstance(file.get(path), h5py.Dataset)}
    if len(found) > 1:
        return None, "not usable: several detectors with different frame_time"
    value, problem = found.pop() if found else (None, "")
    return (None, problem) if problem else frame_spacing({"frame_time": value})


def _pixels(file: h5py.File, path: str, labels: np.ndarray) -> np.ndarray | None:
    """Detector pixels of every bin, from the roi map; None without it, or where a bin has none."""
    if not isinstance(file.get(path), h5py.Dataset):
        return None
    counted = np.bincount(np.asarray(file[path][()]).ravel().astype(np.int64), minlength=int(labels.max()) + 1)[labels]
    return counted if np.all(counted > 0) else None
