"""Code blocks of the pages, for tests that run them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page, language):
    """Code blocks of a page (path from the root of the repository) in that language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def run(page, snippets):
    """Run snippets one after another, as a reader who types them would; the names they leave."""
    names: dict = {}
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), names)
    return names
