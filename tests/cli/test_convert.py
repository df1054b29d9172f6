import numpy as np
import pytest

from homodyne.cli.convert import main
from homodyne.data import Dataset, write_apsu

from .test_inspect_file import matrices


@pytest.fixture
def apsu_file(tmp_path):
    path = tmp_path / "run.hdf"
    write_apsu(
        path, matrices(3), q=np.array([0.0054, 0.007]), phi=np.array([0.0, 60.0]), cells=[(0, 0), (0, 1), (1, 1)],
        frame_time_s=0.1, attrs={"start_time": "2025-01-01"},
    )  # fmt: skip
    return path


def test_conversion_keeps_the_data(apsu_file, tmp_path, capsys):
    out = tmp_path / "out.nc"
    assert main([str(apsu_file), str(out), "--q", "0.0054", "--gap", "2e6", "--frames", "3", "30"]) == 0
    a, b = Dataset.open(apsu_file, q=0.0054, frames=[3, 30]), Dataset.open(out)
    assert (b.gap, b.q, b.n_t, b.attrs["start_time"], b.attrs["original_format"]) == (
        2e6,
        0.0054,
        28,
        "2025-01-01",
        "apsu",
    )
    upper = np.triu_indices(28, 1)
    for k in range(2):
        whole = (k, slice(0, 28), slice(0, 28))
        np.testing.assert_array_equal(a.read_block(*whole)[upper], b.read_block(*whole)[upper])
    assert "written:" in capsys.readouterr().out


def test_angle_options(apsu_file, tmp_path):
    out = tmp_path / "out.nc"
    assert main([str(apsu_file), str(out), "--q", "0.0054", "--phi-range", "50", "70", "--compress"]) == 0
    assert Dataset.open(out).phi.tolist() == [60.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.nc"], "dataset.q=None must be chosen"),
        (["out.nc", "--q", "0.0054", "--dt", "3"], "differs from dt=0.1 s of the file"),
        (["no/out.nc", "--q", "0.0054"], "its folder does not exist"),
        (["run.hdf", "--q", "0.0054", "--overwrite"], "is the input file"),
        (["there.nc", "--q", "0.0054"], "exists; give another name"),
    ],
)
def test_bad_input_leaves_nothing_behind(apsu_file, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.nc").write_text("")
    before = sorted(p.name for p in tmp_path.iterdir())
    assert main(["run.hdf", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == before
