"""One pass over the data of every repetition, at the solution of their mean."""

from __future__ import annotations

import logging

import numpy as np

from homodyne.errors import InputError
from homodyne.optimization.nlsq.block_pass import block_pass
from homodyne.optimization.nlsq.request import Request
from homodyne.optimization.nlsq.stratified_ls import full_batch_pass
from homodyne.optimization.normal import Linearization, linearize
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.source import all_frames
from homodyne.optimization.uncertainty.repetitions import LEAST_REPETITIONS

log = logging.getLogger("homodyne")


def repeated_passes(
    request: Request, theta: np.ndarray, scaling: Scaling, pairs: np.ndarray
) -> tuple[Linearization, ...]:
    """Linearizations at ``theta`` with the data of one repetition each; none where there are too few or nobody asks.

    With a robust loss there are none either: what it does to a point depends on the noise, which is larger in one repetition.

    Args:
        pairs: contrast and offset of the fit, (n_phi, 2).
    """
    n = len(getattr(request.source, "attrs", {}).get("repetitions", ()))
    if n < LEAST_REPETITIONS or request.covariance == "iid" or request.options.robust is not None:
        return ()
    log.info("Errors from the scatter of %d repetitions: one pass over each", n)
    sigma, found = np.asarray(request.source.sigma, dtype=float), []
    for source in request.source.repetitions():  # type: ignore[attr-defined]
        view = all_frames(source)
        if request.decision.passes == "stratified_ls":
            run_pass = full_batch_pass(request.model, view, request.min_lag)
        else:
            run_pass = block_pass(request, view)
        at = linearize(run_pass(theta, pairs), scaling, sigma)
        empty = np.flatnonzero(at.counts == 0)
        if empty.size:
            raise InputError(
                f"phi of {source.path}", float(source.phi[empty[0]]), "has no valid point in this repetition",
                "leave this file out (dataset.path), or this angle (dataset.phi)",
            )  # fmt: skip
        found.append(at)
    return tuple(found)
