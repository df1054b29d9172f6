"""What a whitened fit would take: how many frames are whitened together, and from where on it is not done."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from homodyne.optimization.nlsq.request import Request

GB = 2**30
#: Up to so many frames are whitened together; more in blocks of at most ``BLOCK``.
LONGEST, BLOCK = 640, 512
# Bytes per pair of frames and sector at work: data, and the field correlation that light is made of, with its root.
_BYTES = 64
# Sectors times frames squared times frames of a block that ``weighting=auto`` takes upon itself: about a minute on two processors.
_AUTO = 3e10

# For predictions: passes of a whitened fit, what they take beside products of matrices, and columns of a trial product.
_PASSES, _BESIDE, _COLUMNS = 7, 1.5, 8


@dataclasses.dataclass(frozen=True)
class Plan:
    """``longest``: most frames of a block. ``at_once``: sectors that fit into memory together. ``too_large``: why it is not done, ``too_long``: why not by itself, or None."""

    longest: int
    n_t: int
    at_once: int
    too_large: str | None
    too_long: str | None

    @property
    def blocks(self) -> int:
        """How many."""
        return -(-self.n_t // self.longest)


def plan(request: Request) -> Plan:
    """Blocks for the data of a request."""
    n_t = len(request.source.t)
    gb, limit = n_t**2 * _BYTES / GB, request.decision.threshold_gb
    too_large = (
        None if gb <= limit else f"{n_t} frames need {gb:.3g} GB, which is above the threshold of {limit:.3g} GB"
    )
    longest = n_t if n_t <= LONGEST else BLOCK
    n_phi = len(request.source.phi)
    text = f"{n_phi} sectors of {n_t} frames take minutes, and weighting=whitened takes them"
    return Plan(
        longest, n_t, max(1, int(limit / gb)), too_large, text if n_phi * float(n_t) ** 2 * longest > _AUTO else None
    )


def excluded(request: Request, sizes: Plan) -> str | None:
    """Why a fit cannot be whitened, as far as the request tells."""
    if request.options.robust is not None:
        return "a robust loss judges pairs one by one"
    if request.covariance == "iid":
        return "covariance=iid counts pairs as independent"
    if not request.free.any():
        return "all parameters are held, and none is fitted"
    one = slice(0, 1)
    if request.source.read_sigma(0, one, one) is not None:
        return "every point has a noise of its own, which weights of speckle do not know"
    return sizes.too_large or (sizes.too_long if request.weighting == "auto" else None)


def predicted_seconds(request: Request) -> float:
    """What whitening takes on this machine, from the time of one product of matrices."""
    sizes = plan(request)
    side = -(-sizes.n_t // sizes.blocks)
    a, x = np.ones((side, side)), np.ones((side, _COLUMNS * side))
    a @ x[:, :side]
    began = time.perf_counter()
    a @ x
    tiles = sizes.blocks * (sizes.blocks + 1) // 2
    columns = 3 + int(request.free.sum())
    return _PASSES * _BESIDE * len(request.source.phi) * tiles * 2 * columns / _COLUMNS * (time.perf_counter() - began)
