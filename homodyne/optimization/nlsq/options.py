"""Settings of the least-squares strategies. Defaults need no tuning."""

from __future__ import annotations

import dataclasses
import math

from homodyne.errors import InputError
from homodyne.optimization.loss import LOSSES, Loss, make_loss

PRECISIONS = ("float64", "float32")


@dataclasses.dataclass(frozen=True)
class NLSQOptions:
    """Settings of a fit.

    Attributes:
        memory_fraction: share of the available memory a fit may use, 0 < f <= 1.
        memory_threshold_gb: explicit limit in GB (2**30 bytes) instead of the fraction.
        max_passes: limit on passes over the full data.
        xtol: converged when the Gauss-Newton step is shorter than this many (iid) standard errors.
        fourier_order: K of fourier scaling.
        subset_frames: frames of the in-memory subset on which the fit starts.
        precision: ``float64``, or ``float32``: streamed passes evaluate the model in single precision until the step is
            short, and the last passes, which give the result, in double precision. The answer is within 0.01 standard
            errors of that of ``float64``.
        loss: ``linear`` (least squares), or a robust loss, ``soft_l1``, ``huber``, ``cauchy``, with the definitions of
            ``scipy.optimize.least_squares``: pairs far from the model count less than by their squares. Never chosen
            by itself, and the same for every size and strategy.
        loss_scale: residual, in units of sigma, from where on a robust loss departs from squares.
    """

    memory_fraction: float = 0.75
    memory_threshold_gb: float | None = None
    max_passes: int = 100
    xtol: float = 1e-4
    fourier_order: int = 2
    subset_frames: int = 128
    precision: str = "float64"
    loss: str = "linear"
    loss_scale: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.memory_fraction <= 1:
            raise InputError(
                "memory_fraction", self.memory_fraction, "must be above 0 and at most 1", "set it to 0.75, say"
            )
        limit = self.memory_threshold_gb
        if limit is not None and not (math.isfinite(limit) and limit > 0):
            raise InputError(
                "memory_threshold_gb", limit, "must be a positive number of GB", "leave it out to use memory_fraction"
            )
        for name, least in (("max_passes", 1), ("fourier_order", 0), ("subset_frames", 16)):
            if getattr(self, name) < least:
                raise InputError(
                    name, getattr(self, name), f"must be at least {least}", "leave it out to use the default"
                )
        if self.precision not in PRECISIONS:
            raise InputError("precision", self.precision, "is unknown", f"choose one of {', '.join(PRECISIONS)}")
        if not self.xtol > 0:
            raise InputError("xtol", self.xtol, "must be positive", "leave it out to use the default")
        if self.loss not in LOSSES:
            raise InputError("loss", self.loss, "is unknown", f"choose one of {', '.join(LOSSES)}")
        if not (math.isfinite(self.loss_scale) and self.loss_scale > 0):
            raise InputError(
                "loss_scale", self.loss_scale, "must be a positive number of sigma", "leave it out to use 3"
            )

    @property
    def robust(self) -> Loss | None:
        """The robust loss, None for least squares."""
        return make_loss(self.loss, self.loss_scale)
