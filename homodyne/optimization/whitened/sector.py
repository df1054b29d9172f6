"""One sector as a whitened fit sees it: its valid pairs, the columns of the fit as n x n matrices, and sums with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
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
        frames: those with any valid pair, (n,).
        c2: (n, n), symmetric, 0 where there is no valid pair. valid: (n, n), 1.0 where there is one, symmetric; None
            where only the diagonal has none.
        count: valid pairs i < j.
    """

    frames: np.ndarray
    c2: np.ndarray
    valid: np.ndarray | None
    count: int

    def masked(self, x: np.ndarray) -> np.ndarray:
        """x with zeros where no pair is valid; changes and returns its argument."""
        if self.valid is None:
            np.fill_diagonal(x, 0.0)
        else:
            x *= self.valid
        return x


def read_pairs(source: BlockSource, k: int, min_lag: int, frames: np.ndarray | None = None) -> Pairs:
    """All valid pairs of sector ``k``, or those of some frames; frames without any are left out."""
    whole = slice(0, len(source.t))
    with READING:
        c2 = np.array(source.read_block(k, whole, whole), dtype=float)
    n = len(c2)
    wanted = np.triu(np.isfinite(c2), min_lag)
    if frames is not None and len(frames) < n:
        chosen = np.zeros(n, dtype=bool)
        chosen[frames] = True
        wanted &= chosen & chosen[:, None]
    seen = wanted.any(0) | wanted.any(1)
    kept = np.flatnonzero(seen)
    c2 = np.where(wanted, c2, 0.0)
    if len(kept) < n:
        wanted, c2 = wanted[np.ix_(kept, kept)], c2[np.ix_(kept, kept)]
    count = int(np.count_nonzero(wanted))
    whole_triangle = count == len(kept) * (len(kept) - 1) // 2
    return Pairs(kept, c2 + c2.T, None if whole_triangle else (wanted | wanted.T).astype(float), count)


class Columns:
    """The columns X = [s, 1, channels] of the fit at one theta, each a symmetric (n, n) matrix, made one at a time.

    Attributes:
        to_parameters: the map of the columns and the residual to those of ``normal``, (m + 3, p + 3); parameters that
            channels share add up, those that do not move are zero.
        s: (n, n), symmetric, 1 on the diagonal. size: m + 2.
    """

    def __init__(
        self, model: Model, theta: np.ndarray, source: BlockSource, k: int, pairs: Pairs, free: np.ndarray
    ) -> None:
        geometry, every = sector_geometries(model, source, [k]), np.arange(len(source.t))
        side = frame_values(model, theta, np.asarray(source.t), every, geometry, len(every))
        one = Side(*(tuple(Frames(*(a[0] for a in f)) for f in part) for part in side))
        chosen = None if len(pairs.frames) == len(every) else pairs.frames
        places = [np.array(model.indices(channel), dtype=int) for channel in model.channels]
        moving = [np.flatnonzero(free[place]) for place in places]
        self._early, self._late = (
            [_picked(np.asarray(f.dz)[m], chosen) for f, m in zip(part, moving, strict=True)] for part in one
        )
        columns = np.concatenate([[0, 1], *(p[m] + 2 for p, m in zip(places, moving, strict=True)), [len(free) + 2]])
        self.to_parameters = np.zeros((len(columns), len(free) + 3))
        self.to_parameters[np.arange(len(columns)), columns.astype(int)] = 1.0
        s, fields = _fields(model, one)
        self.s = _symmetric(_both(s, chosen))
        np.fill_diagonal(self.s, 1.0)
        self._fields = [None if f is None else np.triu(_both(f, chosen), 1) for f in fields]
        self._pairs = pairs
        self.size = 2 + sum(len(d) for d in self._late)

    def plain(self) -> Iterator[np.ndarray]:
        """s and 1 on the valid pairs."""
        yield self._pairs.masked(self.s.copy())
        yield self._pairs.masked(np.ones_like(self.s))

    def channels(self) -> Iterator[np.ndarray]:
        """The columns of the channels' parameters, one channel after the other."""
        for f, early, late in zip(self._fields, self._early, self._late, strict=True):
            field = -np.triu(self.s, 1) if f is None else f
            for a, b in zip(early, late, strict=True):
                x = field * (b[None, :] - a[:, None])
                yield self._pairs.masked(x + x.T)

    def tests(self) -> Iterator[np.ndarray]:
        """Shapes that no parameter has, ``TESTS`` of them: s**2, s u and s**2 u, u the age of a pair from -1 to 1."""
        frames = self._pairs.frames / max(1, self._pairs.frames[-1])
        age = frames[:, None] + frames[None, :] - 1.0
        for x in (self.s**2, self.s * age, self.s**2 * age):
            yield self._pairs.masked(x)

    def residual(self, scaling: np.ndarray) -> np.ndarray:
        """c2 - contrast s - offset on the valid pairs."""
        return self._pairs.masked(self._pairs.c2 - scaling[0] * self.s - scaling[1])

    def sums(self, y: np.ndarray) -> np.ndarray:
        """sum over i < j of X_ij y_ij for every column, (m + 2,); y symmetric, 0 where no pair is valid."""
        upper = np.triu(y, 1)
        out = [np.array([np.vdot(self.s, upper), upper.sum()])]
        for f, early, late in zip(self._fields, self._early, self._late, strict=True):
            e = -self.s * upper if f is None else f * upper
            out.append(late @ e.sum(0) - early @ e.sum(1))
        return np.concatenate(out)


def coherence(model: Model, theta: np.ndarray, source: BlockSource, k: int, pairs: Pairs) -> np.ndarray:
    """g1 of the sector on the frames of the pairs, (n, n), real or Hermitian."""
    geometry, every = sector_geometries(model, source, [k]), np.arange(len(source.t))
    side = frame_values(model, theta, np.asarray(source.t), every, geometry, len(every))
    one = Side(*(tuple(Frames(*(a[0] for a in f)) for f in part) for part in side))
    g1 = _both(_field(model, one), None if len(pairs.frames) == len(every) else pairs.frames)
    np.copyto(g1, g1.T.conj(), where=~np.triu(np.ones(g1.shape, dtype=bool)))
    return g1


def _picked(values: np.ndarray, chosen: np.ndarray | None) -> np.ndarray:
    return values if chosen is None else values[..., chosen]


def _both(values: jax.Array, chosen: np.ndarray | None) -> np.ndarray:
    whole = np.array(values)
    return whole if chosen is None else whole[np.ix_(chosen, chosen)]


def _symmetric(upper: np.ndarray) -> np.ndarray:
    """The part above the diagonal on both sides of it."""
    x = np.triu(upper, 1)
    return np.asarray(x + x.T)


@partial(jax.jit, static_argnames=("model",))
def _fields(model: Model, side: Side) -> tuple[jax.Array, tuple[jax.Array | None, ...]]:
    return kernel_fields(model, side.early, side.late)


@partial(jax.jit, static_argnames=("model",))
def _field(model: Model, side: Side) -> jax.Array:
    return field_values(model, side.early, side.late)
