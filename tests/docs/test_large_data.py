"""The snippet of docs/large_data.md runs and says what the page says."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "large_data.md"


def test_snippet(capsys):
    for block in re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    ):
        exec(compile(block, PAGE.name, "exec"), {})
    out = capsys.readouterr().out
    assert "500,000: stratified_ls" in out
    assert "50,000,000: hybrid_streaming" in out
