"""The snippets of docs/large_data.md run and say what the page says; its log lines are those of the program."""

import re

from homodyne.optimization.nlsq import estimate_peak_memory_gb, select_nlsq_strategy
from tests.docs.pages import ROOT, blocks, run

PAGE = "docs/large_data.md"


def test_snippets(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    choice, monitoring = blocks(PAGE, "python")
    run(PAGE, [choice])
    out = capsys.readouterr().out
    assert re.search(r"^5,000,000: 0\.5\d GB, stratified_ls because ", out, flags=re.MULTILINE)
    assert re.search(r"^50,000,000: 1\.\d\d GB, hybrid_streaming because ", out, flags=re.MULTILINE)
    names = run(PAGE, [monitoring])
    out = capsys.readouterr().out
    assert re.search(
        r"Before fit: \d\.\d\d GB\nAfter fit:  \d\.\d\d GB\nPeak:       \d\.\d\d GB, predicted \d\.\d\d", out
    )
    result, truth = names["result"], names["truth"]
    assert result.converged
    assert abs(result.theta["D0"] - truth["D0"]) < 5 * result.stderr["D0"]


def test_figures_of_the_table():
    """0.44 GB and 0.016 GB per million points, whatever the number of angles; 0.51 GB streamed."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert "0.44 GB + 0.016 GB per million points" in text
    per_million = (estimate_peak_memory_gb(11_000_000, 9) - estimate_peak_memory_gb(1_000_000, 9)) / 10
    assert abs(per_million - 0.016) < 0.002
    assert abs(estimate_peak_memory_gb(1000, 9) - 0.44) < 0.03
    from homodyne.optimization.nlsq.select import streaming_peak_gb

    assert abs(streaming_peak_gb(2_000_000) - 0.51) < 0.01


def test_log_of_the_choice():
    decision = select_nlsq_strategy(15_000_000, 9, memory_threshold_gb=0.6)
    shown = [
        line for block in blocks(PAGE, "text") for line in block.splitlines() if "Strateg" in line or "block" in line
    ]
    assert [f"[INFO] {line}" for line in decision.log_lines] == shown
