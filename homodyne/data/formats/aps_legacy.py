"""APS 8-ID-I result files from before APS-U, with two-time matrices: reader and writer.

Layout: ``/exchange/C2T_all/<key>`` holds one (N, N) upper triangle per bin; ``/xpcs/dqlist`` and ``/xpcs/dphilist``
hold q and phi per bin (not a grid), and q differs a little between the bins of one ring.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendEntrypoint

from homodyne.data.formats.bins import RING_SPREAD, bins_dataset, source_file
from homodyne.data.formats.hdf5 import MatrixStack, frame_spacing, number, numeric_order, open_hdf5, tree, vector
from homodyne.data.writing import replaced
from homodyne.errors import InputError

MATRICES = "exchange/C2T_all"
LABELS = "xpcs/qphi_bin_to_process"
Q_LIST = "xpcs/dqlist"
PHI_LIST = "xpcs/dphilist"
EXPOSURE = "measurement/instrument/detector/exposure_period"
KEPT_NUMBERS = {
    "exposure_period_s": EXPOSURE,
    "stride_frames": "xpcs/stride_frames",
    "avg_frames": "xpcs/avg_frames",
    "data_begin_todo": "xpcs/data_begin_todo",
    "data_end_todo": "xpcs/data_end_todo",
}


def recognized(file: h5py.File) -> bool:
    """True for a file with legacy two-time results."""
    return MATRICES in file and Q_LIST in file


class ApsLegacyBackend(BackendEntrypoint):
    """``xr.open_dataset(path, engine="aps_legacy")`` -> c2(bin, t1, t2) with q(bin), phi(bin); metadata only."""

    description = "APS legacy (8-ID-I) two-time correlation results"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = ("filename_or_obj", "drop_variables")

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None) -> xr.Dataset:
        """Lazy dataset of all bins.

        Raises:
            InputError: not a legacy two-time file, or matrices that cannot be attached to bins.
        """
        with open_hdf5(filename_or_obj) as file:
            if MATRICES not in file or len(file[MATRICES]) == 0:
                raise InputError(
                    "dataset.path", str(filename_or_obj), f"has no /{MATRICES}; found {tree(file)}",
                    "give an APS legacy two-time result file",
                )  # fmt: skip
            q = vector(file, Q_LIST, "give a file with its q list")
            phi = vector(file, PHI_LIST, "give a file with its phi list")
            if q.size != phi.size:
                raise InputError(
                    f"/{PHI_LIST}", phi.size, f"entries do not match the {q.size} of /{Q_LIST}", "check the file"
                )
            keys, labels = _pairing(file, q.size)
            names = ("exposure_period_s", "stride_frames", "avg_frames")
            attrs: dict[str, object] = {name: number(file, path) for name, path in KEPT_NUMBERS.items()}
            dt_s, dt_source = frame_spacing({name: number(file, KEPT_NUMBERS[name]) for name in names})
        attrs |= {"format": "aps_legacy", "source_file": source_file(filename_or_obj)}
        dataset = bins_dataset(
            MatrixStack(filename_or_obj, MATRICES, keys),
            labels=labels, q=q[labels - 1], phi=phi[labels - 1], dt_s=dt_s, dt_source=dt_source,
            q_spread=RING_SPREAD, attrs=attrs,
        )  # fmt: skip
        return dataset.drop_vars(drop_variables) if drop_variables else dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Leave the choice to the user: the suffix .hdf says nothing about the content."""
        return False


def _pairing(file: h5py.File, n_bins: int) -> tuple[list[str], np.ndarray]:
    """Matrix keys and the 1-based bin label of each.

    With a label list, keys named after the labels are paired by number, running counters by order. Without one,
    the keys must be as many as the bins: anything else would be a guess.
    """
    ordered = numeric_order(list(file[MATRICES]))
    keys = [key for _, key in ordered]
    numbers = np.array([n for n, _ in ordered])
    if LABELS not in file:
        if len(keys) != n_bins:
            raise InputError(
                f"/{MATRICES}", len(keys), f"matrices for {n_bins} bins, and no /{LABELS} tells which",
                "give a file with its list of processed bins",
            )  # fmt: skip
        return keys, np.arange(1, n_bins + 1)
    labels = vector(file, LABELS, "").astype(np.int64)
    if labels.size != len(keys) or labels.min() < 1 or labels.max() > n_bins or np.unique(labels).size != labels.size:
        raise InputError(
            f"/{LABELS}",
            labels.tolist(),
            f"does not label the {len(keys)} matrices with bins 1..{n_bins}",
            "check the file",
        )
    return (keys, numbers) if set(numbers) == set(labels.tolist()) else (keys, labels)


def write_aps_legacy(
    path: str | os.PathLike[str],
    c2: np.ndarray | Callable[[int], np.ndarray],
    *,
    q: Sequence[float] | np.ndarray,
    phi: Sequence[float] | np.ndarray,
    exposure_period_s: float,
    stride_frames: int = 1,
    avg_frames: int = 1,
    processed: Sequence[int] | None = None,
) -> None:
    """Write matrices in the legacy layout (upper triangle, keys named after the bin labels).

    Args:
        c2: per processed bin, in order: (n, N, N), or a function of the position that returns one (N, N) matrix.
        q, phi: per bin of the map, (n_bin,) [1/angstrom] and [deg].
        exposure_period_s: the spacing of the matrices is exposure_period x stride x avg.
        processed: 1-based labels that were correlated; all by default.
    """
    labels = list(range(1, len(q) + 1)) if processed is None else [int(label) for label in processed]
    matrix = c2 if callable(c2) else c2.__getitem__
    with replaced(path) as temporary, h5py.File(temporary, "w") as file:
        for k, label in enumerate(labels):
            file[f"{MATRICES}/g2_{label:05d}"] = np.triu(matrix(k)).astype(np.float32)
        file[LABELS] = np.array(labels)
        file[Q_LIST], file[PHI_LIST] = np.array([q], dtype=np.float64), np.array([phi], dtype=np.float64)
        file[EXPOSURE] = np.array([[exposure_period_s]])
        file["xpcs/stride_frames"], file["xpcs/avg_frames"] = [[stride_frames]], [[avg_frames]]
