"""What the noise of c2 says about the light: contrast, photon counts and independent pixels of every angle.

The intensity of one pixel fluctuates about its mean 1 as delta(t), with covariance

    Sigma_ij = contrast s_ij + nu [i = j],     nu = 1 / (counts per pixel and frame),

and c2_ij averages products over P independent pixels. With b = contrast + nu the variance of delta, and a_i that of a
difference of neighbors over sqrt 2, a_i = contrast (1 - s(i, i+1)) + nu, differences of c2 scatter by

    <(c2_i,j+1 - c2_ij)**2> / 2 = b a_j / P                                                       far from t1 = t2
    <(c2_ij - c2_i+1,j - c2_i,j+1 + c2_i+1,j+1)**2> / 4 = a_i a_j (1 + contrast s_ij) / P           everywhere

(the factor: a bright speckle is bright, and so noisy, at both times). The first gives nu where the diagonal of c2, which
is 1 + contrast + nu as a correlator leaves it, was replaced. The second is free of whatever changes slowly from frame to
frame, a model that fits badly included, and gives P.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from homodyne.models import Model
from homodyne.optimization.processors import n_workers
from homodyne.optimization.source import BlockSource, sector_names, sector_signal
from homodyne.optimization.uncertainty.reading import READING

# Up to this many frames the whole upper triangle is read, above squares of it.
_WHOLE, _SQUARE, _SQUARES = 1024, 256, 12
# The diagonal is believed where the nu it gives and the scatter of differences agree by this factor in b / a.
_AGREE = 1.35
# Below this part of the detector's pixels the independent ones are called fewer.
_COHERENT = 0.7


@dataclasses.dataclass(frozen=True)
class SpeckleNoise:
    """Light of every angle, (n_phi,) each.

    Attributes:
        contrast: of a single pixel, for a baseline of 1.
        nu: 1 / counts; 0 without shot noise.
        pixels: independent pixels P.
        offset: baseline of c2; noise is proportional to it.
        counts_source, pixels_source: where they are from, in words.
    """

    contrast: np.ndarray
    nu: np.ndarray
    pixels: np.ndarray
    offset: np.ndarray
    counts_source: str
    pixels_source: str

    def sentence(self) -> str:
        """For the log: what was found."""
        with np.errstate(divide="ignore"):
            counts = 1.0 / self.nu
        return (
            f"Speckle noise: contrast {_range(self.contrast)}, {_range(counts)} counts per pixel and frame "
            f"({self.counts_source}), {_range(self.pixels)} independent pixels per angle ({self.pixels_source})"
        )


def _of_file(source: BlockSource, found: np.ndarray) -> str:
    """What the file says about pixels, beside what was found."""
    stored = getattr(source, "attrs", {}).get("pixels")
    if stored is None or len(stored) != len(found):
        return ""
    repeated = int(getattr(source, "attrs", {}).get("n_repetitions", 1))
    who = "the file counts" if repeated == 1 else f"the {repeated} repetitions count"
    text = f"; {who} {_range(np.asarray(stored, dtype=float))}"
    part = float(np.median(found / np.asarray(stored, dtype=float)))
    return text + (", so a speckle covers several" if part < _COHERENT else "")


def _range(values: np.ndarray) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if high <= 1.005 * low else f"{low:.3g} to {high:.3g}"


@dataclasses.dataclass
class _Sums:
    """Sums over one angle, see the module docstring; ``expected`` is that of a_i a_j (1 + contrast s_ij), by nu."""

    diagonal: float = 0.0
    n_diagonal: int = 0
    double: float = 0.0
    n_double: int = 0
    late: float = 0.0
    early: float = 0.0
    n_single: int = 0
    far_double: float = 0.0
    n_far_double: int = 0


def estimate_noise(
    source: BlockSource,
    model: Model,
    theta: np.ndarray,
    scaling: np.ndarray,
    counts: float | None = None,
    pixels: float | None = None,
) -> SpeckleNoise | None:
    """Noise of every angle from the data and a fit; None where the data do not tell it.

    Args:
        theta: (p,). scaling: (n_phi, 2) contrast and offset of the fit.
        counts: photons per pixel and frame, pixels: independent pixels per angle of one measurement, where the user knows
            them.
    """
    n_phi = len(source.phi)
    offset = scaling[:, 1]
    contrast = usable_contrast(scaling[:, 0] / offset)
    with ThreadPoolExecutor(n_workers()) as pool:
        angles = list(pool.map(lambda k: _Angle(source, model, theta, k, scaling[k]), range(n_phi)))
    if counts is not None:
        nu, counts_source = np.full(n_phi, 1.0 / counts), "given"
    else:
        nu, counts_source = _nu(angles, contrast, offset)
    if not np.all(np.isfinite(nu)):
        return None
    named = np.array(sector_names(source))
    replaced = named[contrast != scaling[:, 0] / offset]
    if replaced.size:  # not silently: noise drove these fitted contrasts out of what speckle can have
        counts_source += f"; typical contrast at phi = {', '.join(replaced)}, outside (0, 1] there"
    if pixels is not None:
        # the mean of R repetitions has the noise of R times as many pixels
        repeated = int(getattr(source, "attrs", {}).get("n_repetitions", 1))
        pixels_source = "given" if repeated == 1 else f"given, times {repeated} repetitions"
        return SpeckleNoise(
            contrast, nu, np.full(n_phi, float(pixels) * repeated), offset, counts_source, pixels_source
        )
    found = np.array([a.pixels(c, v, o) for a, c, v, o in zip(angles, contrast, nu, offset, strict=True)])
    known = found > 0  # false where nothing was measured
    if not known.any():
        return None
    if not known.all():
        found = np.where(known, found, np.median(found[known]))
        lacking = ", ".join(named[~known])
        pixels_source = (
            f"from the scatter of neighbors; there are none at phi = {lacking}, which take the typical number"
        )
        return SpeckleNoise(contrast, nu, found, offset, counts_source, pixels_source)
    pixels_source = "from the scatter of neighbors" + _of_file(source, found)
    return SpeckleNoise(contrast, nu, found, offset, counts_source, pixels_source)


def usable_contrast(contrast: np.ndarray) -> np.ndarray:
    """Contrasts a speckle pattern can have: one that noise drove out of (0, 1] takes the median of the others."""
    good = (contrast > 0) & (contrast <= 1)
    typical = float(np.median(contrast[good])) if good.any() else 1.0
    return np.where(good, contrast, typical)


def _nu(angles: list[_Angle], contrast: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, str]:
    """1 / counts of every angle: from the diagonal where it is raw, else from the scatter of differences, pooled."""
    from_diagonal = np.array([a.diagonal for a in angles]) / offset - 1.0 - contrast
    measured = np.array([a.white_ratio for a in angles])
    neighbors = np.array([a.neighbors for a in angles])
    # b / a of the differences, were the diagonal right
    expected = (contrast + from_diagonal) / np.maximum(contrast * (1 - neighbors) + from_diagonal, 1e-300)
    known = np.isfinite(measured)
    if np.all(from_diagonal > 0):
        agreement = float(np.median((expected / measured)[known])) if known.any() else 1.0
        if 1 / _AGREE < agreement < _AGREE:
            return from_diagonal, "from the diagonal"
    if not known.any():
        return np.full(len(angles), np.nan), "unknown"
    return np.full(len(angles), _fitted_nu(measured, contrast, neighbors)), (
        "from the scatter of neighbors, the diagonal was replaced"
    )


def _fitted_nu(measured: np.ndarray, contrast: np.ndarray, neighbors: np.ndarray) -> float:
    """The nu, the same at all angles, whose b / a come closest to the measured ones in logarithms."""
    usable = np.isfinite(measured) & (measured > 0)
    grid = np.concatenate([[0.0], np.geomspace(1e-4, 1e4, 400)]) * float(np.median(contrast))
    b = contrast[:, None] + grid
    a = np.maximum(contrast[:, None] * (1 - neighbors[:, None]) + grid, 1e-300)
    misfit = (np.log(b / a)[usable] - np.log(measured[usable])[:, None]) ** 2
    return float(grid[int(np.argmin(misfit.sum(0)))])


class _Angle:
    """Statistics of one angle, from the upper triangle or squares of it."""

    def __init__(self, source: BlockSource, model: Model, theta: np.ndarray, k: int, scaling: np.ndarray) -> None:
        n = len(source.t)
        sums = _Sums()
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray, float]] = []
        neighbor = self._neighbors(source, model, theta, k)
        for rows, cols in _blocks(n):
            frames = np.concatenate([np.arange(rows.start, rows.stop), np.arange(cols.start, cols.stop)])
            unique, place = np.unique(frames, return_inverse=True)
            s = sector_signal(model, theta, source, k, unique)
            s = s[np.ix_(place[: rows.stop - rows.start], place[rows.stop - rows.start :])]
            with READING:
                r = np.asarray(source.read_block(k, rows, cols), dtype=float)
            self._add(sums, rows, cols, r, r - scaling[1] - scaling[0] * s, s, neighbor, n)
        self.diagonal = sums.diagonal / sums.n_diagonal if sums.n_diagonal else np.nan
        self.neighbors = float(neighbor.mean())
        self.double = sums.double / sums.n_double if sums.n_double else np.nan
        self.white_ratio = _white_ratio(sums)

    @staticmethod
    def _neighbors(source: BlockSource, model: Model, theta: np.ndarray, k: int) -> np.ndarray:
        """s(i, i+1), (n_t - 1,)."""
        n, step = len(source.t), 256
        out = []
        for first in range(0, n - 1, step):
            frames = np.arange(first, min(first + step + 1, n))
            s = sector_signal(model, theta, source, k, frames)
            out.append(np.diagonal(s, 1))
        return np.concatenate(out)

    def _add(self, sums, rows, cols, c2, r, s, neighbor, n) -> None:
        lag = np.arange(cols.start, cols.stop)[None, :] - np.arange(rows.start, rows.stop)[:, None]
        on = (lag == 0) & np.isfinite(c2)
        sums.diagonal += float(c2[on].sum())
        sums.n_diagonal += int(on.sum())
        r = np.where(lag > 0, r, np.nan)
        double = (r[:-1, :-1] - r[1:, :-1] - r[:-1, 1:] + r[1:, 1:]) ** 2 / 4
        good = np.isfinite(double)
        sums.double += float(double[good].sum())
        sums.n_double += int(good.sum())
        i, j = (neighbor[x.start : x.stop - 1] for x in (rows, cols))
        self._blocks.append((i, j, np.where(good, s[:-1, :-1], np.nan), float(good.sum())))
        far = lag >= n // 4
        late, early = np.diff(r, axis=1) ** 2 / 2, np.diff(r, axis=0) ** 2 / 2
        for name, values, keep in (("late", late, far[:, :-1]), ("early", early, far[1:])):
            values = values[keep & np.isfinite(values)]
            setattr(sums, name, getattr(sums, name) + float(values.sum()))
            if name == "late":
                sums.n_single += values.size
        keep = good & far[1:, :-1]
        sums.far_double += float(double[keep].sum())
        sums.n_far_double += int(keep.sum())

    def pixels(self, contrast: float, nu: float, offset: float) -> float:
        """P: expected over measured double differences."""
        if not self.double > 0:  # no neighbors, or no noise at all
            return np.inf if self.double == 0 else np.nan
        total = n = 0.0
        for i, j, s, count in self._blocks:
            a_i, a_j = contrast * (1 - i) + nu, contrast * (1 - j) + nu
            total += float(np.nansum(a_i[:, None] * a_j[None, :] * (1 + contrast * s)))
            n += count
        return total / n * offset**2 / self.double


def _white_ratio(sums: _Sums) -> float:
    """b / a at far lags: how much of the noise neighbors do not share."""
    if not (sums.n_single and sums.n_far_double and sums.far_double > 0):
        return np.nan
    single = np.sqrt(sums.late * sums.early) / sums.n_single
    return single / (sums.far_double / sums.n_far_double)


def _blocks(n: int) -> list[tuple[slice, slice]]:
    """The whole triangle, or squares over it, some of them on the diagonal."""
    if n <= _WHOLE:
        return [(slice(0, n), slice(0, n))]
    starts = np.linspace(0, n - _SQUARE, 3).astype(int)
    corners = [(r, c) for r in starts for c in starts if c >= r][:_SQUARES]
    return [(slice(r, r + _SQUARE), slice(c, c + _SQUARE)) for r, c in corners]
