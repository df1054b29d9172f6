"""Figures without pyplot: one look for all, no global state left behind, files that appear whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "savefig.facecolor": "white",
}
DATA_COLOR, MODEL_COLOR, LIMIT_COLOR, MUTED = "#2b5c8a", "#c4512d", "#a01a1a", "0.45"

#: Use as a decorator: everything drawn inside has the package's look, whatever the user's matplotlibrc says.
styled = matplotlib.rc_context(STYLE)


def new_figure(width_inch: float, height_inch: float, *, placed_by_hand: bool = False) -> Figure:
    """An empty figure on an Agg canvas; matplotlib places the axes unless ``placed_by_hand``."""
    figure = Figure(figsize=(width_inch, height_inch), layout=None if placed_by_hand else "constrained")
    FigureCanvasAgg(figure)
    return figure


def write_png(figure: Figure, path: Path, dpi: float = 150.0) -> Path:
    """Write ``figure`` to ``path`` (PNG); the file appears complete or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with matplotlib.rc_context(STYLE):  # ticks are made while drawing
        figure.savefig(partial, format="png", dpi=dpi)
    os.replace(partial, path)
    return path
