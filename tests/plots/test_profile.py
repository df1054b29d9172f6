"""A profile beside the parabola of the linear error."""

import dataclasses

import numpy as np
import pytest

from homodyne.plots import profile_figure
from homodyne.plots.canvas import write_png
from homodyne.result import Profile
from tests.plots.reading import texts


def make_profile(**replaced):
    """A minimum that is wider toward high values."""
    values = np.linspace(-0.6, 0.1, 15)
    profile = Profile(
        name="alpha",
        unit="",
        values=values,
        statistic=((values + 0.4) / 0.08) ** 2 * np.where(values > -0.4, 0.5, 1.3),
        linear=(-0.4, 0.08),
        intervals={0.6827: (-0.47, -0.287), 0.95: (-0.537, -0.18)},
        best=-0.4,
        method="speckle",
        passes=40,
    )
    return dataclasses.replace(profile, **replaced)


def test_profile_shows_both_errors_and_the_levels(tmp_path):
    figure = profile_figure(make_profile())
    words = texts(figure)
    for part in ("linear error (speckle): −0.4 ± 0.08", "68.3 %: −0.47 to −0.287", "95 %: −0.537 to −0.18", "alpha"):
        assert part in words
    write_png(figure, tmp_path / "profile.png")


def test_values_in_any_order_are_drawn_in_theirs():
    shuffled = np.array([3, 0, 14, 7, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13])
    plain = make_profile()
    line = (
        profile_figure(make_profile(values=plain.values[shuffled], statistic=plain.statistic[shuffled]))
        .axes[0]
        .lines[1]
    )
    assert np.all(np.diff(np.asarray(line.get_xdata())) > 0)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-0.5, np.inf), "95 %: above −0.5"),
        ((-np.inf, 0.0), "95 %: below 0"),
        ((-np.inf, np.inf), "open on both sides"),
    ],
)
def test_an_interval_that_is_open_says_so(ends, said, tmp_path):
    figure = profile_figure(make_profile(unit="s^-1", intervals={0.95: ends}))
    assert said in texts(figure)
    assert "alpha [s^-1]" in texts(figure)
    write_png(figure, tmp_path / "open.png")


@pytest.mark.parametrize("stderr", [np.inf, np.nan, 0.0])
def test_no_parabola_where_there_is_no_linear_error(stderr):
    assert "linear error" not in texts(profile_figure(make_profile(linear=(-0.4, stderr))))
