"""Which sizes take which strategy, and the lines that say so."""

import logging

import pytest

from homodyne.errors import InputError
from homodyne.optimization.nlsq import memory, select
from homodyne.optimization.nlsq.memory import estimate_peak_memory_gb
from homodyne.optimization.nlsq.select import announce, select_nlsq_strategy, streaming_peak_gb

FULL, STREAM = "stratified_ls", "hybrid_streaming"
FITS_5M = estimate_peak_memory_gb(5_000_000, 9)


@pytest.mark.parametrize(
    ("n_points", "threshold_gb", "chosen"),
    [
        (1_000, 48.0, FULL),
        (9_999_999, 48.0, FULL),  # below 10M points and below the threshold
        (10_000_000, 48.0, FULL),
        (10_000_001, 48.0, STREAM),  # above 10M points, whatever the memory
        (15_000_000, 1e6, STREAM),
        (5_000_000, FITS_5M * 1.001, FULL),
        (5_000_000, FITS_5M * 0.999, STREAM),  # few points, but above the threshold
        (20_000_000, 1.0, STREAM),  # both
    ],
)
def test_sizes_decide(n_points, threshold_gb, chosen):
    decision = select_nlsq_strategy(n_points, 9, memory_threshold_gb=threshold_gb)
    assert decision.strategy == chosen
    assert f"{decision.strategy}" == chosen
    assert (decision.n_points, decision.n_params) == (n_points, 9)
    assert decision.estimate_gb == estimate_peak_memory_gb(n_points, 9)
    assert decision.threshold_gb == threshold_gb
    assert 1 <= decision.block_points <= n_points
    assert streaming_peak_gb(decision.block_points) <= threshold_gb


def test_the_fraction_of_what_there_is_decides(monkeypatch):
    monkeypatch.setattr(memory, "detect_total_system_memory", lambda: 2 * FITS_5M)
    assert select_nlsq_strategy(5_000_000, 9, memory_fraction=0.51).strategy == FULL
    assert select_nlsq_strategy(5_000_000, 9, memory_fraction=0.49).strategy == STREAM


def test_lines_have_the_documented_form(monkeypatch):
    """The user document's own line, with the estimate it shows."""
    monkeypatch.setattr(select, "estimate_peak_memory_gb", lambda n_points, n_params: 32.4)
    lines = select_nlsq_strategy(15_000_000, 9, memory_threshold_gb=28.0).log_lines
    assert lines[0] == "Strategy: hybrid_streaming (n=15M pts, est. peak=32.4 GB > threshold 28.0 GB)"
    assert lines[1].startswith("Streaming block size: ")
    small = select_nlsq_strategy(500_000, 9, memory_threshold_gb=28.0, strategy=STREAM).log_lines
    assert small[1] == "Streaming block size: 500K points"


def test_lines_are_true_when_something_else_decides():
    enough = select_nlsq_strategy(15_000_000, 9, memory_threshold_gb=28.0)
    estimate = f"est. peak={enough.estimate_gb:.1f} GB <= threshold 28.0 GB"
    assert enough.log_lines[0] == f"Strategy: hybrid_streaming (n=15M pts > 10M pts, {estimate})"
    small = select_nlsq_strategy(20_000, 9, memory_threshold_gb=28.0)
    assert small.log_lines == (f"Strategy: stratified_ls (n=20K pts, est. peak={small.estimate_gb:.1f} GB <= threshold 28.0 GB)",)  # fmt: skip
    assert small.reason in small.log_lines[0]


@pytest.mark.parametrize(
    ("n_points", "text"),
    [
        (999, "999"), (1_000, "1K"), (123_456, "123K"), (999_499, "999K"), (999_500, "1M"), (999_999, "1M"),
        (1_234_567, "1.23M"), (15_000_000, "15M"), (999_999_999, "1G"), (2_500_000_000, "2.5G"),
    ],
)  # fmt: skip
def test_counts_are_written_as_people_read_them(n_points, text):
    decision = select_nlsq_strategy(n_points, 9, memory_threshold_gb=1e6)
    assert f"(n={text} pts" in decision.log_lines[0]


@pytest.mark.parametrize("strategy", [FULL, STREAM])
@pytest.mark.parametrize("n_points", [1_000, 50_000_000])
def test_a_strategy_can_be_forced(strategy, n_points):
    decision = select_nlsq_strategy(n_points, 9, memory_threshold_gb=2.0, strategy=strategy)
    assert decision.strategy == strategy
    assert decision.log_lines[0].startswith(f"Strategy: {strategy} (")
    assert decision.log_lines[0].endswith(", chosen by the user)")
    assert len(decision.log_lines) == (2 if strategy == STREAM else 1)


def test_unknown_strategy_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"strategy='cmaes' is unknown; choose one of auto, stratified_ls, hybrid_str"):
        select_nlsq_strategy(1_000, 9, strategy="cmaes")


@pytest.mark.parametrize("strategy", ["auto", STREAM])
def test_a_threshold_below_one_block_is_refused(strategy):
    with pytest.raises(InputError, match=r"memory_threshold_gb=0\.2 is less than one streamed block needs .* raise"):
        select_nlsq_strategy(20_000_000, 9, memory_threshold_gb=0.2, strategy=strategy)


def test_a_small_threshold_makes_small_blocks():
    sizes = [
        select_nlsq_strategy(10**8, 9, memory_threshold_gb=streaming_peak_gb(20_000) + extra).block_points
        for extra in (0.0, 0.001, 0.01, 1.0, 100.0)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == pytest.approx(20_000, abs=1)
    assert sizes[-1] == sizes[-2]  # no larger than keeps the processor busy


def test_announce_logs_the_lines(caplog):
    decision = select_nlsq_strategy(20_000_000, 9, memory_threshold_gb=1.0)
    with caplog.at_level(logging.INFO, logger="homodyne"):
        announce(decision)
    assert [r.getMessage() for r in caplog.records] == list(decision.log_lines)
    assert {r.levelname for r in caplog.records} == {"INFO"}
