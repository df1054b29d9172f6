"""The figure of a window scan shows what the fits say, over the time of the laboratory."""

import dataclasses

import numpy as np
import pytest

from homodyne.plots.windows import Window, free_parameters, windows_figure
from homodyne.result import Status
from tests.factories import make_fit_result


def make_windows(n=3, **replaced):
    """Windows of 300 frames of 0.1 s; D0 falls, the flow direction is fixed."""
    windows = []
    for i in range(n):
        result = make_fit_result(fixed={"phi0": 2.0}, **replaced)
        result = dataclasses.replace(result, theta={**result.theta, "D0": 8e3 / (i + 1)})
        windows.append(Window(300 * i + 1, 300 * (i + 1), 0.1, result))
    return windows


def panel(figure, label):
    (axis,) = [a for a in figure.axes if a.axison and a.get_ylabel().startswith(label)]
    return axis


def test_times_are_those_of_the_laboratory():
    window = make_windows()[1]
    assert window.start_s == pytest.approx(30.0)
    assert window.center_s == pytest.approx(0.5 * (30.0 + 59.9))


def test_every_free_parameter_has_a_panel_with_values_and_errors():
    windows = make_windows()
    figure = windows_figure(windows[::-1])
    assert free_parameters(windows) == ["D0", "alpha", "D_offset", "gamma_dot_0", "beta", "gamma_dot_offset"]
    labels = [axis.get_ylabel() for axis in figure.axes if axis.axison]
    assert len(labels) == 6 + 2
    axis = panel(figure, "D0")
    points = np.array(
        [line.get_xydata()[0] for line in axis.lines if len(line.get_xydata()) == 1 and line.get_marker() == "o"]
    )
    assert points == pytest.approx(np.array([[14.95, 8000.0], [44.95, 4000.0], [74.95, 8000 / 3]]))
    bars = [c.get_segments()[0] for c in axis.collections]
    heights = [b[1, 1] - b[0, 1] for b in bars if b[0, 0] == b[1, 0]]
    widths = [b[1, 0] - b[0, 0] for b in bars if b[0, 1] == b[1, 1]]
    assert heights == pytest.approx([2 * windows[0].result.stderr["D0"]] * 3, rel=1e-3)
    assert widths == pytest.approx([29.9] * 3)


def test_curves_lie_one_after_the_other():
    axis = panel(windows_figure(make_windows()), "$J$")
    spans = [
        (x[np.isfinite(y)].min(), x[np.isfinite(y)].max())
        for x, y in (line.get_data() for line in axis.lines)
        if np.isfinite(y).any()
    ]
    assert np.array(spans) == pytest.approx(np.array([(0.1, 29.9), (30.1, 59.9), (60.1, 89.9)]))


def test_what_is_not_determined_is_told_from_what_is():
    windows = make_windows()
    windows[1] = dataclasses.replace(windows[1], result=dataclasses.replace(windows[1].result, undetermined=("beta",)))
    windows[2] = dataclasses.replace(
        windows[2], last=950, result=dataclasses.replace(windows[2].result, status=Status.STALLED)
    )
    windows.append(dataclasses.replace(windows[0], first=901, last=1200))
    figure = windows_figure(windows)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [
        "fit of a window, one error: speckle; windows overlap: neighbors share data",
        "undetermined or at a bound",
        "not converged",
    ]
    faces = [line.get_markerfacecolor() for line in panel(figure, "beta").lines if line.get_marker() == "o"]
    assert faces[1] == "white"
    assert "white" not in (faces[0], faces[2], faces[3])
    assert panel(figure, "D0").get_yscale() == "linear"
