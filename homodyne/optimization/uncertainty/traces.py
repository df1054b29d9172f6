"""Intensity traces of single pixels, as the fitted model and the noise of an angle make them."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.fields import field_root, mode_weights, modes
from homodyne.models import Model
from homodyne.optimization.source import BlockSource, sector_geometry, sector_signal

# Up to this many frames every frame is a node of its own; above, neighbors that differ little share one.
MAX_NODES = 1536
# Modes in the pool, a trace.
_POOL = 3


@dataclasses.dataclass(frozen=True)
class Nodes:
    """Frames that stand for themselves and their neighbors.

    Attributes:
        frames: middle frame of every group, (m,). sizes: frames in each, (m,).
    """

    frames: np.ndarray
    sizes: np.ndarray

    @property
    def exact(self) -> bool:
        """Every frame is a node."""
        return bool(np.all(self.sizes == 1))


def choose_nodes(model: Model, theta: np.ndarray, source: BlockSource) -> Nodes:
    """Groups of frames over which every channel changes little, at most ``MAX_NODES``.

    Half of them evenly in time, half evenly in the change of the channels of the angle where it is largest: fast
    dynamics, at early times usually, keeps its frames.
    """
    n = len(source.t)
    if n <= MAX_NODES:
        return Nodes(np.arange(n), np.ones(n))
    change = np.zeros(n)
    for k in range(len(source.phi)):
        for z in model.channel_curves(theta, source.t, sector_geometry(model, source, k)):
            path = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(z)))])
            change = np.maximum(change, np.minimum(path, 1e3) / max(min(path[-1], 1e3), 1e-300))
    measure = 0.5 * np.arange(n) / (n - 1) + 0.5 * change / max(change[-1], 1e-300)
    edges = np.unique(np.searchsorted(measure, np.linspace(0, measure[-1], MAX_NODES + 1)[:-1]))
    ends = np.append(edges[1:], n)
    return Nodes((edges + ends - 1) // 2, (ends - edges).astype(float))


def group_coherence(model: Model, theta: np.ndarray, source: BlockSource, k: int, nodes: Nodes) -> np.ndarray:
    """Variance of the mean intensity of every group relative to one frame's, (m,), in sector k: mean of s within the group.

    For a decay exp(-y |t|/T) over a group of length T it is 2 (exp(-y) - 1 + y) / y**2; y from the group's ends.
    """
    if nodes.exact:
        return np.ones(len(nodes.frames))
    half = (nodes.sizes.astype(int) - 1) // 2
    y = np.empty(len(half))
    for m, (frame, h) in enumerate(zip(nodes.frames, half, strict=True)):
        if h == 0:
            y[m] = 0.0
            continue
        ends = np.array([frame - h, min(frame + h, len(source.t) - 1)])
        y[m] = -np.log(max(sector_signal(model, theta, source, k, ends)[0, 1], 1e-30))
    safe = np.where(y > 1e-3, y, 1.0)
    return np.where(y > 1e-3, 2 * (np.exp(-safe) - 1 + safe) / safe**2, 1 - y / 3)


def intensity_traces(
    g1: np.ndarray,
    contrast: float,
    nu: np.ndarray,
    coherence: np.ndarray,
    n: int,
    most_modes: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Fluctuations delta of the intensity of ``n`` pixels, (m, n).

    A trace is the weighted sum of M modes, drawn from a pool of 3 n, or ``most_modes`` where that is less: with so many
    the scatter of the pool is no larger than that of n traces. Shot noise is +-sqrt(nu intensity): only its variance at a given intensity enters
    second moments of products of different frames.

    Args:
        g1: (m, m) field correlation, real or Hermitian. nu: of every node, (m,). coherence: from ``group_coherence``, (m,).
    """
    weights = mode_weights(contrast)
    size = max(n, min(n * min(len(weights), _POOL), most_modes))
    pool = modes(field_root(g1), size, rng, np.float32)
    intensity = np.zeros((len(g1), n), dtype=np.float32)
    # every mode is a run of n columns, around the end of the pool; different starts: the modes of a trace differ
    starts = rng.choice(size, len(weights), replace=len(weights) > size)
    for w, start in zip(weights, starts.tolist(), strict=True):
        ahead = min(n, size - start)
        intensity[:, :ahead] += np.float32(w) * pool[:, start : start + ahead]
        intensity[:, ahead:] += np.float32(w) * pool[:, : n - ahead]
    intensity = intensity.astype(np.float64)
    intensity = np.maximum(1.0 + np.sqrt(coherence)[:, None] * (intensity - 1.0), 0.0)
    sign = rng.integers(0, 2, intensity.shape, dtype=np.int8) * 2 - 1
    return intensity - 1.0 + sign * np.sqrt(nu[:, None] * intensity)
