"""Which sizes take which strategy, and the lines that say so."""

import logging
import re

import pytest

from homodyne.errors import InputError
from homodyne.optimization.nlsq import memory, select
from homodyne.optimization.nlsq.memory import estimate_peak_memory_gb
from homodyne.optimization.nlsq.select import PASSES, announce, memory_tips, select_nlsq_strategy, streaming_peak_gb
from homodyne.optimization.search import STRATEGIES

FULL, STREAM, CMAES = "stratified_ls", "hybrid_streaming", "cmaes_nlsq"
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


RAM_GB = 64.0


@pytest.mark.parametrize("scale_ratio", [None, 1.0, 999.9, 1000.0, 1000.1, 1e6])
@pytest.mark.parametrize("n_points", [9_999_999, 10_000_000, 10_000_001])
@pytest.mark.parametrize("share", [0.749, 0.751])
def test_the_table_of_the_document(monkeypatch, share, n_points, scale_ratio):
    """On either side of every border: 10 M points, 75 % of RAM by default, scale ratio 1000.

    | < 10M points or < 75% RAM | Stratified LS    | (both must hold, else the next row would hold as well)
    | > 10M points or > 75% RAM | Hybrid Streaming |
    | Scale ratio > 1000        | CMA-ES + NLSQ    | whose passes over all points are those of the other rows
    """
    monkeypatch.setattr(memory, "detect_total_system_memory", lambda: RAM_GB)
    monkeypatch.setattr(select, "estimate_peak_memory_gb", lambda n_points, n_params: share * RAM_GB)
    decision = select_nlsq_strategy(n_points, 9, scale_ratio=scale_ratio)
    sums = STREAM if n_points > 10_000_000 or share > 0.75 else FULL
    scaled = scale_ratio is not None and scale_ratio > 1000
    assert decision.strategy == (CMAES if scaled else sums)
    assert decision.passes == sums
    assert decision.reason.startswith(f"scale ratio {scale_ratio:.3g} > 1000, n=10M pts" if scaled else "n=10M pts")
    assert decision.reason.endswith(f", passes by {sums}") == scaled
    assert len(decision.log_lines) == (2 if sums == STREAM else 1)


@pytest.mark.parametrize("strategy", [n for n in STRATEGIES if n != "auto"])
def test_who_chose_a_strategy_keeps_it_whatever_the_ratio(strategy):
    for n_points, sums in ((1_000, FULL), (20_000_000, STREAM)):
        decision = select_nlsq_strategy(n_points, 9, scale_ratio=1e6, memory_threshold_gb=48.0, strategy=strategy)
        assert decision.strategy == strategy
        assert decision.passes == (strategy if strategy in PASSES else sums)
        assert decision.reason.endswith(", chosen by the user")


@pytest.mark.parametrize("ratio", [0.5, -1.0, float("nan")])
def test_a_ratio_below_one_is_refused(ratio):
    with pytest.raises(
        InputError, match=r"scale_ratio=.* must be at least 1; give the widest over the narrowest range"
    ):
        select_nlsq_strategy(1_000, 9, scale_ratio=ratio)


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


def number(text, pattern):
    """The one number that a line gives in this place."""
    (found,) = re.findall(pattern, text)
    return float(found)


N_POINTS, N_PHI = 8_000_000, 40
FITS_8M = estimate_peak_memory_gb(N_POINTS, 9)


@pytest.mark.parametrize(
    ("threshold_gb", "told"),
    [
        (10 * FITS_8M, False),
        (FITS_8M / 0.79, False),
        (FITS_8M / 0.81, True),
        (FITS_8M * 0.99, True),
        (FITS_8M * 0.9, True),
    ],
)
def test_tips_come_only_where_memory_nears_the_threshold(threshold_gb, told):
    assert bool(memory_tips(select_nlsq_strategy(N_POINTS, 9, memory_threshold_gb=threshold_gb), N_PHI)) == told


def test_the_tip_below_the_threshold_is_a_lower_fraction_and_what_it_saves():
    decision = select_nlsq_strategy(N_POINTS, 9, memory_threshold_gb=FITS_8M / 0.9)
    assert decision.passes == FULL
    first, second = memory_tips(decision, N_PHI)
    assert first.startswith(
        "Memory: the estimate is 90 % of the threshold; a lower memory_fraction makes the fit stream in "
    )
    streaming = streaming_peak_gb(decision.block_points)
    assert number(first, r"stream in (\S+) GB") == pytest.approx(streaming, abs=0.006)
    assert number(first, r"(\S+) GB less") == pytest.approx(FITS_8M - streaming, abs=0.006)
    # an angle less: what the estimate says of the points that go
    fewer = FITS_8M - estimate_peak_memory_gb(N_POINTS - N_POINTS // N_PHI, 9)
    assert number(second, r"angle less saves (\S+) GB") == pytest.approx(fewer, abs=0.006)
    assert second.endswith("per_angle_mode saves 0.00 GB, whatever its value")


def test_the_tip_above_the_threshold_is_what_streaming_saves():
    decision = select_nlsq_strategy(10 * N_POINTS, 9, memory_threshold_gb=0.9)
    estimate = estimate_peak_memory_gb(10 * N_POINTS, 9)
    assert decision.passes == STREAM
    first, second = memory_tips(decision, N_PHI)
    streaming = streaming_peak_gb(decision.block_points)
    assert streaming <= 0.9
    assert number(first, r"takes about (\S+) GB") == pytest.approx(streaming, abs=0.006)
    assert number(first, r"(\S+) GB less than full batch") == pytest.approx(estimate - streaming, abs=0.006)
    assert number(first, r"which is (\S+) GB above the threshold") == pytest.approx(estimate - 0.9, abs=0.006)
    assert "raising memory_fraction to fit it changes no result" in first
    fewer = estimate - estimate_peak_memory_gb(10 * N_POINTS - 10 * N_POINTS // N_PHI, 9)
    assert number(second, r"angle less saves (\S+) GB") == pytest.approx(fewer, abs=0.006)


def test_a_fit_that_streams_for_its_points_is_not_told_to_raise_the_fraction():
    decision = select_nlsq_strategy(12_000_000, 9, memory_threshold_gb=estimate_peak_memory_gb(12_000_000, 9) * 1.1)
    assert decision.passes == STREAM
    first, _ = memory_tips(decision, N_PHI)
    assert "above the threshold" not in first
    assert "memory_fraction" not in first


def test_announce_logs_the_lines(caplog):
    decision = select_nlsq_strategy(80_000_000, 9, memory_threshold_gb=1.0)
    with caplog.at_level(logging.INFO, logger="homodyne"):
        announce(decision, 8)
    lines = [r.getMessage() for r in caplog.records]
    assert lines == [*decision.log_lines, *memory_tips(decision, 8)]
    assert len(lines) == 4  # 80 M points exceed a threshold of 1 GB
    caplog.clear()
    roomy = select_nlsq_strategy(1_000, 9, memory_threshold_gb=48.0)
    with caplog.at_level(logging.INFO, logger="homodyne"):
        announce(roomy, 8)
    assert [r.getMessage() for r in caplog.records] == list(roomy.log_lines)
    assert {r.levelname for r in caplog.records} == {"INFO"}
