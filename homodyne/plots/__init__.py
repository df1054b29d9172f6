"""Figures of a finished fit, written as PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from homodyne.files import require_writable
from homodyne.plots.canvas import write_png
from homodyne.plots.chains import chains_figure
from homodyne.plots.corner import corner_figure
from homodyne.plots.curves import curves_figure
from homodyne.plots.diagnostics import diagnostics_figure
from homodyne.plots.history import history_figure
from homodyne.plots.maps import chi2_texts, map_figures
from homodyne.plots.memory import memory_figure
from homodyne.plots.posterior import save_posterior_figures
from homodyne.plots.predictive import predictive_figure
from homodyne.plots.profile import profile_figure
from homodyne.result import AngleMap, FitResult

__all__ = [
    "chains_figure",
    "corner_figure",
    "curves_figure",
    "diagnostics_figure",
    "history_figure",
    "map_figures",
    "memory_figure",
    "predictive_figure",
    "profile_figure",
    "save_figures",
    "save_posterior_figures",
]


def save_figures(result: FitResult, maps: Sequence[AngleMap], folder: str | os.PathLike[str]) -> list[Path]:
    """Write c2_maps_01.png (02, ...), curves.png, diagnostics.png, convergence.png and memory.png; return their paths.

    Args:
        maps: the angles to show, e.g. all of them; empty writes no c2 map.
        folder: is made when it is missing.

    Raises:
        InputError: ``folder`` cannot be made or written.
    """
    target = require_writable(Path(folder), "folder")
    figures = {
        f"c2_maps_{n:02d}.png": figure for n, figure in enumerate(map_figures(maps, chi2_texts(result)), start=1)
    }
    figures["curves.png"] = curves_figure(result)
    figures["diagnostics.png"] = diagnostics_figure(result)
    figures["convergence.png"] = history_figure(result)
    figures["memory.png"] = memory_figure(result)
    return [write_png(figure, target / name) for name, figure in figures.items()]
