"""The page on troubleshooting has every message of the source, and no message that is not there any more."""

import re

from tests.docs.messages import ROOT, covers, messages

PAGE = ROOT / "docs" / "troubleshooting.md"


def entries():
    """Code spans in the first column of the tables."""
    rows = [line.split(" | ")[0] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row)]


def test_every_message_has_an_entry():
    known = entries()
    missing = [f"{m.where}: {m.text}" for m in messages() if not any(covers(e, m.text) for e in known)]
    assert not missing, "not in docs/troubleshooting.md:\n" + "\n".join(missing)


def test_every_entry_is_a_message():
    found = [m.text for m in messages()]
    stale = [e for e in entries() if not any(covers(e, text) for text in found)]
    assert not stale, "no such message any more:\n" + "\n".join(stale)


def test_entries_say_something():
    """A word or two would cover anything."""
    letters = [re.sub(r"[^a-zA-Z0-9]", "", e.removeprefix("KEY=")) for e in entries()]
    assert len(letters) > 150
    assert all(len(x) >= 7 for x in letters), [e for e, x in zip(entries(), letters, strict=True) if len(x) < 7]


def test_collection_finds_what_is_known_to_be_there():
    texts = [m.text for m in messages()]
    assert "dataset.path=… does not exist" in texts
    assert "name=… is fixed" in texts  # a text that the source keeps in a variable
    assert any(t.startswith("Checkpoint: … was not written") for t in texts)
    assert "The next step would be negligible against the standard errors." in texts
