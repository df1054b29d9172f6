"""Files appear complete or not at all."""

import os

import pytest

from homodyne.files import save_whole, write_whole


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


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_writer_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "file"
    target.write_text("old")

    def write(partial):
        partial.write_text("half of the n")
        raise error

    with pytest.raises(type(error)):
        save_whole(target, write)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    assert save_whole(target, lambda partial: partial.write_text("new")) == target
    assert target.read_text() == "new"
