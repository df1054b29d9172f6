"""A scan from the command to its figure: in an aging sample the rate falls from window to window."""

import csv
import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from homodyne.cli import window_scan
from homodyne.cli.window_scan import as_csv, as_text, changes
from homodyne.data import Dataset
from homodyne.plots.windows import Window
from homodyne.simulate import two_time
from tests.factories import make_fit_result
from tests.test_train import command  # noqa: F401

D0, ALPHA, DT, FRAMES = 2.5e4, -0.7, 0.1, 160


@pytest.fixture(scope="module")
def aging(tmp_path_factory):
    """J(t) = D0 t^alpha over 16 s at two angles."""
    path = tmp_path_factory.mktemp("aging") / "aging.nc"
    t, phi = DT * np.arange(FRAMES), np.array([0.0, 90.0])
    c2 = two_time("static", {"D0": D0, "alpha": ALPHA, "D_offset": 0.0}, phi, t, 0.0054, noise=0.003)
    Dataset.from_arrays(c2, phi, t, 0.0054, sigma=0.003).to_netcdf(path)
    return path


def mean_rate(first, last):
    """(A(t_last) - A(t_first)) / (t_last - t_first) of the true J."""
    a, b = (DT * (frame - 1) for frame in (first, last))
    return D0 * (b ** (1 + ALPHA) - a ** (1 + ALPHA)) / (1 + ALPHA) / (b - a)


def test_an_aging_sample(aging, tmp_path):
    arguments = (
        "-m", "+experiment=window_scan", f"dataset.path={aging}", "model=static", "windows.first=41", "windows.count=2",
        "model.fixed={alpha: 0, D_offset: 0}", "tracking=none", "optimization.nlsq.subset_frames=16", "optimization.covariance=iid",
    )  # fmt: skip
    # a process of its own: a sweep of real fits leaves handlers and threads behind
    ended = subprocess.run(
        [sys.executable, "-m", "homodyne.train", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    (table,) = tmp_path.glob("outputs/sweeps/*/*/windows.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["first"], row["last"]) for row in rows] == [("41", "100"), ("101", "160")]
    # the time of the laboratory, though every window's own begins at 0
    assert [float(row["center_s"]) for row in rows] == pytest.approx([6.95, 12.95])
    for row in rows:
        # within a window J still falls by a third: a constant rate is near its mean there, not equal to it
        assert float(row["D0"]) == pytest.approx(mean_rate(int(row["first"]), int(row["last"])), rel=0.1)
    assert float(rows[1]["D0"]) < 0.75 * float(rows[0]["D0"])
    assert "[INFO] D0: changes between windows" in ended.stdout
    assert f"[INFO] Window scan: {table}" in ended.stdout
    # the same again from the folder
    (png,) = tmp_path.glob("outputs/sweeps/*/*/windows.png")
    png.unlink()
    assert window_scan.main([str(table.parent)]) == 0
    assert png.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "+experiment=window_scan"], "[ERROR] dataset.path=None is missing; set dataset.path=/path/to/file\n"),
        (["-m", "+experiment=window_scan", "dataset.path=FILE", "windows.count=40"], "[ERROR] windows.count=40 leaves 4 of 160"),
        (["-m", "+experiment=window_scan", "dataset.path=FILE", "dataset.frames=[1,90]"], "[ERROR] dataset.frames=[1, 90] is what"),
        (["+experiment=window_scan", "dataset.path=FILE"], "[ERROR] windows.count=6 is a sweep of several fits; start with -m"),
    ],
)  # fmt: skip
def test_a_scan_that_cannot_be_is_told_in_one_line(command, aging, tmp_path, arguments, message):  # noqa: F811
    ended = command(*(a.replace("FILE", str(aging)) for a in arguments))
    assert ended.code == 1
    assert ended.err.startswith(message)
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.glob("outputs/**/result.nc"))


def test_a_folder_without_a_scan(tmp_path, capsys):
    assert window_scan.main([str(tmp_path)]) == 1
    assert "holds no two finished windows of one scan" in capsys.readouterr().err


def windows_of(values, stderr, last=(100, 200, 300)):
    """Windows whose D0 and its error are given."""
    made = []
    for i, value in enumerate(values):
        result = make_fit_result(
            fixed=dict.fromkeys(("alpha", "D_offset", "gamma_dot_0", "beta", "gamma_dot_offset", "phi0"), 0.0)
        )
        scale = stderr / result.stderr["D0"]
        errors = dataclasses.replace(result.uncertainty, root=scale * result.uncertainty.root)
        result = dataclasses.replace(
            result, theta={**result.theta, "D0": value}, uncertainties={**result.uncertainties, "speckle": errors}
        )
        made.append(Window(100 * i + 1, last[i], 0.1, result))
    return made


def test_scatter_is_held_against_the_errors():
    # chi2 = (1.5**2 + 0 + 1.5**2) / 1 = 4.5, p = exp(-4.5 / 2) for two degrees of freedom
    (same,) = changes(windows_of((98.5, 100.0, 101.5), 1.0))
    assert same == "D0: no change between windows beyond its errors (chi2 4.5 for 2 degrees of freedom, p = 0.11)"
    (changed,) = changes(windows_of((90.0, 100.0, 110.0), 1.0))
    assert changed.startswith("D0: changes between windows (chi2 200 for 2 degrees of freedom, p = 3.7e-44)")
    assert changes(windows_of((90.0, 100.0, 110.0), 1.0, last=(150, 250, 350)))[0].startswith("Windows overlap")


def test_tables_name_what_has_no_error():
    windows = windows_of((90.0, 100.0, 110.0), 1.0)
    windows[1] = dataclasses.replace(windows[1], result=dataclasses.replace(windows[1].result, undetermined=("D0",)))
    assert [line.split()[4:7] for line in as_text(windows)[1:]] == [
        ["90", "±", "1"],
        ["100", "undetermined"],
        ["110", "±", "1"],
    ]
    assert list(csv.DictReader(as_csv(windows).splitlines()))[1]["D0_stderr"] == "inf"
    assert changes(windows)[0].startswith("D0: changes between windows (chi2 200 for 1 degrees of freedom")
