"""Files that hold different sectors of one measurement, an angle group or a q each, as one dataset: nothing is copied."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from homodyne.data.arrays import check_sigma
from homodyne.data.dataset import BY_SECTOR, Dataset
from homodyne.data.maps import Maps
from homodyne.data.opening import Angles
from homodyne.data.repetitions import DT_RTOL, PHI_DEG, Q_RTOL, FilesArray
from homodyne.data.select import one_or_several_q, select_phi
from homodyne.errors import InputError


def sectors_of(parts: Sequence[Dataset], angles: Angles, sigma: Any = None) -> Dataset:
    """The sectors of all parts, one file after the other, as far as ``angles`` wants them.

    Args:
        parts: opened with all their angles. sigma: one number, or one a selected sector; else the files'.

    Raises:
        InputError: files of other frames, frame spacing or gap than the first; a sector that two files hold; nothing selected.
    """
    for part in parts[1:]:
        _require_same_times(parts[0], part)
    _require_different(parts)
    whole = _joined(parts)
    whole = whole.sectors(_wanted(whole, angles))
    if sigma is None:
        return whole
    if np.ndim(sigma) > 1:
        raise InputError("dataset.sigma", np.shape(sigma), "is not one number per angle", "store sigma in the files")
    given, source = check_sigma(sigma, whole.n_phi, ())
    return dataclasses.replace(whole, sigma_given=given, sigma_source=source)


def _joined(parts: Sequence[Dataset]) -> Dataset:
    first = parts[0]
    q = np.concatenate([part.sector_q for part in parts])
    attrs = {
        **first.attrs,
        "files": [str(part.path) for part in parts],
        "source_file": "; ".join(str(part.attrs.get("source_file", Path(str(part.path)).name)) for part in parts),
        "bytes": sum(int(part.attrs["bytes"]) for part in parts),
        "reader_cache_bytes": sum(int(part.attrs.get("reader_cache_bytes", 0)) for part in parts),
        "merged_angles": [entry for part in parts for entry in part.attrs.get("merged_angles", [])],
    }
    for name in BY_SECTOR:
        if all(name in part.attrs for part in parts):
            attrs[name] = [value for part in parts for value in part.attrs[name]]
        else:
            attrs.pop(name, None)
    if any(part.attrs.get("invalid_points") != "NaN" for part in parts):
        attrs["invalid_points"] = "zero rows"
    sigma, source = _sigma(parts)
    return dataclasses.replace(
        first, phi=np.concatenate([part.phi for part in parts]), q=one_or_several_q(q, q.size), attrs=attrs,
        engine="+".join(dict.fromkeys(part.engine for part in parts)), maps=_maps([part.maps for part in parts]),
        sigma_given=sigma, sigma_source=source, recipe=None, _dead={}, _counts={},
    )  # fmt: skip


def _maps(parts: Sequence[Maps]) -> Maps:
    """The matrices of all files, by file and number."""
    variable = xr.Variable(("file", "matrix", "t1", "t2"), indexing.LazilyIndexedArray(FilesArray(parts)))
    members = []
    for f, part in enumerate(parts):
        place = 0
        for group in part.members:
            members.append(tuple((f, m) for m in range(place, place + len(group))))
            place += len(group)
    return Maps(variable, tuple(members), 0, parts[0].n_t)


def _sigma(parts: Sequence[Dataset]) -> tuple[np.ndarray | Maps | None, str]:
    kinds = {type(part.sigma_given) for part in parts}
    if len(kinds) > 1:
        raise InputError(
            "sigma", [part.sigma_source for part in parts], "is stored differently in the files of the sectors",
            "give dataset.sigma, or store it alike in all",
        )  # fmt: skip
    given = [part.sigma_given for part in parts]
    if given[0] is None:
        return None, parts[0].sigma_source
    if isinstance(given[0], Maps):
        return _maps([s for s in given if isinstance(s, Maps)]), parts[0].sigma_source
    return np.concatenate([np.asarray(s) for s in given]), "given per angle"


def _wanted(whole: Dataset, angles: Angles) -> np.ndarray:
    """Positions of the wanted angles, of every q."""
    if angles.wanted is None:
        return np.arange(whole.n_phi)
    chosen = []
    for q in whole.q_values:
        ring = np.flatnonzero(whole.sector_q == q)
        chosen.append(ring[select_phi(whole.phi[ring], angles.wanted, angles.tolerance_deg, f" at q = {q:.6g}")])
    return np.sort(np.concatenate(chosen))


def _require_same_times(first: Dataset, other: Dataset) -> None:
    """Raise InputError where frames or the gap of two files of one measurement differ."""
    same = "give files of one measurement only"
    if first.n_t != other.n_t:
        remedy = f"choose frames that all files have, e.g. dataset.frames=[1,{min(first.n_t, other.n_t)}]"
        raise InputError(f"frames of {other.path}", other.n_t, f"differs from {first.n_t} of {first.path}", remedy)
    if abs(first.dt - other.dt) > DT_RTOL * first.dt:
        raise InputError(f"dt of {other.path}", other.dt, f"differs from {first.dt:.9g} s of {first.path}", same)
    if first.gap != other.gap:
        remedy = "give dataset.gap_angstrom"
        raise InputError(f"gap of {other.path}", other.gap, f"differs from {first.gap} of {first.path}", remedy)
    each = [part.attrs.get("n_repetitions", 1) for part in (first, other)]
    if each[0] != each[1]:
        raise InputError(
            f"n_repetitions of {other.path}", each[1], f"differs from {each[0]} of {first.path}",
            "give files of as many repetitions each",
        )  # fmt: skip


def _require_different(parts: Sequence[Dataset]) -> None:
    """Raise InputError where two files hold one sector."""
    phi, q = (np.concatenate(values) for values in ([p.phi for p in parts], [p.sector_q for p in parts]))
    file_of = np.concatenate([np.full(part.n_phi, n) for n, part in enumerate(parts)])
    for k in range(phi.size):
        near = np.abs((phi - phi[k] + 180.0) % 360.0 - 180.0) <= PHI_DEG
        again = near & (np.abs(q - q[k]) <= Q_RTOL * q[k]) & (file_of > file_of[k])
        if again.any():
            other = parts[int(file_of[int(np.argmax(again))])]
            raise InputError(
                f"phi of {other.path}", float(phi[k]), f"is also in {parts[int(file_of[k])].path}, at q = {q[k]:.6g}",
                "repetitions of one sector are averaged with dataset.combine=repetitions",
            )  # fmt: skip
