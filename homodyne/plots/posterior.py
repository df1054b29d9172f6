"""The figures of a posterior, written as PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from homodyne.files import require_writable
from homodyne.plots.canvas import write_png
from homodyne.plots.chains import chains_figure
from homodyne.plots.corner import corner_figure
from homodyne.plots.predictive import predictive_figure
from homodyne.result.posterior import Posterior
from homodyne.result.predictive import PredictiveCut


def save_posterior_figures(
    posterior: Posterior, cuts: Sequence[PredictiveCut], folder: str | os.PathLike[str]
) -> list[Path]:
    """Write posterior_corner.png, posterior_chains.png and posterior_predictive.png; return their paths.

    Args:
        cuts: of ``homodyne.sampling.predictive``; empty writes no predictive figure.
        folder: is made when it is missing.

    Raises:
        InputError: ``folder`` cannot be made or written.
    """
    target = require_writable(Path(folder), "folder")
    figures = {"posterior_corner.png": corner_figure(posterior), "posterior_chains.png": chains_figure(posterior)}
    if cuts:
        figures["posterior_predictive.png"] = predictive_figure(cuts)
    return [write_png(figure, target / name) for name, figure in figures.items()]
