"""One sector as a whitened fit sees it: its valid pairs, and the columns of the fit on tiles of them.

A tile is what two runs of frames have in common, (R, C), the rows earlier than the columns; or one run with itself, both triangles,
zero on the diagonal. Nothing but the data is ever held on all frames squared.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import numpy as np

from homodyne.models import Model
from homodyne.optimization.channels import Frames, Side, field_values, frame_values, kernel_fields
from homodyne.optimization.source import BlockSource, sector_geometries
from homodyne.optimization.uncertainty.reading import READING

#: Shapes by which the residuals are tested.
TESTS = 3


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The data of one sector.

    Attributes:
        frames: those with any valid pair, (n,). c2: of all frames, as read.
        min_lag: smallest t2 - t1 of a pair, in frames. count: valid pairs i < j of ``frames``.
    """

    frames: np.ndarray
    c2: np.ndarray
    min_lag: int
    count: int

    @property
    def complete(self) -> bool:
        """Every two different frames are a valid pair."""
        return self.count == len(self.frames) * (len(self.frames) - 1) // 2

    def tile(self, rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """c2, 0 where no pair is valid, and 1 where one is, None where all are: (R, C) each."""
        i, j = self.frames[rows], self.frames[cols]
        c2 = self.c2[rows, cols] if len(self.frames) == len(self.c2) else self.c2[np.ix_(i, j)]
        if self.complete and rows != cols:
            return np.asarray(c2, dtype=float), None
        valid = np.isfinite(c2) & (j[None, :] - i[:, None] >= self.min_lag)
        c2 = np.where(valid, c2, 0.0)
        return (c2, valid.astype(float)) if rows != cols else (c2 + c2.T, (valid | valid.T).astype(float))


def read_pairs(source: BlockSource, k: int, min_lag: int, frames: np.ndarray | None = None) -> Pairs:
    """All valid pairs of sector ``k``, or those of some frames; frames without any are left out."""
    whole = slice(0, len(source.t))
    with READING:
        c2 = np.asarray(source.read_block(k, whole, whole))
    wanted = np.triu(np.isfinite(c2), min_lag)
    if frames is not None and len(frames) < len(c2):
        chosen = np.zeros(len(c2), dtype=bool)
        chosen[frames] = True
        wanted &= chosen & chosen[:, None]
    kept = np.flatnonzero(wanted.any(0) | wanted.any(1))
    return Pairs(kept, c2, min_lag, int(np.count_nonzero(wanted)))


class Columns:
    """The columns X = [s, 1, channels] of the fit at one theta, on any tile of the frames of ``pairs``.

    Attributes:
        to_parameters: the map of the columns and the residual to those of ``normal``, (m + 3, p + 3); parameters that
            channels share add up, those that do not move are zero.
        size: m + 2.
    """

    def __init__(
        self, model: Model, theta: np.ndarray, source: BlockSource, k: int, pairs: Pairs, free: np.ndarray
    ) -> None:
        self._model, self._pairs = model, pairs
        self._side = _side(model, theta, source, k, pairs)
        places = [np.array(model.indices(channel), dtype=int) for channel in model.channels]
        moving = [np.flatnonzero(free[place]) for place in places]
        self._early, self._late = (
            [f.dz[m] for f, m in zip(part, moving, strict=True)] for part in (self._side.early, self._side.late)
        )
        columns = np.concatenate([[0, 1], *(p[m] + 2 for p, m in zip(places, moving, strict=True)), [len(free) + 2]])
        self.to_parameters = np.zeros((len(columns), len(free) + 3))
        self.to_parameters[np.arange(len(columns)), columns.astype(int)] = 1.0
        self.size = 2 + sum(len(d) for d in self._late)

    def signal(self, block: slice) -> np.ndarray:
        """s of one run of frames, symmetric, 1 on the diagonal, valid or not."""
        s, _ = self._kernel(block, block)
        np.fill_diagonal(s, 1.0)
        return s

    def on(self, rows: slice, cols: slice, valid: np.ndarray | None) -> np.ndarray:
        """s on the valid pairs of a tile, (R, C)."""
        s, _ = self._kernel(rows, cols)
        return s if valid is None else s * valid

    def tile(
        self, rows: slice, cols: slice, scaling: np.ndarray, tests: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The columns, the residual c2 - contrast s - offset, and the shapes of the tests, 0 where no pair is valid.

        The shapes, ``TESTS`` of them, no parameter has: s**2, s u and s**2 u, u the age of a pair from -1 to 1.

        Returns:
            (R, m + 3 [+ TESTS], C), and which pairs are valid, None where all are.
        """
        c2, valid = self._pairs.tile(rows, cols)
        s, fields = self._kernel(rows, cols)
        x = np.empty((len(s), self.size + 1 + tests * TESTS, s.shape[1]))
        x[:, 0], x[:, 1], x[:, self.size] = s, 1.0, c2 - scaling[0] * s - scaling[1]
        row = 2
        for f, early, late in zip(fields, self._early, self._late, strict=True):
            for a, b in zip(early, late, strict=True):
                column = (-s if f is None else f) * (b[None, cols] - a[rows, None])
                x[:, row] = np.triu(column, 1) + np.triu(column, 1).T if rows == cols else column
                row += 1
        if tests:
            frames = self._pairs.frames / max(1, self._pairs.frames[-1])
            age = frames[rows, None] + frames[None, cols] - 1.0
            for n, shape in enumerate((s**2, s * age, s**2 * age)):
                x[:, self.size + 1 + n] = shape
        if valid is not None:
            x *= valid[:, None, :]
        return x, valid

    def _kernel(self, rows: slice, cols: slice) -> tuple[np.ndarray, list[np.ndarray | None]]:
        """s and its derivatives with respect to the channels' differences, of a run with itself those of its upper triangle."""
        early, late = (tuple(_cut(f, x) for f in part) for part, x in zip(self._side, (rows, cols), strict=True))
        s, fields = _fields(self._model, early, late)
        s = np.array(s)
        if rows == cols:
            s = np.triu(s, 1) + np.triu(s, 1).T
        return s, [None if f is None else np.asarray(f) for f in fields]


def coherence(model: Model, theta: np.ndarray, source: BlockSource, k: int, pairs: Pairs) -> np.ndarray:
    """g1 of the sector on the frames of the pairs, (n, n), real or Hermitian."""
    side = _side(model, theta, source, k, pairs)
    g1 = np.array(_field(model, side.early, side.late))
    np.copyto(g1, g1.T.conj(), where=~np.triu(np.ones(g1.shape, dtype=bool)))
    return g1


def _side(model: Model, theta: np.ndarray, source: BlockSource, k: int, pairs: Pairs) -> Side:
    """The channels on the frames of the pairs."""
    geometry, t = sector_geometries(model, source, [k]), np.asarray(source.t)
    side = frame_values(model, theta, t, pairs.frames, geometry, len(pairs.frames))
    return Side(*(tuple(Frames(*(np.asarray(a)[0] for a in f)) for f in part) for part in side))


def _cut(frames: Frames, run: slice) -> Frames:
    """A run of frames; the derivatives stay behind, which no kernel needs."""
    whole = frames._replace(dz=frames.dz[:0])
    return Frames(*(a if a.shape[-1] == 0 else a[..., run] for a in whole))


@partial(jax.jit, static_argnames=("model",))
def _fields(
    model: Model, early: tuple[Frames, ...], late: tuple[Frames, ...]
) -> tuple[jax.Array, tuple[jax.Array | None, ...]]:
    return kernel_fields(model, early, late)


@partial(jax.jit, static_argnames=("model",))
def _field(model: Model, early: tuple[Frames, ...], late: tuple[Frames, ...]) -> jax.Array:
    return field_values(model, early, late)
