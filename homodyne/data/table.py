"""Any of the file layouts as one flat table of matrices with q and phi, checked before anything is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import xarray as xr

from homodyne.data.maps import Index
from homodyne.data.select import Ring, rings
from homodyne.errors import InputError

LEADING = (("bin",), ("phi",), ("q", "phi"))
# Times may deviate from a uniform grid by this fraction of the spacing (rounding of stored times).
UNIFORM = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class MatrixTable:
    """All matrices of a file.

    Attributes:
        c2: lazily indexed variable with trailing dimensions (t1, t2).
        index: leading indices of each matrix; q, phi: per matrix, (n,) [1/angstrom], [deg].
        n_t: frames; dt: spacing [s] or None when the file does not tell; dt_source: where from or what is missing.
        gap: [angstrom] or None; sigma: the file's sigma variable or None.
        ring_spread: relative spread of q within a ring.
        pixels: detector pixels of each matrix, (n,), or None.
        attrs: further facts of the file.
    """

    c2: xr.Variable
    index: tuple[Index, ...]
    q: np.ndarray
    phi: np.ndarray
    n_t: int
    dt: float | None
    dt_source: str
    gap: float | None
    sigma: xr.Variable | None
    ring_spread: float
    attrs: Mapping[str, object]
    pixels: np.ndarray | None = None

    def rings(self) -> list[Ring]:
        """Matrices grouped by q."""
        return rings(self.q, self.phi, self.ring_spread)


def matrix_table(opened: xr.Dataset) -> MatrixTable:
    """Flatten ``c2(bin|phi|q,phi, t1, t2)``.

    Raises:
        InputError: dimensions in no known order, c2 not square, times not uniform, q or phi missing.
    """
    c2 = opened["c2"].variable
    leading = tuple(str(name) for name in c2.dims[:-2])
    if leading not in LEADING or c2.dims[-2:] != ("t1", "t2"):
        raise InputError(
            "c2 dimensions", c2.dims, "are in no known order", "store c2(phi, t1, t2) or c2(q, phi, t1, t2)"
        )
    if c2.shape[-1] != c2.shape[-2]:
        raise InputError("c2", c2.shape, "is not square in t1 and t2", "store all pairs of one set of frames")
    q, phi, index = _cells(opened, leading, c2.shape[:-2])
    dt, dt_source = _spacing(opened)
    spread = opened["q"].attrs.get("ring_spread", 1e-6)
    return MatrixTable(
        c2, index, q, phi, int(c2.shape[-1]), dt, dt_source, _number(opened, "gap"),
        opened["sigma"].variable if "sigma" in opened else None, float(spread), dict(opened.attrs),
        np.broadcast_to(opened["pixels"].values, c2.shape[:-2]).ravel() if "pixels" in opened.variables else None,
    )  # fmt: skip


def _cells(
    opened: xr.Dataset, leading: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, tuple[Index, ...]]:
    for name in ("q", "phi"):
        if name not in opened.variables:
            raise InputError(name, None, "is missing beside c2", f"store {name} as a coordinate")
    q, phi = (np.asarray(opened[name].values, dtype=np.float64) for name in ("q", "phi"))
    index = tuple(tuple(int(i) for i in cell) for cell in np.ndindex(*shape))
    if leading == ("q", "phi"):
        q, phi = q[:, None], phi[None, :]
    if not np.all(np.isfinite(q)) or np.any(q <= 0):
        raise InputError("q", q.ravel().tolist(), "must be positive", "store q in 1/angstrom")
    if not np.all(np.isfinite(phi)):
        raise InputError("phi", phi.ravel().tolist(), "must be finite", "store phi in degrees")
    return np.broadcast_to(q, shape).ravel(), np.broadcast_to(phi, shape).ravel(), index


def _spacing(opened: xr.Dataset) -> tuple[float | None, str]:
    """dt [s] from the attribute, else from t1; the two must agree, and t1 must equal t2."""
    stated, source = _number(opened, "dt"), str(opened.attrs.get("dt_source", "t1 of the file"))
    if "t1" not in opened.variables or "t2" not in opened.variables:
        return stated, source if stated is not None else "not in the file: t1 and t2 are missing"
    t1, t2 = (np.asarray(opened[name].values, dtype=np.float64) for name in ("t1", "t2"))
    if opened["t1"].attrs.get("units") == "frame":
        return None, source
    dt = uniform_spacing("t1", t1)
    if abs(uniform_spacing("t2", t2) - dt) > UNIFORM * dt or abs(t1[0] - t2[0]) > UNIFORM * dt:
        raise InputError("t2", t2[:3].tolist(), "differs from t1", "store the same times along both axes")
    if stated is not None and abs(stated - dt) > UNIFORM * dt:
        raise InputError("dt", stated, f"contradicts the spacing {dt:.6g} s of t1", "store t1 and t2 in seconds")
    return (dt if stated is None else stated), source


def uniform_spacing(field: str, t: np.ndarray) -> float:
    """Spacing [s] of a uniform, increasing time axis.

    Raises:
        InputError: fewer than three times, not finite, not increasing, not uniform.
    """
    if t.ndim != 1 or t.size < 3:
        raise InputError(field, t.shape, "has fewer than three times", "give one time per frame, at least three")
    steps = np.diff(t)
    dt = float((t[-1] - t[0]) / (t.size - 1))
    if not np.all(np.isfinite(steps)) or np.any(steps <= 0):
        raise InputError(field, t[:3].tolist(), "is not increasing", "give times in seconds, ascending")
    worst = int(np.argmax(np.abs(steps - dt)))
    if abs(steps[worst] - dt) > UNIFORM * dt:
        raise InputError(
            field, float(steps[worst]), f"is not uniform: the step after frame {worst + 1} differs from the mean {dt:.6g} s",
            "give frames of equal spacing",
        )  # fmt: skip
    return dt


def _number(opened: xr.Dataset, name: str) -> float | None:
    """A scalar stored as attribute or as scalar variable."""
    if name in opened.variables and opened[name].size == 1:
        return float(opened[name].values)
    value = opened.attrs.get(name)
    return None if value is None else float(value)
