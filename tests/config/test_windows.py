"""Windows of frames: their arithmetic, and what the sweep makes of settings."""

from itertools import pairwise

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st

from homodyne.config.validate import validate
from homodyne.config.windows import SHORTEST, frame_windows, require_window, swept_frames
from homodyne.errors import InputError


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, 600, 2), [(1, 300), (301, 600)]),
        ((1, 100, 3), [(1, 33), (35, 67), (68, 100)]),  # one frame is left out
        ((11, 40, 1), [(11, 40)]),
        ((1, 40, 3, 0.5), [(1, 20), (11, 30), (21, 40)]),
        ((1, 100, 6, 0.0), [(1, 16), (18, 33), (35, 50), (51, 66), (68, 83), (85, 100)]),
    ],
)
def test_windows_by_hand(arguments, expected):
    assert frame_windows(*arguments) == expected


@given(st.integers(1, 500), st.integers(100, 5000), st.integers(2, 12), st.floats(0.0, 0.9))
def test_windows_are_alike_and_cover_both_ends(first, n, count, overlap):
    windows = frame_windows(first, first + n - 1, count, overlap)
    lengths = {b - a + 1 for a, b in windows}
    assert len(windows) == count
    assert len(lengths) == 1
    assert (windows[0][0], windows[-1][1]) == (first, first + n - 1)
    (length,) = lengths
    shared = [a[1] - b[0] + 1 for a, b in pairwise(windows)]
    # to a frame or two: lengths and starts are rounded
    assert all(abs(s - overlap * length) <= 2 for s in shared)
    assert overlap > 0 or max(shared) <= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 100, 2, 1.0), r"windows.overlap=1.0 must be at least 0 and below 1"),
        ((1, 100, 2, -0.1), r"windows.overlap=-0.1 must"),
        ((50, 50, 2), r"windows.first=50 does not lie below windows.last=50"),
        ((1, 100, 20), rf"windows.count=20 leaves 5 of 100 frames to a window; choose windows of {SHORTEST} or more"),
    ],
)
def test_windows_that_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        frame_windows(*arguments)


SCAN = ("+experiment=window_scan", "dataset.path=/data/x.hdf")


def test_values_for_the_sweeper(composed):
    cfg = composed(*SCAN, "windows.count=2", "windows.first=11", "windows.last=50")
    assert swept_frames(_root_=cfg) == "[11,30],[31,50]"
    assert swept_frames(_root_=composed("dataset.path=/data/x.hdf")) == "null"


def test_the_number_of_frames_is_read_from_the_file(composed, monkeypatch):
    monkeypatch.setattr("homodyne.config.windows.build_dataset", lambda settings: type("D", (), {"n_t": 120}))
    assert swept_frames(_root_=composed(*SCAN, "windows.count=3")) == "[1,40],[41,80],[81,120]"
    with pytest.raises(InputError, match=r"dataset.path=None is missing; set dataset.path=/path/to/file"):
        swept_frames(_root_=composed("+experiment=window_scan"))


def test_frames_cannot_be_both_given_and_swept(composed):
    with pytest.raises(InputError, match=r"dataset.frames=\[1, 50\] is what a window scan chooses"):
        swept_frames(_root_=composed(*SCAN, "dataset.frames=[1,50]"))


@pytest.mark.parametrize(
    ("mode", "frames", "refused"), [(RunMode.RUN, [], True), (RunMode.MULTIRUN, [], True), (RunMode.MULTIRUN, ["dataset.frames=[1,9]"], False)]
)  # fmt: skip
def test_a_scan_without_its_sweep_is_refused(composed, monkeypatch, mode, frames, refused):
    monkeypatch.setattr(HydraConfig, "get", lambda: type("C", (), {"mode": mode}))
    settings = validate(composed(*SCAN, *frames))
    if not refused:
        return require_window(settings)
    with pytest.raises(InputError, match=r"windows.count=6 is a sweep of several fits; start with -m"):
        require_window(settings)
