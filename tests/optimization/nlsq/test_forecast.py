"""A plan: the decision of the fit, its memory and blocks, a time, and not one fit."""

import dataclasses

import numpy as np
import pytest

import homodyne
from homodyne.errors import InputError
from homodyne.optimization.nlsq import NLSQOptions, engine, forecast
from homodyne.optimization.nlsq.hybrid_streaming import plan_for
from homodyne.optimization.nlsq.memory import estimate_peak_memory_gb
from homodyne.optimization.nlsq.select import streaming_peak_gb
from homodyne.optimization.source import all_frames
from homodyne.optimization.whitened import limits
from tests.optimization.problems import problem
from tests.reference import STATIC

N_T, N_PHI = 60, 3
SMALL = streaming_peak_gb(10_000) + 1e-9  # the least threshold with which a fit streams


@dataclasses.dataclass
class Watched:
    """A source that notes which angles are read."""

    source: object
    read: list

    def __getattr__(self, name):
        return getattr(self.source, name)

    def read_block(self, k, rows, cols):
        self.read.append(k)
        return self.source.read_block(k, rows, cols)


@pytest.fixture(autouse=True)
def one_sector_is_enough(monkeypatch):
    """These data are so small that all sectors would be measured."""
    monkeypatch.setattr(forecast, "_ENOUGH", 1)


def test_small_data_are_measured_whole(source, monkeypatch):
    monkeypatch.setattr(forecast, "_ENOUGH", 2_000_000)
    assert homodyne.plan(source, "static").sectors == N_PHI


@pytest.fixture(scope="module")
def source():
    return problem("static", n_t=N_T, n_phi=N_PHI)[0]


@pytest.mark.parametrize("strategy", ["auto", "hybrid_streaming"])
def test_the_decision_is_that_of_the_fit(source, strategy):
    plan = homodyne.plan(source, "static", strategy=strategy)
    fitted = homodyne.fit(source, "static", strategy=strategy, start=STATIC, covariance="iid")
    assert dataclasses.replace(plan.decision, threshold_gb=0, reason="", log_lines=()) == dataclasses.replace(
        fitted.decision, threshold_gb=0, reason="", log_lines=()
    )
    assert plan.predicted_peak_gb == fitted.memory.predicted_peak_gb
    assert plan.subset_frames == N_T
    assert plan.passes == 4
    assert plan.seconds == pytest.approx(4 * plan.seconds_per_pass)
    assert plan.seconds_per_pass > 0


def test_nothing_is_fitted_and_one_sector_is_read(source, monkeypatch):
    for name in ("find_beginning", "minimize"):
        monkeypatch.setattr(engine, name, lambda *given: pytest.fail("a fit was started"))
    for strategy in ("stratified_ls", "hybrid_streaming"):
        watched = Watched(source, [])
        homodyne.plan(watched, "static", strategy=strategy)
        assert set(watched.read) == {0}


def test_time_is_that_of_one_sector_times_their_number(source, monkeypatch):
    """A clock that moves on by a second whenever it is looked at."""
    ticks = iter(range(100))
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: float(next(ticks)))
    assert homodyne.plan(source, "static").seconds_per_pass == N_PHI


def test_memory_and_blocks(source):
    full = homodyne.plan(source, "static", strategy="stratified_ls")
    assert full.blocks == 1
    assert full.predicted_peak_gb == estimate_peak_memory_gb(N_PHI * N_T * (N_T - 1) // 2, 5)
    streamed = homodyne.plan(
        source, "static", strategy="hybrid_streaming", options=NLSQOptions(memory_threshold_gb=SMALL)
    )
    panels = plan_for(all_frames(source), streamed.decision.block_points).panels
    assert streamed.blocks == N_PHI * len(panels)
    assert streamed.predicted_peak_gb == streaming_peak_gb(streamed.decision.block_points)


def test_the_lines(source):
    lines = homodyne.plan(source, "static", options=NLSQOptions(memory_threshold_gb=0.6)).lines()
    assert lines[0].startswith("Strategy: stratified_ls (n=5.31K pts, est. peak=")
    assert lines[1].startswith("Memory: about 0.4")
    assert lines[1].endswith("threshold 0.6 GB")
    assert "Blocks: 1 a pass; the optimum is looked for on 60 frames first" in lines
    assert lines[-2].startswith("Time: about ")
    assert "measured on 1 of the sectors), about 4 passes: " in lines[-2]
    assert lines[-1].startswith("Weighting: whitened, where the data tell the noise of speckle: about ")


def test_what_cannot_be_whitened_is_said(source, monkeypatch):
    monkeypatch.setattr(limits, "_AUTO", 1e3)
    (line,) = (x for x in homodyne.plan(source, "static").lines() if x.startswith("Weighting"))
    assert (
        line == f"Weighting: uniform, {N_PHI} sectors of {N_T} frames take minutes, and weighting=whitened takes them"
    )
    assert homodyne.plan(source, "static", weighting="whitened").whitening_seconds > 0
    assert homodyne.plan(source, "static", weighting="uniform").not_whitened == "as asked for"


def test_tips_where_memory_is_short(source):
    """A threshold just above the estimate."""
    estimate = estimate_peak_memory_gb(N_PHI * N_T * (N_T - 1) // 2, 5)
    near = homodyne.plan(source, "static", options=NLSQOptions(memory_threshold_gb=1.01 * estimate))
    assert near.tips
    assert set(near.tips) <= set(near.lines())
    assert homodyne.plan(source, "static", options=NLSQOptions(memory_threshold_gb=10 * estimate)).tips == ()


def test_few_passes_are_no_more_than_allowed(source):
    assert homodyne.plan(source, "static", options=NLSQOptions(max_passes=2)).passes == 2


def test_bad_input_is_refused(source):
    with pytest.raises(InputError, match=r"strategy='fast' is unknown"):
        homodyne.plan(source, "static", strategy="fast")
    with pytest.raises(InputError, match=r"fixed\['DO'\]"):
        homodyne.plan(source, "static", fixed={"DO": 1.0})


def test_several_q_and_sigma_are_those_of_the_first_sector():
    """The sector that is measured has its own q and noise."""
    source = problem("static", n_t=30, n_phi=4)[0]
    mixed = dataclasses.replace(source, q=np.array([0.005, 0.005, 0.007, 0.007]), sigma=np.array([1.0, 2.0, 3.0, 4.0]))
    one = forecast._Sectors(mixed, 1)
    assert (one.phi.tolist(), one.q.tolist(), one.sigma.tolist()) == ([mixed.phi[0]], [0.005], [1.0])
    assert one.gap == mixed.gap
    assert homodyne.plan(mixed, "static").decision.n_points == 4 * 435
