"""What the data say about themselves: noise and contrast per angle, and frames without counts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from homodyne.data.blocks import lags, upper_tiles
from homodyne.errors import InputError

Read = Callable[[slice, slice], np.ndarray]

# Up to this many frames the far-lag corner is read completely, above a bounded sample of squares is.
WHOLE_FRAMES = 1024
SQUARE, SQUARES = 256, 8
# Scale from the median absolute deviation to the standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.482602218505602
# Differences beyond CLIP standard deviations are dropped as outliers. The rest of a normal distribution has CLIPPED
# times its standard deviation: sqrt(1 - 2 c pdf(c) / (2 cdf(c) - 1)) at c = 3.
CLIP = 3.0
CLIPPED = 0.9865784
# Empty frames are rare; with more than this many, one pass over the matrix is cheaper than a row for each.
ROW_BY_ROW = 32


def no_data(phi_deg: float, where: str = "") -> InputError:
    """The error for an angle without a single valid point, wherever it is found; ``where`` names its q."""
    return InputError(
        "phi",
        round(float(phi_deg), 6),
        f"has no valid point{where}: all values are NaN, infinite or zero",
        "leave this angle out (dataset.phi)",
    )


def far_tiles(n_t: int) -> list[tuple[slice, slice]]:
    """Blocks in the far-lag corner, at most about 5e5 points in all.

    Up to 1024 frames the one block that holds all lags >= n_t / 3 (and some below), above squares at lags > n_t / 2.
    """
    half, third = n_t // 2, n_t // 3
    if n_t <= WHOLE_FRAMES:
        return [(slice(0, n_t - third), slice(third, n_t))]
    room = n_t - half - 2 * SQUARE  # every square lies completely at lags > half
    starts = np.linspace(0, room, SQUARES).astype(int)
    far = np.where(np.arange(SQUARES) % 2 == 0, n_t - SQUARE, starts + half + SQUARE)
    return [(slice(int(r), int(r) + SQUARE), slice(int(c), int(c) + SQUARE)) for r, c in zip(starts, far, strict=True)]


def near_tiles(n_t: int) -> list[tuple[slice, slice]]:
    """Squares on the diagonal, a bounded number, evenly spread over the ages."""
    size = min(SQUARE, n_t)
    starts = np.unique(np.linspace(0, n_t - size, SQUARES).astype(int))
    return [(slice(int(s), int(s) + size), slice(int(s), int(s) + size)) for s in starts]


def sigma_of_angle(read: Read, n_t: int, phi_deg: float, where: str = "") -> float:
    """Standard deviation of one point from differences of neighbors at far lags, where c2 is flat.

    sigma = sd(d) / sqrt(2) with d = c2(t1, t2 + dt) - c2(t1, t2) and c2(t1, t2) - c2(t1 + dt, t2), over a bounded
    sample with lag >= n_t / 3. Outliers beyond 3 sd (first judged by the median absolute deviation) are dropped, the
    slope of c2 is taken out by the median of d. What neighbors share cancels: the estimate is the independent part
    of the noise. Its own scatter for independent noise is about 1.7 / n_t, 0.6 % at 300 frames.

    Raises:
        InputError: no valid point at this angle, too few pairs, or differences that are exactly zero.
    """
    parts = []
    for rows, cols in far_tiles(n_t):
        block = read(rows, cols).astype(np.float64)
        far = lags(rows, cols) >= n_t // 3
        # both members of every difference lie at far lags; both kinds fall with the lag, so their slopes agree
        parts.append(np.diff(block, axis=1)[far[:, :-1]])
        parts.append(-np.diff(block, axis=0)[far[1:]])
    step = np.concatenate(parts)
    step = step[np.isfinite(step)]
    remedy = "give sigma (dataset.sigma)"
    if step.size < 10:
        if not has_data(read, n_t):
            raise no_data(phi_deg, where)
        raise InputError(
            "sigma", None, f"cannot be estimated at phi={phi_deg:g}{where}: too few valid points at far lags", remedy
        )
    sigma = clipped_deviation(step) / math.sqrt(2.0)
    if not sigma > 0:
        raise InputError(
            "sigma", sigma, f"estimated at phi={phi_deg:g}{where} is zero: c2 carries no noise at far lags", remedy
        )
    return sigma


def clipped_deviation(values: np.ndarray) -> float:
    """Standard deviation about the median without outliers; twice as precise as the median absolute deviation alone."""
    distance = np.abs(values - np.median(values))
    pilot = MAD_TO_SIGMA * float(np.median(distance))
    kept = distance[distance <= CLIP * pilot]
    return math.sqrt(float(np.mean(kept**2))) / CLIPPED


def has_data(read: Read, n_t: int) -> bool:
    """True as soon as one valid point above the diagonal is found."""
    return any(np.any(np.isfinite(read(r, c)) & (lags(r, c) > 0)) for r, c in upper_tiles(n_t, WHOLE_FRAMES))


def contrast_of_angle(read: Read, n_t: int) -> tuple[float, float]:
    """(contrast, offset) estimates: offset = median at far lags, contrast = median at lags 1..3 minus offset.

    NaN where there is no valid point. A lower bound of the contrast when c2 decays within three frames.
    """
    far = np.concatenate([read(r, c)[lags(r, c) >= n_t // 2] for r, c in far_tiles(n_t)])
    near = np.concatenate([read(r, c)[(lags(r, c) >= 1) & (lags(r, c) <= 3)] for r, c in near_tiles(n_t)])
    far, near = far[np.isfinite(far)], near[np.isfinite(near)]
    if far.size == 0 or near.size == 0:
        return float("nan"), float("nan")
    offset = float(np.median(far))
    return float(np.median(near)) - offset, offset


def dead_frames(read: Read, n_t: int) -> np.ndarray:
    """Frames without counts: every pair with another frame is exactly 0 (the correlator writes zeros there).

    A single zero proves nothing (few counts give true zeros), so a frame is called dead only after all its pairs
    were read. All pairs of one living frame show most other frames to be alive: usually one row and one column
    are read. The diagonal is never looked at.
    """
    undecided = np.ones(n_t, dtype=bool)
    dead: list[int] = []
    while undecided.any():
        if len(dead) > ROW_BY_ROW:
            return np.flatnonzero(~_alive(read, n_t))
        left = np.flatnonzero(undecided)
        frame = int(left[left.size // 2])
        above = read(slice(0, frame), slice(frame, frame + 1))[:, 0]
        right = read(slice(frame, frame + 1), slice(frame + 1, n_t))[0]
        counts = np.concatenate([above != 0, [False], right != 0])
        if not counts.any():
            dead.append(frame)
        undecided[frame] = False
        undecided[counts] = False
    return np.array(sorted(dead), dtype=int)


def _alive(read: Read, n_t: int) -> np.ndarray:
    """Frames that have a nonzero pair, by one pass over the upper triangle."""
    alive = np.zeros(n_t, dtype=bool)
    for rows, cols in upper_tiles(n_t, WHOLE_FRAMES):
        filled = (read(rows, cols) != 0) & (lags(rows, cols) > 0)
        alive[rows] |= filled.any(axis=1)
        alive[cols] |= filled.any(axis=0)
    return alive
