"""What is wrong with a dataset, and what is missing for a fit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from homodyne.data.blocks import lags, upper_tiles
from homodyne.data.formats.bins import NO_PHI
from homodyne.data.noise import contrast_of_angle

if TYPE_CHECKING:
    from homodyne.data.dataset import Dataset

TILE_FRAMES = 1024


@dataclasses.dataclass(frozen=True)
class MaskedCounts:
    """Masked points above the diagonal, summed over angles: all (nan), and those masked by sigma alone.

    ``nan`` includes infinite values and pairs with a dead frame, which read as NaN too.
    """

    nan: int
    sigma_zero: int


@dataclasses.dataclass(frozen=True)
class AngleQuality:
    """Points of one angle above the diagonal.

    Attributes:
        phi: [deg], q [1/angstrom]; points: pairs in all; nan (or infinite), zero, negative: of those outside dead frames; dead: frames without
            counts (0-based); contrast, offset: estimates; NaN where there is no data.
    """

    phi: float
    q: float
    points: int
    nan: int
    zero: int
    negative: int
    dead: tuple[int, ...]
    contrast: float
    offset: float


def survey(dataset: Dataset) -> list[AngleQuality]:
    """Counts and contrast per angle, by one pass over the upper triangle."""
    return [_angle(dataset, k) for k in range(dataset.n_phi)]


def _angle(dataset: Dataset, k: int) -> AngleQuality:
    n_t = dataset.n_t
    totals = np.zeros(4, dtype=np.int64)
    for rows, cols in upper_tiles(n_t, TILE_FRAMES):
        values = dataset.read_block(k, rows, cols)[lags(rows, cols) > 0]
        totals += np.array([values.size, np.isnan(values).sum(), (values == 0).sum(), (values < 0).sum()])
    dead = dataset.dead_frames(k)
    # pairs with a dead frame read as NaN; they are reported as frames, not again as points
    in_dead = dead.size * (n_t - 1) - dead.size * (dead.size - 1) // 2
    contrast, offset = contrast_of_angle(lambda r, c: dataset.read_block(k, r, c), n_t)
    points, nan, zero, negative = (int(v) for v in totals)
    return AngleQuality(
        float(dataset.phi[k]),
        float(dataset.sector_q[k]),
        points,
        nan - int(in_dead),
        zero,
        negative,
        tuple(int(f) for f in dead),
        contrast,
        offset,
    )


def count_masked(dataset: Dataset) -> MaskedCounts:
    """Masked points of all angles, by one pass over the data."""
    nan = by_sigma = 0
    for k in range(dataset.n_phi):
        for rows, cols in upper_tiles(dataset.n_t, TILE_FRAMES):
            upper = lags(rows, cols) > 0
            masked = np.isnan(dataset.read_block(k, rows, cols)) & upper
            nan += int(np.count_nonzero(masked))
            if dataset.read_sigma(k, rows, cols) is not None:
                by_sigma += int(np.count_nonzero(masked & ~np.isnan(dataset.maps.read(k, rows, cols))))
    return MaskedCounts(nan, by_sigma)


def missing_for_fit(dataset: Dataset) -> list[str]:
    """What a user still has to give, as sentences; empty when nothing is missing."""
    missing = []
    if dataset.gap is None:
        missing.append(
            "gap (dataset.gap_angstrom, in angstrom): never in beamline files, needed by laminar_flow, not by static"
        )
    return missing


def _rings(dataset: Dataset) -> list[str]:
    """A line for every q, with its angles."""
    lines = []
    if dataset.attrs.get("phi_source") == NO_PHI:
        lines.append("no directions: averaged over all of them; phi = 0 is only a name, models with flow do not apply")
    for q in dataset.q_values:
        phi = dataset.phi[dataset.sector_q == q]
        lines.append(f"q = {q:.6g} 1/angstrom; {phi.size} angles [deg]: {', '.join(f'{p:.4g}' for p in phi)}")
    return lines


def describe(dataset: Dataset) -> str:
    """A few lines for logs and people."""
    first, last = dataset.attrs["frames"]
    gap = (
        "missing: give gap"
        if dataset.gap is None
        else f"{dataset.gap:g} angstrom ({dataset.attrs.get('gap_source', 'given')})"
    )
    where = "memory" if dataset.path is None else str(dataset.path)
    lines = [
        f"{dataset.engine}: {where}, {int(dataset.attrs['bytes']) / 2**30:.3f} GB",
        *_rings(dataset),
        f"{dataset.n_t} frames ({first} to {last}), dt = {dataset.dt:.6g} s from {dataset.attrs['dt_source']}",
        f"gap: {gap}; sigma {dataset.sigma_source}; {dataset.n_points()} points",
    ]
    if "files" in dataset.attrs:
        lines.append(f"sectors of {len(dataset.attrs['files'])} files: {', '.join(dataset.attrs['files'])}")
    if dataset.n_repetitions > 1:
        names = ", ".join(dataset.attrs.get("repetitions", [])) or "averaged before"
        lines.append(f"mean of {dataset.n_repetitions} repetitions: {names}")
    lines += [
        f"merged ({m['how']}): phi {m['phi']} at q = {m['q']:.6g}" for m in dataset.attrs.get("merged_angles", [])
    ]
    temperatures = {
        name: value for name, value in dataset.attrs.items() if "temperature" in name or name == "qnw_lakeshore"
    }
    if temperatures:
        lines.append("temperatures: " + ", ".join(f"{name} {value:g}" for name, value in temperatures.items()))
    lines += [f"missing: {sentence}" for sentence in missing_for_fit(dataset)]
    return "\n".join(lines)
