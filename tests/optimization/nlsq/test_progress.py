"""What a fit says about its progress: inside long passes, after each pass, and about its end."""

import logging

import pytest

from homodyne.optimization.nlsq.progress import Progress, duration
from homodyne.optimization.trust_region import Info, Tolerances

N = 10**9


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def progress(clock, caplog):
    caplog.set_level(logging.INFO, "homodyne")
    return Progress(N, Tolerances(xtol=1e-4, max_passes=10), clock)


def info(step, accepted=True, points=N, seconds=12.0):
    return Info(0.5 * points, 1.0, step, 0.0, accepted, points, seconds)


def pieces(progress, clock, n, seconds, points=N // 100):
    for _ in range(n):
        clock.now += seconds
        progress.advance(points)


def test_a_long_pass_says_how_far_it_is_at_most_every_15_seconds(progress, clock, caplog):
    progress.end(info(1.0), False)
    progress.begin()
    caplog.clear()
    pieces(progress, clock, 80, 0.5)
    assert caplog.messages == [
        "Pass 2: 30 % of 1.0e9 points, 20 M points/s, pass ends in 35 s",
        "Pass 2: 60 % of 1.0e9 points, 20 M points/s, pass ends in 20 s",
    ]


def test_a_short_pass_says_nothing(progress, clock, caplog):
    progress.begin()
    pieces(progress, clock, 100, 0.14)
    assert caplog.messages == []


def test_masked_points_are_known_after_the_first_pass(progress, clock, caplog):
    progress.end(info(1.0, points=N // 2), False)
    progress.begin()
    caplog.clear()
    pieces(progress, clock, 16, 1.0)
    assert caplog.messages == ["Pass 2: 30 % of 5.0e8 points, 10 M points/s, pass ends in 35 s"]


def test_a_pass_without_valid_points_so_far(progress, clock, caplog):
    pieces(progress, clock, 1, 20.0, points=0)
    assert caplog.messages[0].startswith("Pass 1: 0 % of 1.0e9 points, 5e-08 M points/s, pass ends in ")


def test_the_line_of_a_pass(progress, caplog):
    progress.end(info(2e-2), False)
    progress.end(info(2e-2, accepted=False), False)
    progress.end(info(1e-5, seconds=2.0), True)
    assert caplog.messages == [
        "Pass 1: 1000000000 points at 83.3 M points/s, chi2/N = 1.000000, step 2.0e-02 standard errors; "
        "about 2 more passes, 24 s",
        "Pass 2: 1000000000 points at 83.3 M points/s, chi2/N = 1.000000, step 2.0e-02 standard errors (rejected); "
        "about 2 more passes, 24 s",
        "Pass 3: from the checkpoint, 1000000000 points, chi2/N = 1.000000, step 1.0e-05 standard errors",
    ]


@pytest.mark.parametrize(
    ("steps", "end"),
    [
        ([2e-3], "; about 1 more pass, 12 s"),  # 30 a pass where nothing is known
        ([1.0], "; about 3 more passes, 36 s"),
        ([10.0, 1.0], "; about 4 more passes, 48 s"),  # 1, 0.1, 0.01, 1e-3, 1e-4
        ([500.0, 1.0], "; about 2 more passes, 24 s"),
        ([2.0, 1.0], "; about 8 more passes, 96 s"),  # 13 at a factor of two, but the limit is 10 passes
        ([1.0, 0.9], "; end not in sight"),
        ([1.0, 1.1], "; end not in sight"),
        ([1.0, float("inf")], "; end not in sight"),
        ([1.0, 1e-4], ""),
        ([1.0] * 10, ""),  # the limit on passes is reached
    ],
)
def test_the_end_of_the_fit_is_forecast_from_the_shrinking_of_the_step(progress, caplog, steps, end):
    for step in steps:
        progress.end(info(step), False)
    assert caplog.messages[-1].endswith(f"standard errors{end}")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01, "1 s"), (12.4, "12 s"), (99.4, "99 s"), (100, "2 min"), (5400, "90 min"), (9000, "2.5 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_stage_has_its_own_end_and_counts_on(progress, caplog):
    progress.enter(Tolerances(xtol=0.5, max_passes=10), after=1, note=" in float32")
    progress.end(info(30.0), False)
    progress.end(info(0.1), False)
    progress.enter(Tolerances(xtol=1e-2, max_passes=8), note=" in float64")
    progress.end(info(1e-3), False)
    heads, ends = zip(*((m.split(":")[0], m.split("errors")[1]) for m in caplog.messages), strict=True)
    assert heads == ("Pass 1 in float32", "Pass 2 in float32", "Pass 3 in float64")
    assert ends == ("; about 3 more passes, 36 s", "; about 1 more pass, 12 s", "")
