"""Two-time data of simulated speckle, noise and all, as the correlator of a beamline measures them.

The pixels of a sector are independent. The intensity of one is I = sum_m w_m |E_m|**2 over modes with the field
correlation g1(t1, t2) of the model; it is counted as Poisson photons and correlated over the P pixels,

    c2_ij = <I_i I_j> / (<I_i> <I_j>),     expected 1 + contrast |g1|**2 (diagonal: + 1 / counts).

Its noise is that of a measurement: the standard deviation of one pair at far lag is (contrast + 1 / counts) / sqrt(P),
neighboring pairs share part of it, and the normalization brings a bias of order contrast / P (see ``PixelSums``).
"""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.backends.locks import SerializableLock
from xarray.core import indexing

from homodyne.data import Dataset
from homodyne.data.arrays import check_phi
from homodyne.data.maps import Maps
from homodyne.data.select import one_or_several_q, require_positive
from homodyne.data.table import uniform_spacing
from homodyne.errors import InputError
from homodyne.fields import field_root, mode_weights, modes, single
from homodyne.models import Model, get_model, reference_q
from homodyne.parameters import check_values
from homodyne.simulate.correlator import PixelSums, detected

# Random numbers of one portion of pixels: 1 MB in float32, which stays in the cache of a processor.
PORTION = 1 << 18
# Portions of fewer pixels would spend their time on adding up matrices.
FEWEST_PIXELS = 64
# Maps a dataset keeps: as many as fit here, at least one.
KEPT_BYTES = 256 * 2**20

PerAngle = float | Sequence[float] | np.ndarray
Pixels = int | Sequence[int] | np.ndarray


def speckle_maps(
    model: str | Model,
    theta: Mapping[str, float],
    phi: np.ndarray,
    t: np.ndarray,
    q: float | Sequence[float] | np.ndarray,
    gap: float | None = None,
    *,
    contrast: PerAngle = 0.3,
    counts: PerAngle | None = 2.0,
    pixels: Pixels = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Two-time maps of simulated speckle, one sector per angle.

    The map of angle k depends on ``seed`` and k alone, not on how many angles there are.

    Args:
        model: a model or the name of a built-in one. theta: all its parameters by name.
        phi: azimuths [degree], (n_phi,). t: uniform frame times [s], (n_t,). gap [angstrom].
        q: [1/angstrom], one number, or one a sector, (n_phi,).
        contrast: of one pixel, above 0 and at most 1; one number, or one per angle.
        counts: mean photons per pixel and frame, one number or one per angle; None for intensities without shot noise.
        pixels: independent pixels of a sector, one number or one per angle.
        seed: of the random numbers, not negative.

    Returns:
        c2 (n_phi, n_t, n_t), symmetric, float64; zero in rows and columns of frames without any photon.

    Raises:
        InputError: a number out of its range, a parameter or the gap missing, times that are not uniform.
    """
    sample = _sample(model, theta, phi, t, q, gap, contrast, counts, pixels, seed)
    return np.stack([sample.map(k) for k in range(len(sample.phi))])


def speckle_dataset(
    model: str | Model,
    theta: Mapping[str, float],
    phi: np.ndarray,
    t: np.ndarray,
    q: float | Sequence[float] | np.ndarray,
    gap: float | None = None,
    *,
    contrast: PerAngle = 0.3,
    counts: PerAngle | None = 2.0,
    pixels: Pixels = 1000,
    seed: int = 0,
) -> Dataset:
    """The maps of ``speckle_maps`` as a dataset that simulates an angle when its first block is read.

    Maps are kept within 256 MB (at least one). ``attrs["pixels"]`` lists the pixels of every angle, ``attrs["truth"]``
    is a JSON text of what went in. Any number of angles can be written, one at a time in memory:
    ``dataset.to_netcdf(path)``, or another writer of ``homodyne.data.formats`` that takes a function of the position,
    ``write_apsu(path, lambda k: dataset.maps.read(k, slice(0, n_t), slice(0, n_t)), ...)``.

    Args and raises: as ``speckle_maps``.
    """
    sample = _sample(model, theta, phi, t, q, gap, contrast, counts, pixels, seed)
    lazy = _SampleArray(sample)
    n_phi, n_t, _ = lazy.shape
    variable = xr.Variable(("phi", "t1", "t2"), indexing.LazilyIndexedArray(lazy))
    attrs = {
        "dt_source": "t",
        "frames": (1, n_t),
        "bytes": n_phi * lazy.map_bytes,
        "reader_cache_bytes": lazy.kept * lazy.map_bytes,
        "pixels": sample.pixels.tolist(),
        "truth": json.dumps(sample.truth()),
    }
    dt = uniform_spacing("t", sample.t)
    return Dataset(
        phi=sample.phi, t=np.arange(n_t) * dt, dt=dt, q=one_or_several_q(sample.q, n_phi), gap=sample.gap, path=None, engine="speckle",
        attrs=attrs, maps=Maps(variable, tuple(((k,),) for k in range(n_phi)), 0, n_t),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class _Sample:
    """Checked arguments of ``speckle_maps``; one number per angle where there may be several."""

    model: Model
    theta: dict[str, float]
    phi: np.ndarray
    t: np.ndarray
    q: np.ndarray
    gap: float | None
    contrast: np.ndarray
    counts: np.ndarray | None
    pixels: np.ndarray
    seed: int

    def map(self, k: int) -> np.ndarray:
        """c2 of angle k, (n_t, n_t)."""
        rng = np.random.default_rng([self.seed, k])
        root = single(field_root(self._g1(k)))
        weights = mode_weights(float(self.contrast[k])).astype(np.float32)
        counts = None if self.counts is None else float(self.counts[k])
        n_t, m = len(self.t), len(weights)
        portion = max(FEWEST_PIXELS, PORTION // (2 * m * n_t))
        sums = PixelSums(n_t)
        for first in range(0, int(self.pixels[k]), portion):
            n = min(portion, int(self.pixels[k]) - first)
            intensity = weights @ modes(root, m * n, rng, np.float32).reshape(n_t, m, n)
            sums.add(detected(intensity, counts, rng))
        return sums.c2()

    def _g1(self, k: int) -> np.ndarray:
        phi, q = float(self.phi[k]), float(self.q[k])
        return self.model.g1(self.theta, self.t, phi, q, self.gap, q_ref=reference_q(self.q))

    def truth(self) -> dict[str, object]:
        """What went in, for records; q, phi, gap and dt are the dataset's own."""
        return {
            "model": self.model.name,
            "convention": self.model.convention,
            "theta": self.theta,
            "contrast": self.contrast.tolist(),
            "counts": None if self.counts is None else self.counts.tolist(),
            "pixels": self.pixels.tolist(),
            "seed": self.seed,
        }


class _SampleArray(BackendArray):
    """c2(phi, t1, t2) that simulates an angle when it is indexed and keeps those used last."""

    def __init__(self, sample: _Sample) -> None:
        n_t = len(sample.t)
        self.shape, self.dtype = (len(sample.phi), n_t, n_t), np.dtype(np.float64)
        self.map_bytes = n_t * n_t * self.dtype.itemsize
        self.kept = min(len(sample.phi), max(1, KEPT_BYTES // self.map_bytes))
        self._sample = sample
        self._maps: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = SerializableLock()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        which, rows, cols = key
        if not isinstance(which, slice):
            return self._map(int(which))[rows, cols]
        chosen = range(*which.indices(self.shape[0]))
        window = np.broadcast_to(0.0, self.shape[1:])[rows, cols].shape
        out = np.empty((len(chosen), *window), self.dtype)
        for place, k in enumerate(chosen):
            out[place] = self._map(k)[rows, cols]
        return out

    def _map(self, k: int) -> np.ndarray:
        with self._lock:  # two readers of one angle must not both simulate it
            c2 = self._maps.pop(k, None)
            if c2 is None:
                while len(self._maps) >= self.kept:
                    self._maps.popitem(last=False)
                c2 = self._sample.map(k)
                c2.setflags(write=False)  # blocks are views of it
            self._maps[k] = c2
            return c2


def _sample(
    model: str | Model,
    theta: Mapping[str, float],
    phi: np.ndarray,
    t: np.ndarray,
    q: float | Sequence[float] | np.ndarray,
    gap: float | None,
    contrast: PerAngle,
    counts: PerAngle | None,
    pixels: Pixels,
    seed: int,
) -> _Sample:
    """Check everything before anything is drawn."""
    chosen = get_model(model) if isinstance(model, str) else model
    missing = [p.name for p in chosen.parameters if p.name not in theta]
    if missing:
        raise InputError("theta", sorted(theta), f"lacks {', '.join(missing)}", "give every parameter of the model")
    if seed < 0:
        raise InputError("seed", seed, "must not be negative", "give a whole number from 0")
    phi, t = check_phi(phi), np.asarray(t, dtype=np.float64)
    gap = None if gap is None else require_positive("gap", gap, "angstrom")
    each = np.array(np.broadcast_to(one_or_several_q(q, len(phi)), (len(phi),)))
    chosen.geometry(0.0, float(each[0]), gap, uniform_spacing("t", t), reference_q(each))
    contrast = _per_angle("contrast", contrast, len(phi))
    for value in contrast:
        mode_weights(float(value))  # raises where it is above 1
    return _Sample(
        chosen, check_values(theta, chosen.parameters, "theta"), phi, t, each, gap,
        contrast, None if counts is None else _per_angle("counts", counts, len(phi)), _pixels(pixels, len(phi)), seed,
    )  # fmt: skip


def _per_angle(field: str, value: PerAngle, n_phi: int) -> np.ndarray:
    values = np.asarray(value, dtype=np.float64)
    if values.shape not in ((), (n_phi,)):
        raise InputError(field, values.shape, f"does not fit {n_phi} angles", f"give one {field} or one per angle")
    if not np.all(np.isfinite(values) & (values > 0)):
        raise InputError(field, values.tolist(), "must be positive", f"give positive numbers for {field}")
    return np.broadcast_to(values, (n_phi,)).copy()


def _pixels(pixels: Pixels, n_phi: int) -> np.ndarray:
    values = _per_angle("pixels", pixels, n_phi)
    if np.any((values < 2) | (values != np.round(values))):
        # one pixel divided by its own mean is 1 everywhere
        raise InputError(
            "pixels", np.asarray(pixels).tolist(), "must be whole numbers of at least 2", "give more pixels"
        )
    return values.astype(int)
