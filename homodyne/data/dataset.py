"""Dataset: two-time correlations of the sectors of one ring or several, wherever they are stored, read by blocks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from homodyne.data.again import Recipe, opener
from homodyne.data.arrays import check_c2, check_halves, check_phi, check_sigma
from homodyne.data.blocks import count_pairs
from homodyne.data.maps import Maps, clip
from homodyne.data.noise import Read, dead_frames, has_data, no_data, sigma_of_angle
from homodyne.data.quality import MaskedCounts, count_masked
from homodyne.data.select import one_or_several_q, require_positive
from homodyne.data.table import uniform_spacing

ESTIMATED = "estimated from far-lag differences"
# Facts of ``attrs`` that list one value a sector.
BY_SECTOR = ("q_of_angles", "pixels")
# Facts by which measurements of a series differ, besides temperatures.
CONDITIONS = ("start_time", "qnw_lakeshore")
# Facts that list the paths of several files, as they were given.
PATHS = ("repetitions", "files")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """c2(phi, t1, t2) at one q or several, read by blocks.

    A sector ("angle", where there is one q) has its own phi and q. Satisfies ``homodyne.optimization.source.BlockSource`` by its structure; data import nothing of the optimizer.

    Attributes:
        phi: (n_phi,) [deg]; t: (n_t,) [s], frame i of the selected window is at i * dt.
        q: [1/angstrom], a float; where several q were selected one a sector, (n_phi,). ``sector_q`` is always (n_phi,).
        gap: [angstrom] or None (never in beamline files; laminar flow needs it).
        path, engine: file and format, None and "arrays" for data in memory.
        attrs: where things come from (dt, frame range, merged angles, temperatures).
        maps: the matrices; sigma_given: None, (n_phi,) values, or maps of sigma per point.
        sigma_source: "given scalar", "given per angle", "given per point" or "estimated from far-lag differences".
        recipe: how to open the same data again, None for data in memory.
    """

    phi: np.ndarray
    t: np.ndarray
    dt: float
    q: float | np.ndarray
    gap: float | None
    path: Path | None
    engine: str
    attrs: Mapping[str, Any]
    maps: Maps = dataclasses.field(repr=False)
    sigma_given: np.ndarray | Maps | None = dataclasses.field(repr=False, default=None)
    sigma_source: str = ESTIMATED
    recipe: Recipe | None = dataclasses.field(repr=False, default=None)
    _dead: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)
    _counts: dict[str, MaskedCounts] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        q: float | Sequence[float] | None = None,
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
        combine: str = "repetitions",
    ) -> Dataset:
        """Open a file, or several as one dataset; only metadata is read.

        Args:
            path: file in any known format, recognized by content unless ``engine`` names it (apsu, aps_legacy,
                nxxpcs, pychx, netcdf, npz, zarr). A list of files, a folder, or a pattern (``run_*.hdf``): see ``combine``.
            q: [1/angstrom], the nearest ring within the relative ``q_tolerance``, or a list: the sectors of all those
                rings, one ring after the other, in one dataset. May be omitted for a single ring.
            gap: rotor-stator distance [angstrom]; dt: frame spacing [s] where the file lacks it.
            phi: angles (nearest within ``phi_tolerance`` [deg]) and inclusive ranges ``[lo, hi]`` [deg], of every ring.
            frames: inclusive ``[first, last]``, counted from 1.
            sigma: one number or one per selected sector, of the mean where there are repetitions; else the file's, else
                estimated.
            dt_override: let dt replace a different dt of the file.
            angle_merge: "average" or "drop" angles within ``angle_tolerance`` [deg] of one another.
            combine: what several files are. ``repetitions``: the mean of their c2; they must have the same q, phi, frames and
                dt, and a point is invalid where any has none. ``sectors``: their sectors side by side, angle groups or a q
                each, of the same frames; ``q`` is looked for in every file, ``phi`` in all together.

        Raises:
            InputError: unreadable or unknown file, nothing selected, dt missing or contradicting, repetitions that differ.
        """
        from homodyne.data.opening import Angles
        from homodyne.data.repetitions import open_files

        wanted = Angles(phi, phi_tolerance, angle_merge, angle_tolerance)
        dataset = open_files(
            path, q=q, q_tolerance=q_tolerance, gap=gap, dt=dt, dt_override=dt_override, angles=wanted,
            frames=frames, engine=engine, sigma=sigma, combine=combine,
        )  # fmt: skip
        recipe = Recipe.of(path, {
            "q": q, "gap": gap, "dt": dt, "phi": phi, "frames": frames, "engine": engine, "sigma": sigma,
            "q_tolerance": q_tolerance, "phi_tolerance": phi_tolerance, "dt_override": dt_override,
            "angle_merge": angle_merge, "angle_tolerance": angle_tolerance, "combine": combine,
        })  # fmt: skip
        return dataclasses.replace(dataset, recipe=recipe)

    @classmethod
    def from_arrays(
        cls,
        c2: np.ndarray,
        phi: np.ndarray | Sequence[float],
        t: np.ndarray | Sequence[float],
        q: float | Sequence[float] | np.ndarray,
        gap: float | None = None,
        sigma: float | np.ndarray | None = None,
    ) -> Dataset:
        """Data in memory; nothing is copied.

        Args:
            c2: (n_phi, n_t, n_t), symmetric or with an empty (zero or NaN) lower half; NaN marks invalid points.
            phi: (n_phi,) [deg], in any order; t: (n_t,) [s], uniform; gap [angstrom].
            q: [1/angstrom], one number, or one a sector, (n_phi,), for several q.
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
            phi=phi, t=np.arange(t.size) * dt, dt=dt, q=one_or_several_q(q, phi.size),
            gap=None if gap is None else require_positive("gap", gap, "angstrom"), path=None, engine="arrays",
            attrs={"dt_source": "t", "frames": (1, t.size), "bytes": int(c2.nbytes)},
            maps=maps, sigma_given=given, sigma_source=source,
        )  # fmt: skip

    @property
    def n_phi(self) -> int:
        """Number of angles."""
        return int(self.phi.size)

    @property
    def sector_q(self) -> np.ndarray:
        """q of every sector [1/angstrom], (n_phi,)."""
        return np.array(np.broadcast_to(np.asarray(self.q, dtype=np.float64), (self.n_phi,)))

    @property
    def q_values(self) -> tuple[float, ...]:
        """The different q [1/angstrom], in order of their first sectors."""
        return tuple(dict.fromkeys(self.sector_q.tolist()))

    @property
    def n_repetitions(self) -> int:
        """Measurements of which c2 is the mean."""
        return int(self.attrs.get("n_repetitions", 1))

    def repetitions(self) -> tuple[Dataset, ...]:
        """Every one of several repetitions, with the weights and masked frames of their mean; empty for a single file."""
        from homodyne.data.repetitions import single_repetitions

        return single_repetitions(self)

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
        return np.array(
            [sigma_of_angle(self._reader(k), self.n_t, self.phi[k], self._where(k)) for k in range(self.n_phi)]
        )

    def dead_frames(self, k: int) -> np.ndarray:
        """Frames (0-based, in the window) without counts at angle k; found at the first read of the angle."""
        found = self._dead.get(k)
        if found is None:
            members = () if self.attrs.get("invalid_points") == "NaN" else self.maps.members[k]
            parts = [dead_frames(partial(self.maps.member_values, index), self.n_t) for index in members]
            found = np.unique(np.concatenate(parts)) if parts else np.array([], dtype=int)
            self._dead[k] = found
        return found

    @property
    def known_dead_frames(self) -> dict[int, np.ndarray]:
        """Frames without counts of the angles that were read so far."""
        return self._dead

    def opener(self) -> Callable[[], Dataset]:
        """A function that opens these data again in another process, which sees the same files.

        Raises:
            InputError: the data are in memory.
        """
        return opener(self)

    def check(self) -> None:
        """Read a little of every angle and raise what would stop a fit.

        Raises:
            InputError: an angle without any valid point, or a sigma that cannot be estimated.
        """
        for k in range(self.n_phi):
            if not has_data(self._reader(k), self.n_t):
                raise no_data(self.phi[k], self._where(k))
        _ = self.sigma

    def masked_counts(self, full: bool = False) -> dict[str, Any]:
        """What is masked: ``{"nan", "sigma_zero", "dead_frames"}``.

        ``dead_frames`` lists ``{"q", "phi", "frames"}`` for the angles read so far (frames counted from 0). The numbers of
        points need one pass over the data: they are None until ``full=True`` was asked for once.
        """
        if full and "counts" not in self._counts:
            self._counts["counts"] = count_masked(self)
        counts = self._counts.get("counts")
        dead = [
            {"q": float(self.sector_q[k]), "phi": float(self.phi[k]), "frames": f.tolist()}
            for k, f in sorted(self._dead.items())
            if f.size
        ]
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
            "q": np.asarray(self.q).tolist(),
            "phi": self.phi.tolist(),
            "n_t": self.n_t,
            "frames": list(self.attrs["frames"]),
            "dt": self.dt,
            "gap": self.gap,
            "n_repetitions": self.n_repetitions,
        }
        conditions = {n: v for n, v in self.attrs.items() if n in CONDITIONS or "temperature" in n}
        if conditions:
            facts["conditions"] = conditions
        facts |= {name: list(self.attrs[name]) for name in PATHS if name in self.attrs}
        hashed = {
            **{k: str(v) for k, v in sorted(self.attrs.items()) if k not in PATHS},
            **{k: v for k, v in facts.items() if k not in ("path", "conditions", *PATHS)},
        }
        return {**facts, "metadata_sha256": hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()}

    def sectors(self, positions: Sequence[int] | np.ndarray) -> Dataset:
        """The dataset of some sectors, in the order given; nothing is read or copied."""
        chosen = [int(k) for k in positions]
        q = one_or_several_q(self.sector_q[chosen], len(chosen))
        sigma: np.ndarray | Maps | None = self.sigma_given
        if sigma is not None:
            sigma = sigma.sectors(chosen) if isinstance(sigma, Maps) else sigma[chosen]
        attrs = {
            name: [value[k] for k in chosen] if name in BY_SECTOR and len(value) == self.n_phi else value
            for name, value in self.attrs.items()
        }
        recipe = None if self.recipe is None else self.recipe.picked(chosen)
        return dataclasses.replace(
            self, phi=self.phi[chosen], q=q, attrs=attrs, maps=self.maps.sectors(chosen), sigma_given=sigma, recipe=recipe,
            _dead={}, _counts={},
        )  # fmt: skip

    def split(self) -> dict[float, Dataset]:
        """One dataset for every q, for independent fits: ``{q: dataset}``, in order of their first sectors."""
        return {q: self.sectors(np.flatnonzero(self.sector_q == q)) for q in self.q_values}

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

    def _where(self, k: int) -> str:
        """For messages: which q, where there are several."""
        return "" if isinstance(self.q, float) else f" (q={self.sector_q[k]:.6g})"


def _usable(sigma: np.ndarray) -> np.ndarray:
    return np.isfinite(sigma) & (sigma > 0)
