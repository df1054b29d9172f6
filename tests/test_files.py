"""Files appear complete or not at all."""

import os

import pytest

from homodyne.files import write_whole


@pytest.mark.parametrize("content", ["χ² = 1\n", b"\x00\xff"])
def test_text_and_bytes_replace_what_was_there(tmp_path, content):
    target = tmp_path / "file"
    target.write_text("old and longer than what replaces it")
    write_whole(target, content)
    assert target.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    target = tmp_path / "file"
    target.write_text("old")

    def fail(descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        write_whole(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
