"""Dataset: the two-time correlation of one q at several angles, wherever it is stored, read by blocks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from homodyne.data.arrays import check_c2, check_halves, check_phi, check_sigma
from homodyne.data.blocks import count_pairs
from homodyne.data.maps import Maps, clip
from homodyne.data.noise import Read, dead_frames, has_data, no_data, sigma_of_angle
from homodyne.data.quality import MaskedCounts, count_masked
from homodyne.data.select import require_positive
from homodyne.data.table import uniform_spacing

ESTIMATED = "estimated from far-lag differences"


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """c2(phi, t1, t2) at one q, read by blocks.

    Satisfies ``homodyne.optimization.source.BlockSource`` by its structure; data import nothing of the optimizer.

    Attributes:
        phi: (n_phi,) [deg]; t: (n_t,) [s], frame i of the selected window is at i * dt; q [1/angstrom].
        gap: [angstrom] or None (never in beamline files; laminar flow needs it).
        path, engine: file and format, None and "arrays" for data in memory.
        attrs: where things come from (dt, frame range, merged angles, temperatures).
        maps: the matrices; sigma_given: None, (n_phi,) values, or maps of sigma per point.
        sigma_source: "given scalar", "given per angle", "given per point" or "estimated from far-lag differences".
    """

    phi: np.ndarray
    t: np.ndarray
    dt: float
    q: float
    gap: float | None
    path: Path | None
    engine: str
    attrs: Mapping[str, Any]
    maps: Maps = dataclasses.field(repr=False)
    sigma_given: np.ndarray | Maps | None = dataclasses.field(repr=False, default=None)
    sigma_source: str = ESTIMATED
    _dead: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)
    _counts: dict[str, MaskedCounts] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        q: float | None = None,
        gap: float | None = None,
        dt: float | None = None,
        phi: Sequence[float | Sequence[float]] | None = None,
        frames: Sequence[int] | None = None,
        engine: str | None = None,
        sigma: float | Sequence[float] | np.ndarray | None = None,
        q_tolerance: float = 0.05,
        phi_tolerance: float = 1.0,
        dt_override: bool = False,
        angle_merge: str | None = None,
        angle_tolerance: float = 1.0,
    ) -> Dataset:
        """Open a file; only metadata is read.

        Args:
            path: file in any known format, recognized by content unless ``engine`` names it (apsu, aps_legacy,
                netcdf, npz, zarr).
            q: [1/angstrom], the nearest ring within the relative ``q_tolerance``; may be omitted for a single ring.
            gap: rotor-stator distance [angstrom]; dt: frame spacing [s] where the file lacks it.
            phi: angles (nearest within ``phi_tolerance`` [deg]) and inclusive ranges ``[lo, hi]`` [deg].
            frames: inclusive ``[first, last]``, counted from 1.
            sigma: one number or one per selected angle; else the file's, else estimated.
            dt_override: let dt replace a different dt of the file.
            angle_merge: "average" or "drop" angles within ``angle_tolerance`` [deg] of one another.

        Raises:
            InputError: unreadable or unknown file, nothing selected, dt missing or contradicting.
        """
        from homodyne.data.opening import Angles, open_dataset

        wanted = Angles(phi, phi_tolerance, angle_merge, angle_tolerance)
        return open_dataset(
            path, q=q, q_tolerance=q_tolerance, gap=gap, dt=dt, dt_override=dt_override, angles=wanted,
            frames=frames, engine=engine, sigma=sigma,
        )  # fmt: skip

    @classmethod
    def from_arrays(
        cls,
        c2: np.ndarray,
        phi: np.ndarray | Sequence[float],
        t: np.ndarray | Sequence[float],
        q: float,
        gap: float | None = None,
        sigma: float | np.ndarray | None = None,
    ) -> Dataset:
        """Data in memory; nothing is copied.

        Args:
            c2: (n_phi, n_t, n_t), symmetric or with an empty (zero or NaN) lower half; NaN marks invalid points.
            phi: (n_phi,) [deg], in any order; t: (n_t,) [s], uniform; q [1/angstrom]; gap [angstrom].
            sigma: None (estimated), one number, (n_phi,) in the order of phi, or the shape of c2 (zero masks).

        Raises:
            InputError: shapes, times, signs or values that cannot be used.
        """
        c2, phi, t = np.asarray(c2), check_phi(phi), np.asarray(t, dtype=np.float64)
        dt = uniform_spacing("t", t)
        check_c2(c2, phi.size, t.size)
        check_halves(c2, phi)
        members = tuple(((k,),) for k in range(phi.size))
        maps = Maps(xr.Variable(("phi", "t1", "t2"), c2), members, 0, t.size)
        given: np.ndarray | Maps | None = None
        source = ESTIMATED
        if sigma is not None:
            given, source = check_sigma(sigma, phi.size, c2.shape)
            if source == "given per point":
                given = dataclasses.replace(maps, variable=xr.Variable(("phi", "t1", "t2"), given))
        return cls(
            phi=phi, t=np.arange(t.size) * dt, dt=dt, q=require_positive("q", q, "1/angstrom"),
            gap=None if gap is None else require_positive("gap", gap, "angstrom"), path=None, engine="arrays",
            attrs={"dt_source": "t", "frames": (1, t.size), "bytes": int(c2.nbytes)},
            maps=maps, sigma_given=given, sigma_source=source,
        )  # fmt: skip

    @property
    def n_phi(self) -> int:
        """Number of angles."""
        return int(self.phi.size)

    @property
    def n_t(self) -> int:
        """Number of frames."""
        return int(self.t.size)

    def n_points(self, min_lag: int = 1) -> int:
        """Unordered pairs with t2 - t1 >= min_lag over all angles, before masking."""
        return count_pairs(self.n_phi, self.n_t, min_lag)

    def read_block(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """c2 of angle k for frames rows (t1) and cols (t2); NaN marks invalid points.

        Only t1 < t2 is meaningful. May be a view of the caller's array: do not modify it.
        """
        rows, cols = clip(rows, self.n_t), clip(cols, self.n_t)
        block = self.maps.read(k, rows, cols)
        dead = self.dead_frames(k)
        dead_rows, dead_cols = (dead[(dead >= s.start) & (dead < s.stop)] - s.start for s in (rows, cols))
        if dead_rows.size or dead_cols.size:
            block = block.copy()
            block[dead_rows], block[:, dead_cols] = np.nan, np.nan
        if isinstance(self.sigma_given, Maps):
            valid = _usable(self.sigma_given.read_sigma_of_mean(k, rows, cols))
            block = block if valid.all() else np.where(valid, block, np.asarray(np.nan, block.dtype))
        return block

    def read_sigma(self, k: int, rows: slice, cols: slice) -> np.ndarray | None:
        """Sigma per point, 1 where the point is masked; None where one sigma per angle applies."""
        if not isinstance(self.sigma_given, Maps):
            return None
        values = self.sigma_given.read_sigma_of_mean(k, clip(rows, self.n_t), clip(cols, self.n_t))
        valid = _usable(values)
        return values if valid.all() else np.where(valid, values, 1.0)

    @cached_property
    def sigma(self) -> np.ndarray:
        """Standard deviation of one point, (n_phi,); ones when given per point.

        Raises:
            InputError: it must be estimated and an angle has no data or no noise.
        """
        if isinstance(self.sigma_given, np.ndarray):
            return self.sigma_given
        if isinstance(self.sigma_given, Maps):
            return np.ones(self.n_phi)
        return np.array([sigma_of_angle(self._reader(k), self.n_t, self.phi[k]) for k in range(self.n_phi)])

    def dead_frames(self, k: int) -> np.ndarray:
        """Frames (0-based, in the window) without counts at angle k; found at the first read of the angle."""
        found = self._dead.get(k)
        if found is None:
            members = () if self.attrs.get("invalid_points") == "NaN" else self.maps.members[k]
            parts = [dead_frames(partial(self.maps.member_values, index), self.n_t) for index in members]
            found = np.unique(np.concatenate(parts)) if parts else np.array([], dtype=int)
            self._dead[k] = found
        return found

    def check(self) -> None:
        """Read a little of every angle and raise what would stop a fit.

        Raises:
            InputError: an angle without any valid point, or a sigma that cannot be estimated.
        """
        for k in range(self.n_phi):
            if not has_data(self._reader(k), self.n_t):
                raise no_data(self.phi[k])
        _ = self.sigma

    def masked_counts(self, full: bool = False) -> dict[str, Any]:
        """What is masked: ``{"nan", "sigma_zero", "dead_frames"}``.

        ``dead_frames`` lists ``{"phi", "frames"}`` for the angles read so far (frames counted from 0). The numbers of
        points need one pass over the data: they are None until ``full=True`` was asked for once.
        """
        if full and "counts" not in self._counts:
            self._counts["counts"] = count_masked(self)
        counts = self._counts.get("counts")
        dead = [{"phi": float(self.phi[k]), "frames": f.tolist()} for k, f in sorted(self._dead.items()) if f.size]
        return {
            "nan": None if counts is None else counts.nan,
            "sigma_zero": None if counts is None else counts.sigma_zero,
            "dead_frames": dead,
        }

    def fingerprint(self) -> dict[str, Any]:
        """What identifies these data in a record: file, size, selection, and a hash of the metadata."""
        facts = {
            "path": None if self.path is None else str(self.path),
            "bytes": int(self.attrs["bytes"]),
            "engine": self.engine,
            "q": self.q,
            "phi": self.phi.tolist(),
            "n_t": self.n_t,
            "frames": list(self.attrs["frames"]),
            "dt": self.dt,
            "gap": self.gap,
        }
        hashed = {
            **{k: str(v) for k, v in sorted(self.attrs.items())},
            **{k: v for k, v in facts.items() if k != "path"},
        }
        return {**facts, "metadata_sha256": hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()}

    def describe(self) -> str:
        """Format, q, angles, frames, dt and where it is from, gap, size and what is missing, in a few lines."""
        from homodyne.data.quality import describe

        return describe(self)

    def to_xarray(self) -> xr.Dataset:
        """Lazy ``c2(phi, t1, t2)`` with coordinates and units; invalid points are NaN."""
        from homodyne.data.export import to_xarray

        return to_xarray(self)

    def to_netcdf(self, path: str | os.PathLike[str], *, compression: bool = False) -> None:
        """Write NetCDF block by block, upper triangle only; the file appears when it is complete."""
        from homodyne.data.export import to_netcdf

        to_netcdf(self, path, compression=compression)

    def _reader(self, k: int) -> Read:
        return partial(self.read_block, k)


def _usable(sigma: np.ndarray) -> np.ndarray:
    return np.isfinite(sigma) & (sigma > 0)
