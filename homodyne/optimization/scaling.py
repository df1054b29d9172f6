"""Contrast and offset per sector as linear maps of a few free parameters."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.errors import InputError

MODES = ("individual", "auto", "constant", "fourier")


@dataclasses.dataclass(frozen=True)
class Scaling:
    """(contrast, offset)_k = base_k + basis_k @ beta.

    Attributes:
        mode: as the user named it.
        basis: (n_phi, 2, b).
        base: (n_phi, 2); zero unless the scaling is fixed.
    """

    mode: str
    basis: np.ndarray
    base: np.ndarray

    @property
    def n_free(self) -> int:
        """Number of free scaling parameters b."""
        return self.basis.shape[2]


def make_scaling(
    mode: str,
    phi: np.ndarray,
    fourier_order: int = 2,
    fixed: np.ndarray | None = None,
    q: np.ndarray | float | None = None,
) -> Scaling:
    """The map of a scaling mode.

    Args:
        mode: ``individual`` (2 n_phi free parameters), ``auto`` (one shared pair for every q; where a q has fewer than
            three angles the same as individual), ``constant`` (none; ``fixed`` gives contrast and offset per angle),
            ``fourier`` (contrast and offset as Fourier series in phi, one for every q).
        phi: azimuths [degree], (n_phi,).
        fourier_order: K of the series, 2K+1 terms each.
        fixed: (n_phi, 2), for ``constant``.
        q: of the sectors [1/angstrom], (n_phi,) or one number; contrast depends on it, through the detector's resolution.

    Raises:
        InputError: unknown mode, or a Fourier series with more terms than angles.
    """
    n_phi = len(phi)
    if mode not in MODES:
        raise InputError("scaling", mode, "is unknown", f"choose one of {', '.join(MODES)}")
    if mode == "constant":
        if fixed is None:
            raise InputError("scaling", mode, "needs fixed contrasts and offsets", "estimate them first")
        return Scaling(mode, np.zeros((n_phi, 2, 0)), np.asarray(fixed, dtype=float))
    columns = _columns(mode, np.asarray(phi, dtype=float), fourier_order, q)
    half = columns.shape[1]
    basis = np.zeros((n_phi, 2, 2 * half))
    basis[:, 0, :half] = columns
    basis[:, 1, half:] = columns
    return Scaling(mode, basis, np.zeros((n_phi, 2)))


def _columns(mode: str, phi: np.ndarray, order: int, q: np.ndarray | float | None) -> np.ndarray:
    """How contrast, or offset, of every sector is made of b / 2 numbers, (n_phi, b / 2): blocks of the q, one by one."""
    if mode == "individual":
        return np.eye(len(phi))
    rings = np.broadcast_to(np.asarray(1.0 if q is None else q, dtype=float), phi.shape)
    blocks = []
    for value in dict.fromkeys(rings.tolist()):
        here = np.flatnonzero(rings == value)
        if mode == "fourier":
            small = _fourier(phi[here], order)
        else:
            small = np.eye(len(here)) if len(here) < 3 else np.ones((len(here), 1))
        block = np.zeros((len(phi), small.shape[1]))
        block[here] = small
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


def _fourier(phi: np.ndarray, order: int) -> np.ndarray:
    if order < 0 or 2 * order + 1 > len(phi):
        raise InputError(
            "fourier_order",
            order,
            f"needs {2 * order + 1} terms but there are {len(phi)} angles",
            f"set optimization.nlsq.fourier_order to at most {max(0, (len(phi) - 1) // 2)} or use individual scaling",
        )
    angle = np.deg2rad(phi)
    columns = [np.ones_like(angle)]
    for m in range(1, order + 1):
        columns += [np.cos(m * angle), np.sin(m * angle)]
    return np.stack(columns, axis=1)
