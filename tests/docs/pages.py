"""Code blocks of the pages, for tests that run them."""

import itertools
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The file that pages fit, in the place where readers are told that it lies.
PLACE = "/data/run42_results.hdf"
#: A block behind such a comment is not run; the reason is for readers of the source.
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*$")


def pages():
    """README and all pages, as paths from the root of the repository."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def listed(page):
    """(language, text, reason) of all blocks in order; reason is None where the block is run."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        reason = NOT_RUN.search(text[: match.start()])
        found.append((match.group(1), match.group(2), reason.group(1) if reason else None))
    return found


def blocks(page, language):
    """Code blocks of a page (path from the root of the repository) in that language that are run, in order."""
    return [text for name, text, reason in listed(page) if name == language and reason is None]


def run(page, snippets):
    """Run snippets one after another, as a reader who types them would; the names they leave."""
    names: dict = {}
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), names)
    return names


def commands(page):
    """Shell commands of a page as lists of words: lines of its bash blocks, and training commands within the text."""
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines += re.findall(r"`(python -m homodyne\.train [^`]+)`", prose.replace("\n", " "))
    return [shlex.split(line, comments=True) for line in lines]


def alternatives(overrides):
    """Every combination of a sweep: ``a=1,2 b=3`` is [[a=1, b=3], [a=2, b=3]]."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    choices = [
        [f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()] if o.is_sweep_override() else [text]
        for o, text in zip(parsed, overrides, strict=True)
    ]
    return [list(one) for one in itertools.product(*choices)]
