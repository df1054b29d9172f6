"""Which rings, angles and frames are fitted: pure functions on coordinates, no file access."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from homodyne.errors import InputError

# Two bins of one ring can never be closer in phi than this [deg]: closer ones belong to different rings.
SAME_PHI_DEG = 0.1
# A spread below this means that the file states q on a grid: equal q is one ring.
EXACT = 1e-3


@dataclasses.dataclass(frozen=True)
class Ring:
    """Bins that share one q: the median q [1/angstrom] and the positions of the bins in the file's table."""

    q: float
    bins: np.ndarray


def angular_distance(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """Smallest distance between directions on the circle [deg], 0..180."""
    return np.abs((np.asarray(a, dtype=np.float64) - b + 180.0) % 360.0 - 180.0)


def rings(q: np.ndarray, phi: np.ndarray, spread: float = 1e-6) -> list[Ring]:
    """Group bins into rings of (nearly) equal q, ascending in q.

    Neighbors in q are joined, smallest gap first, while the ring spans at most ``spread`` relative to its mean
    and no two of its bins point in the same direction (two bins of one direction are two rings).

    Args:
        q, phi: per bin, shape (n_bin,) [1/angstrom], [deg].
        spread: largest (max - min) / mean of one ring; tiny for files that store a grid.
    """
    order = np.argsort(q, kind="stable")
    if spread < EXACT:
        steps = np.flatnonzero(np.diff(q[order]) > spread * np.abs(q[order][1:])) + 1
        groups = [list(part) for part in np.split(order, steps)]
    else:
        groups = _join([[int(i)] for i in order], q, phi, spread)
    # the median of equal values is exactly that value, their mean is not
    return [Ring(float(np.median(q[g])), np.array(sorted(g), dtype=int)) for g in groups]


def _join(groups: list[list[int]], q: np.ndarray, phi: np.ndarray, spread: float) -> list[list[int]]:
    """Join neighboring groups, smallest gap first, until no pair can be one ring."""
    apart_deg = _same_direction(phi)

    def one_ring(a: list[int], b: list[int]) -> bool:
        low, high = q[a[0]], q[b[-1]]  # groups are ascending in q
        if high - low > spread * 0.5 * (high + low):
            return False
        return bool(np.min(angular_distance(phi[a][:, None], phi[b][None, :])) > apart_deg)

    while True:
        gaps = np.array([q[b[0]] - q[a[-1]] for a, b in pairwise(groups)])
        ordered = (int(n) for n in np.argsort(gaps, kind="stable"))
        n = next((n for n in ordered if one_ring(groups[n], groups[n + 1])), None)
        if n is None:
            return groups
        groups = [*groups[:n], groups[n] + groups[n + 1], *groups[n + 2 :]]


def _same_direction(phi: np.ndarray) -> float:
    """Distance [deg] below which two bins look in the same direction: a quarter of the sector spacing.

    The sectors of all rings together show the spacing: their sorted directions differ by about one sector, or by a
    little where several rings have a bin there.
    """
    steps = np.diff(np.sort(phi % 360.0))
    large = steps[steps > 0.25 * steps.max(initial=0.0)]
    return max(SAME_PHI_DEG, 0.25 * float(np.median(large))) if large.size else SAME_PHI_DEG


def select_ring(available: Sequence[Ring], q: float | None, q_tolerance: float) -> Ring:
    """The ring nearest to q within the relative tolerance; the only ring when q is None.

    Raises:
        InputError: q not positive, several rings and no q, or nothing within the tolerance.
    """
    listed = "available q [1/angstrom]: " + ", ".join(f"{r.q:.6g}" for r in available)
    if q is None:
        if len(available) == 1:
            return available[0]
        raise InputError("dataset.q", None, f"must be chosen, the file holds {len(available)} rings", listed)
    require_positive("dataset.q", q, "1/angstrom")
    nearest = min(available, key=lambda ring: abs(ring.q - q))
    if abs(nearest.q - q) > q_tolerance * q * (1 + 1e-9):
        raise InputError(
            "dataset.q",
            q,
            f"matches no ring within {q_tolerance:.3g} (relative)",
            f"{listed}; or widen dataset.q_tolerance",
        )
    return nearest


def select_rings(available: Sequence[Ring], q: float | Sequence[float] | None, q_tolerance: float) -> list[Ring]:
    """The rings nearest to one q or to each of several, in the order given; see ``select_ring``.

    Raises:
        InputError: an empty list, two q that mean the same ring, and the cases of ``select_ring``.
    """
    if q is None or np.ndim(q) == 0:
        return [select_ring(available, q, q_tolerance)]  # type: ignore[arg-type]
    wanted = [float(value) for value in np.ravel(q)]
    listed = "available q [1/angstrom]: " + ", ".join(f"{r.q:.6g}" for r in available)
    if not wanted:
        raise InputError("dataset.q", wanted, "selects nothing", listed)
    chosen = [select_ring(available, value, q_tolerance) for value in wanted]
    if len({ring.q for ring in chosen}) < len(chosen):
        raise InputError("dataset.q", wanted, "names one ring twice", f"give every ring once; {listed}")
    return chosen


def one_or_several_q(q: float | Sequence[float] | np.ndarray, n_phi: int) -> float | np.ndarray:
    """q as a dataset holds it: one number, or (n_phi,) where sectors differ [1/angstrom].

    Raises:
        InputError: neither one number nor one a sector, or not positive.
    """
    values = np.asarray(q, dtype=np.float64)
    if values.ndim == 0:
        return require_positive("q", float(values), "1/angstrom")
    if values.shape != (n_phi,):
        raise InputError("q", values.shape, f"does not fit the {n_phi} angles of phi", "give one q, or one per sector")
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        raise InputError("q", values[bad].tolist(), "must be positive", "give q in 1/angstrom")
    return float(values[0]) if np.all(values == values[0]) else values.copy()


def select_phi(
    phi: np.ndarray,
    wanted: Sequence[float | Sequence[float]] | None,
    tolerance_deg: float = 1.0,
    where: str = "",
) -> np.ndarray:
    """Positions of the wanted angles, in file order, each once.

    Args:
        phi: available angles [deg], shape (n,).
        wanted: None for all; else a list whose items are single angles (the nearest within the tolerance is
            taken) or pairs ``[lo, hi]``: the inclusive arc from lo counterclockwise to hi, through +-180 where
            needed; ``[170, -170]`` is 20 degrees wide, ``[-180, 180]`` is everything.
        where: for messages, which ring this is.

    Raises:
        InputError: an item matches no angle; the message lists the available ones.
    """
    if wanted is None:
        return np.arange(phi.size)
    if len(wanted) == 0:
        raise InputError("dataset.phi", wanted, "selects no angle", _listed_phi(phi))
    chosen: set[int] = set()
    for item in wanted:
        hits = _in_arc(phi, item) if isinstance(item, Sequence) else _nearest(phi, float(item), tolerance_deg)
        if hits.size == 0:
            raise InputError("dataset.phi", item, f"matches no angle{where}", _listed_phi(phi))
        chosen.update(int(i) for i in hits)
    return np.array(sorted(chosen))


def _in_arc(phi: np.ndarray, arc: Sequence[float]) -> np.ndarray:
    if len(arc) != 2 or not np.all(np.isfinite(np.asarray(arc, dtype=np.float64))):
        raise InputError("dataset.phi", arc, "is not a range", "give ranges as [lo, hi] in degrees")
    lo, hi = float(arc[0]), float(arc[1])
    if abs(hi - lo) >= 360.0:
        return np.arange(phi.size)
    width = (hi - lo) % 360.0
    # the small slack keeps both ends inclusive in floating point
    return np.flatnonzero((phi - lo + 1e-9) % 360.0 <= width + 2e-9)


def _nearest(phi: np.ndarray, angle: float, tolerance_deg: float) -> np.ndarray:
    distance = angular_distance(phi, angle)
    best = int(np.argmin(distance))
    return np.array([best]) if distance[best] <= tolerance_deg else np.array([], dtype=int)


def _listed_phi(phi: np.ndarray) -> str:
    return "available phi [deg]: " + ", ".join(f"{p:.6g}" for p in phi)


def select_frames(n_t: int, frames: Sequence[int] | None) -> tuple[int, int]:
    """0-based start and count of the inclusive range ``[first, last]``, frames numbered from 1.

    The count is last - first + 1; ``[1, n_t]`` is everything.

    Raises:
        InputError: not two integers with 1 <= first < last <= n_t, or fewer than 3 frames.
    """
    if frames is None:
        return 0, n_t
    if len(frames) != 2 or any(int(f) != f for f in frames):
        raise InputError("dataset.frames", frames, "is not a range", "give [first, last], inclusive, counted from 1")
    first, last = int(frames[0]), int(frames[1])
    if not 1 <= first < last <= n_t or last - first + 1 < 3:
        raise InputError(
            "dataset.frames", (first, last), f"does not fit the {n_t} frames of the file",
            f"choose 1 <= first < last <= {n_t} (inclusive, counted from 1, at least 3 frames)",
        )  # fmt: skip
    return first - 1, last - first + 1


def merge_angles(phi: np.ndarray, merge: str | None, tolerance_deg: float) -> list[list[int]]:
    """Positions that make up each representative angle, in order of first appearance.

    Angles within ``tolerance_deg`` of the first member of a group are near-identical: ``"average"`` keeps all
    members, ``"drop"`` only the first, None merges nothing.
    """
    if merge is None:
        return [[i] for i in range(phi.size)]
    if merge not in ("average", "drop"):
        raise InputError("dataset.angle_merge", merge, "is not a way to merge angles", "use average, drop or null")
    require_positive("dataset.angle_tolerance", tolerance_deg, "deg")
    groups: list[list[int]] = []
    for i in range(phi.size):
        near = [g for g in groups if angular_distance(phi[g[0]], phi[i]) <= tolerance_deg]
        if near:
            near[0].append(i)
        else:
            groups.append([i])
    return [g[:1] for g in groups] if merge == "drop" else groups


def circular_mean(phi: np.ndarray) -> float:
    """Mean direction [deg] of nearby angles, correct across +-180."""
    if phi.size == 1:
        return float(phi[0])
    offset = (phi - phi[0] + 180.0) % 360.0 - 180.0
    return float((phi[0] + offset.mean() + 180.0) % 360.0 - 180.0)


def require_positive(field: str, value: float, unit: str) -> float:
    """The value as float; InputError unless it is finite and positive."""
    number = float(value)
    if not (np.isfinite(number) and number > 0):
        raise InputError(field, number, "must be positive", f"set {field} to a positive number [{unit}]")
    return number
