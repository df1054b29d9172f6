"""Where compiled code is kept, and when it is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from homodyne import compiled_code

CODE = """
import homodyne.models, jax
print(jax.config.values["jax_compilation_cache_dir"])
homodyne.models.get_model("static").g1_squared([1e4, -0.5, 1.0], [0.0, 0.1, 0.2], 0.0, 0.005)
"""


def run(**environment):
    """The folder that a fresh process uses."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=clean | environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_compiled_code_is_kept_and_found_again(tmp_path):
    folder = Path(run(XDG_CACHE_HOME=str(tmp_path)))
    assert folder.parent == tmp_path / "homodyne"
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
    assert any("evaluate" in name for name in kept)
    run(XDG_CACHE_HOME=str(tmp_path))
    # on a busy machine more may be worth keeping the second time, but nothing that is there is compiled again
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")}.items()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({"JAX_COMPILATION_CACHE_DIR": "own"}, "own"), ({"JAX_ENABLE_COMPILATION_CACHE": "false"}, "None")],
)
def test_the_users_own_settings_of_jax_come_first(tmp_path, environment, expected):
    environment = {k: str(tmp_path / v) if v == "own" else v for k, v in environment.items()}
    found = run(XDG_CACHE_HOME=str(tmp_path / "cache"), **environment)
    assert found == (str(tmp_path / "own") if expected == "own" else expected)
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "homodyne").write_text("a file where the folder should be")
    assert run(XDG_CACHE_HOME=str(tmp_path)) == "None"


def test_other_processors_have_other_folders(monkeypatch):
    here = compiled_code.cache_folder()
    monkeypatch.setattr(compiled_code.platform, "machine", lambda: "another")
    assert compiled_code.cache_folder() != here
