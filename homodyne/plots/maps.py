"""c2 maps per angle: data, model, and what is left between them in units of the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from homodyne.plots.canvas import LIMIT_COLOR, new_figure, styled
from homodyne.result import AngleMap, FitResult

MAX_ANGLES_PER_FIGURE = 6
#: A sector's azimuth [degree] and q [1/angstrom].
Sector = tuple[float, float]
#: Percentiles of the off-diagonal data that bound the colors: noise outliers beyond three sigma are cut, the
#: ridge next to the diagonal (a fraction 2/n_t of all pairs) is not.
COLOR_PERCENTILES = (0.1, 99.9)
#: A model with more than this share of its pairs outside the data's colors is marked, as the colors hide its misfit.
MARKED_SHARE = 0.01


@styled
def map_figures(
    maps: Sequence[AngleMap], quality: dict[Sector, str] | None = None, per_figure: int = MAX_ANGLES_PER_FIGURE
) -> list[Figure]:
    """Figures with one column a sector and the rows data, model, residual / sigma.

    ``quality`` is a line below each angle's title, see ``chi2_texts``. Data and model share one color range, taken over all angles so that columns and pages compare; the residual has
    a range symmetric about zero. Angles are spread evenly over as few pages as ``per_figure`` allows.
    """
    if not maps:
        return []
    limits, reach = data_limits(maps), residual_reach(maps)
    pages = np.array_split(np.arange(len(maps)), math.ceil(len(maps) / per_figure))
    titles = [_title(m, quality or {}, any(m.q != other.q for other in maps)) for m in maps]
    return [
        _page(
            [maps[i] for i in page],
            [titles[i] for i in page],
            limits,
            reach,
            f"page {n} of {len(pages)}" if len(pages) > 1 else "",
        )
        for n, page in enumerate(pages, start=1)
    ]


def chi2_texts(result: FitResult) -> dict[Sector, str]:
    """chi2 per point of every angle and, where known, what a perfect model would leave: the noise of speckle."""
    texts = [f"$\\chi^2$/N = {v:.2f}" for v in result.chi2_per_angle]
    if "chi2_expected" in result.diagnostics:
        expected = result.diagnostics["chi2_expected"].values
        texts = [f"{text} (noise {v:.2f})" for text, v in zip(texts, expected, strict=True)]
    return dict(zip(zip(result.phi.tolist(), result.q.tolist(), strict=True), texts, strict=True))


def _title(m: AngleMap, quality: dict[Sector, str], several_q: bool) -> str:
    wave_vector = f"$q = {m.q:.4g}$ Å$^{{-1}}$, " if several_q else ""
    return f"{wave_vector}$\\phi = {m.phi_deg:.1f}$°\n{quality.get((m.phi_deg, m.q), '')}".rstrip()


def data_limits(maps: Sequence[AngleMap]) -> tuple[float, float]:
    """Color range (low, high) of data and model: ``COLOR_PERCENTILES`` of the finite off-diagonal data."""
    values = np.concatenate([m.data[~np.eye(len(m.t_s), dtype=bool)].ravel() for m in maps])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, COLOR_PERCENTILES)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def residual_reach(maps: Sequence[AngleMap]) -> float:
    """Half width of the symmetric residual range in sigma: the 99.9 % quantile of |r|, at least 3."""
    values = np.concatenate([np.abs(residual(m)).ravel() for m in maps])
    values = values[np.isfinite(values)]
    return max(3.0, float(np.percentile(values, 99.9))) if values.size else 3.0


def residual(angle: AngleMap) -> np.ndarray:
    """(data - model) / sigma, shape (n, n)."""
    return (angle.data - angle.model) / angle.sigma


def _page(
    maps: Sequence[AngleMap], titles: Sequence[str], limits: tuple[float, float], reach: float, footer: str
) -> Figure:
    figure, axes, shared_bar, residual_bar = _grid(len(maps))
    for column, angle in enumerate(maps):
        top, middle, bottom = axes[:, column]
        shared = _image(top, angle.t_s, angle.data, "viridis", *limits)
        _image(middle, angle.t_s, angle.model, "viridis", *limits)
        rest = _image(bottom, angle.t_s, residual(angle), "RdBu_r", -reach, reach)
        top.set_title(titles[column], fontsize=7.5 if titles[column].startswith("$q") else None)
        _mark_hidden(middle, angle.model, limits)
        bottom.set_xlabel("$t_2$ [s]")
    for axis, name in zip(axes[:, 0], ("data", "model", "residual"), strict=True):
        axis.set_ylabel(f"{name}\n$t_1$ [s]")
    percentiles = "–".join(f"{p:g}" for p in COLOR_PERCENTILES)
    figure.colorbar(shared, cax=shared_bar, extend="both").set_label(
        f"$c_2$, data and model\n(colors: {percentiles} % of the data, all angles)"
    )
    figure.colorbar(rest, cax=residual_bar, extend="both").set_label(f"(data − model) / $\\sigma$\n{_sigma_text(maps)}")
    if footer:
        figure.text(0.995, 0.01, footer, ha="right", va="bottom", fontsize=7, color="0.4")
    return figure


def _grid(columns: int) -> tuple[Figure, np.ndarray, Axes, Axes]:
    """3 x columns square panels and two color bars, placed in inches (a layout engine takes seconds for this)."""
    panel, gap, left, right, bottom, top = 1.65, 0.14, 0.75, 1.15, 0.5, 0.5
    width = left + columns * panel + (columns - 1) * gap + right
    height = bottom + 3 * panel + 2 * gap + top
    figure = new_figure(width, height, placed_by_hand=True)
    axes = figure.subplots(
        3, columns, squeeze=False, sharex=True, sharey=True,
        gridspec_kw={
            "left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height,
            "wspace": gap / panel, "hspace": gap / panel,
        },
    )  # fmt: skip
    x, thick = 1 - (right - 0.15) / width, 0.12 / width
    shared = figure.add_axes((x, (bottom + panel + gap) / height, thick, (2 * panel + gap) / height))
    rest = figure.add_axes((x, bottom / height, thick, panel / height))
    return figure, axes, shared, rest


def _image(axis: Axes, t_s: np.ndarray, values: np.ndarray, cmap: str, low: float, high: float) -> AxesImage:
    half = 0.5 * (t_s[1] - t_s[0]) if len(t_s) > 1 else 0.5
    extent = (t_s[0] - half, t_s[-1] + half, t_s[0] - half, t_s[-1] + half)
    axis.set_facecolor("0.7")  # NaN (diagonal, masked frames) shows as gray, a color that neither map contains
    axis.locator_params(nbins=4)
    axis.spines[["top", "right"]].set_visible(True)
    return axis.imshow(
        np.ma.masked_invalid(values), origin="lower", extent=extent, cmap=cmap, vmin=low, vmax=high,
        interpolation="nearest", aspect="equal",
    )  # fmt: skip


def _mark_hidden(axis: Axes, model: np.ndarray, limits: tuple[float, float]) -> None:
    """Say in the panel when the shared colors hide a part of the model that the data do not have."""
    share = _share_outside(model, limits)
    if share > MARKED_SHARE:
        axis.text(
            0.04, 0.96, f"{100 * share:.0f} % outside colors", color=LIMIT_COLOR, fontsize=7, va="top",
            transform=axis.transAxes, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


def _share_outside(values: np.ndarray, limits: tuple[float, float]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.mean((finite < limits[0]) | (finite > limits[1]))) if finite.size else 0.0


def _sigma_text(maps: Sequence[AngleMap]) -> str:
    low, high = (f"{f(m.sigma for m in maps):.2g}" for f in (min, max))
    return f"($\\sigma$ = {low})" if low == high else f"($\\sigma$ = {low}–{high})"
