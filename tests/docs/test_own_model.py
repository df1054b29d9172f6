"""The page on own models, executed: its file is written, its fit run, its YAML used by a training run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "own_model.md"


def blocks(language):
    """Code blocks of the page in that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def write_named(folder, text):
    """Write a block whose first line is ``# file: NAME`` and return its path."""
    path = folder / text.partition("\n")[0].removeprefix("# file: ")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the page's files, importable from and current."""
    for text in (*blocks("python"), *blocks("yaml")):
        if text.startswith("# file: "):
            write_named(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("stretched", None)


def test_the_fit_on_the_page_recovers_the_truth(workplace, capsys):
    (snippet,) = [b for b in blocks("python") if "from stretched import" in b]
    names: dict = {}
    exec(compile(snippet, "own_model.md", "exec"), names)
    assert names["fit"].converged
    assert names["fit"].chi2_reduced == pytest.approx(1.0, abs=0.03)
    assert "kww" in capsys.readouterr().out


def test_the_yaml_on_the_page_trains(workplace):
    (snippet,) = [b for b in blocks("python") if "from stretched import" in b]
    simulate_only = snippet.split("fit = homodyne.fit", 1)[0]
    exec(compile(simulate_only + 'ds.to_netcdf("known.nc")', "own_model.md", "exec"), {})
    (command,) = [b for b in blocks("bash") if "--config-dir myconf" in b]
    assert "model=stretched" in command
    arguments = [
        "--config-dir",
        "myconf",
        "model=stretched",
        "dataset=netcdf",
        "dataset.path=known.nc",
        "dataset.sigma=0.003",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "homodyne.train", *arguments, "tracking=none", "plots=false", "hydra.run.dir=run"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    from homodyne.result import FitResult

    result = FitResult.load(workplace / "run" / "result.nc")
    assert result.model == "stretched"
    assert abs(result.theta["kww"] - 1.4) < 4.5 * result.stderr["kww"]


def test_a_signed_field_and_an_integral(workplace, capsys):
    (snippet,) = [b for b in blocks("python") if "field=jnp.cos" in b]
    names: dict = {}
    exec(compile(snippet, "own_model.md", "exec"), names)
    fit = names["fit"]
    assert fit.converged
    assert fit.covariance_method == "speckle"
    assert abs(fit.theta["speed"] - 180.0) < 4 * fit.stderr["speed"]
    assert "path_stderr" in capsys.readouterr().out
