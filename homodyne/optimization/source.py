"""What the optimizer needs from data: blocks of c2 by sector, as plain arrays. ``homodyne.Dataset`` provides it.

A sector, "angle" for short where there is one q, is a part of the detector with its own azimuth and wave vector.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from homodyne.models import Geometry, Model, reference_q


class BlockSource(Protocol):
    """Two-time data of one q or several, readable block by block.

    Attributes:
        phi: azimuths [degree] of the sectors, (n_phi,).
        t: uniform frame times [s] from the start of the selected window, (n_t,).
        q: wave vector [1/angstrom], one number, or one a sector, (n_phi,); see ``sector_q``. gap: rotor-stator distance [angstrom] or None. dt: frame spacing [s].
        sigma: noise per angle, (n_phi,); ones when given per point.
    """

    @property
    def phi(self) -> np.ndarray: ...
    @property
    def t(self) -> np.ndarray: ...
    @property
    def q(self) -> float | np.ndarray: ...
    @property
    def gap(self) -> float | None: ...
    @property
    def dt(self) -> float: ...
    @property
    def sigma(self) -> np.ndarray: ...

    def read_block(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """c2 of angle ``k``, rows = t1, columns = t2; only t1 < t2 is used; NaN where a point is invalid."""
        ...

    def read_sigma(self, k: int, rows: slice, cols: slice) -> np.ndarray | None:
        """Noise per point like ``read_block``, or None when ``sigma`` applies."""
        ...


def sector_q(source: BlockSource) -> np.ndarray:
    """q of every sector [1/angstrom], (n_phi,)."""
    return np.array(np.broadcast_to(np.asarray(source.q, dtype=float), (len(source.phi),)))


def several_q(source: BlockSource) -> bool:
    """Whether the sectors have different q."""
    q = sector_q(source)
    return bool(np.any(q != q[0]))


def sector_geometry(model: Model, source: BlockSource, k: int = 0) -> Geometry:
    """Geometry of sector ``k``; InputError where the model needs a gap, or several q, that are not there."""
    q = sector_q(source)
    return model.geometry(float(source.phi[k]), float(q[k]), source.gap, source.dt, reference_q(q))


def sector_geometries(model: Model, source: BlockSource, sectors: Sequence[int] | np.ndarray | None = None) -> Geometry:
    """Geometry of all sectors, or of some, with ``phi`` and ``q`` of shape (n,)."""
    chosen = np.arange(len(source.phi)) if sectors is None else np.asarray(sectors, dtype=int)
    return sector_geometry(model, source)._replace(
        phi=np.asarray(source.phi, dtype=float)[chosen], q=sector_q(source)[chosen]
    )


def sector_signal(
    model: Model, theta: np.ndarray, source: BlockSource, k: int, frames: np.ndarray | None = None
) -> np.ndarray:
    """s(t1, t2) of sector ``k`` on its frames, or on ``frames`` of them; see ``Model.g1_squared``."""
    g = sector_geometry(model, source, k)
    return model.g1_squared(theta, source.t, float(g.phi), float(g.q), source.gap, frames, float(g.q_ref))


def sector_names(source: BlockSource) -> list[str]:
    """How messages name the sectors: by azimuth, ``30``, and where there are several q by both, ``30 (q = 0.0054)``."""
    if not several_q(source):
        return [f"{phi:g}" for phi in source.phi]
    return [f"{phi:g} (q = {q:.4g})" for phi, q in zip(source.phi, sector_q(source), strict=True)]


@dataclasses.dataclass(frozen=True)
class View:
    """A source as the accumulators see it: all frames, or a selection of them held in memory.

    Attributes:
        source: where blocks come from.
        frames: positions on the source's frame grid, (m,), ascending.
        held: c2 on the selected frames, (n_phi, m, m), or None for all frames, streamed.
        held_sigma: noise on the selected frames when it is given per point.
    """

    source: BlockSource
    frames: np.ndarray
    held: np.ndarray | None = None
    held_sigma: np.ndarray | None = None

    @property
    def n_phi(self) -> int:
        return len(self.source.phi)

    @property
    def n_frames(self) -> int:
        return len(self.frames)

    def n_points(self, min_lag: int) -> int:
        """Pairs of selected frames at least ``min_lag`` positions apart, over all angles, before masking."""
        m = max(0, self.n_frames - min_lag)
        return self.n_phi * (m * (m + 1) // 2)

    def read(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        """c2 of angle ``k`` on positions ``rows`` x ``cols`` of ``frames``."""
        return self.source.read_block(k, rows, cols) if self.held is None else self.held[k, rows, cols]

    def read_sigma(self, k: int, rows: slice, cols: slice) -> np.ndarray | None:
        """Noise per point on the same positions, or None."""
        if self.held is None:
            return self.source.read_sigma(k, rows, cols)
        return None if self.held_sigma is None else self.held_sigma[k, rows, cols]


def all_frames(source: BlockSource) -> View:
    """Every frame, streamed from the source."""
    return View(source, np.arange(len(source.t)))


_RUN = 8  # frames read in one go; a run gives all lags 1..7, runs together give the long ones


def subset_frames(n_t: int, n_frames: int) -> np.ndarray:
    """About ``n_frames`` of ``n_t`` frames in runs of consecutive ones, denser early, where rates change fastest."""
    if n_t <= n_frames:
        return np.arange(n_t)
    n_runs = max(2, n_frames // _RUN)
    # quadratic spacing: half of the runs in the first quarter of the time, none missing at the end
    starts = np.unique((np.linspace(0, 1, n_runs) ** 2 * (n_t - _RUN)).astype(int))
    return np.unique((starts[:, None] + np.arange(_RUN)[None, :]).ravel())


def subset(source: BlockSource, n_frames: int) -> View:
    """Read a selection of frames of every angle into memory: the warm-up problem of a large fit.

    Nothing is fitted to this subset alone: it only provides the starting point of the passes over all points.
    """
    n_t = len(source.t)
    frames = subset_frames(n_t, n_frames)
    held = np.full((len(source.phi), len(frames), len(frames)), np.nan)
    breaks = np.flatnonzero(np.diff(frames) > 1) + 1
    held_sigma = None
    for run in np.split(np.arange(len(frames)), breaks):
        rows = slice(int(frames[run[0]]), int(frames[run[-1]]) + 1)
        cols = slice(rows.start, n_t)
        pick = frames[run[0] :] - rows.start
        for k in range(len(source.phi)):
            held[k, run[0] : run[-1] + 1, run[0] :] = source.read_block(k, rows, cols)[:, pick]
            sigma = source.read_sigma(k, rows, cols)
            if sigma is not None:
                held_sigma = np.ones_like(held) if held_sigma is None else held_sigma
                held_sigma[k, run[0] : run[-1] + 1, run[0] :] = sigma[:, pick]
    return View(source, frames, held, held_sigma)
