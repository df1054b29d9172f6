"""What the optimizer needs from data: blocks of c2 by angle, as plain arrays. ``homodyne.Dataset`` provides it."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np


class BlockSource(Protocol):
    """Two-time data of one q, readable block by block.

    Attributes:
        phi: azimuths [degree], (n_phi,).
        t: uniform frame times [s] from the start of the selected window, (n_t,).
        q: wave vector [1/angstrom]. gap: rotor-stator distance [angstrom] or None. dt: frame spacing [s].
        sigma: noise per angle, (n_phi,); ones when given per point.
    """

    @property
    def phi(self) -> np.ndarray: ...
    @property
    def t(self) -> np.ndarray: ...
    @property
    def q(self) -> float: ...
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
