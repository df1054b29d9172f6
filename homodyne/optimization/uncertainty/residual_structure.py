"""What residuals say about the model: mean by lag and by age, and sectors that see the same light."""

from __future__ import annotations

import numpy as np

# Bins of lag and of age.
_BINS = 24
# Angles below which their scatter says nothing.
_LEAST_ANGLES = 3
# Noise of two sectors that agrees by this much, and this many standard deviations, is the same light.
_SAME, _SIGNIFICANT = 0.25, 8.0


def binned(residual: np.ndarray, frames: np.ndarray, min_lag: int) -> dict[str, np.ndarray]:
    """Mean residual of all angles by lag and by age (t1 + t2) / 2, in frames.

    Args:
        residual: (n_phi, m, m) on the frames (m,); NaN where invalid; the upper triangle is used.

    Returns:
        ``lag``, ``by_lag``, ``age``, ``by_age``, ``by_lag_and_age`` (age, lag), and ``by_lag_sd``, ``by_age_sd``, how the
        means scatter between angles; bins without pairs are NaN.
    """
    i, j = np.triu_indices(len(frames), 1)
    lag, age = frames[j] - frames[i], 0.5 * (frames[i] + frames[j])
    keep = lag >= min_lag
    i, j, lag, age = i[keep], j[keep], lag[keep], age[keep]
    last = float(frames[-1])
    edges = np.unique(np.round(np.geomspace(min_lag, max(last, min_lag + 1), _BINS + 1)))
    at_lag = np.clip(np.searchsorted(edges, lag, side="right") - 1, 0, len(edges) - 2)
    at_age = np.clip((age / max(last, 1.0) * _BINS).astype(int), 0, _BINS - 1)
    flat, size = at_age * (len(edges) - 1) + at_lag, _BINS * (len(edges) - 1)
    values = residual[:, i, j]
    valid = np.isfinite(values)
    sums, counts = (
        np.array([np.bincount(flat, x, size) for x in table]).reshape(len(values), _BINS, -1)
        for table in (np.where(valid, values, 0.0), valid)
    )
    return {
        "lag": np.sqrt(edges[:-1] * np.maximum(edges[1:] - 1, edges[:-1])),
        "age": (np.arange(_BINS) + 0.5) * last / _BINS,
        "by_lag": _mean(sums.sum((0, 1)), counts.sum((0, 1))),
        "by_age": _mean(sums.sum((0, 2)), counts.sum((0, 2))),
        "by_lag_sd": _scatter(sums.sum(1), counts.sum(1)),
        "by_age_sd": _scatter(sums.sum(2), counts.sum(2)),
        "by_lag_and_age": _mean(sums.sum(0), counts.sum(0)),
    }


def _scatter(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Standard error of the mean over angles from the scatter between them, (bins,); NaN with fewer than three."""
    if len(total) < _LEAST_ANGLES:
        return np.full(total.shape[1], np.nan)
    means = _mean(total, count)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.std(means, axis=0, ddof=1) / np.sqrt(len(total)))


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def same_light(residual: np.ndarray, frames: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs of sectors whose noise agrees, with the correlation of it: (position, position, correlation).

    Compared are double differences of neighbors (see ``noise``), which hold only what is new in every pair: independent
    sectors agree by chance within about 2 / sqrt(n).
    """
    step = np.diff(frames) == 1
    double = residual[:, :-1, :-1] - residual[:, 1:, :-1] - residual[:, :-1, 1:] + residual[:, 1:, 1:]
    lag = frames[None, :-1] - frames[:-1, None]
    pick = step[:, None] & step[None, :] & (lag >= 2)
    values = double[:, pick]
    values = values[:, np.all(np.isfinite(values), axis=0)]
    if values.shape[1] < 100:
        return []
    norm = np.linalg.norm(values, axis=1)
    alike = (values @ values.T) / np.maximum(np.outer(norm, norm), 1e-300)
    limit = max(_SAME, 2 * _SIGNIFICANT / np.sqrt(values.shape[1]))
    found = np.argwhere(np.triu(alike > limit, 1))
    return [(int(a), int(b), float(alike[a, b])) for a, b in found]
