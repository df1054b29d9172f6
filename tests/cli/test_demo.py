"""The demo from end to end in an empty folder, and the file it writes."""

import json

import numpy as np
import pytest

from homodyne.cli import demo
from homodyne.data import Dataset
from homodyne.result import FitResult


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / demo.FOLDER).mkdir(parents=True)
    return tmp_path


def test_the_file_has_an_empty_cell_that_shifts_labels(workplace):
    demo.write_measurement()
    truth = json.loads((workplace / demo.TRUTH).read_text())
    ds = Dataset.open(demo.DATA, q=truth["q"], gap=truth["gap_angstrom"])
    assert (ds.n_phi, ds.n_t) == (10, 300)
    assert ds.dt == pytest.approx(0.1)
    assert ds.phi == pytest.approx(truth["phi_deg"])
    assert -32.0 not in truth["phi_deg"]
    # the first row of every sector decays from contrast + offset: a wrong sector would show
    for k in range(ds.n_phi):
        last = ds.read_block(k, slice(0, 20), slice(280, 300))
        assert np.nanmean(last) == pytest.approx(truth["offset"][k], abs=0.01)
    assert sorted(p.name for p in (workplace / demo.FOLDER).iterdir()) == ["demo_results.hdf", "truth.json"]


def test_demo(workplace, capfd):
    assert demo.main() == 0
    out = capfd.readouterr().out
    result = FitResult.load(demo.RUN / "result.nc")
    truth = json.loads((workplace / demo.TRUTH).read_text())
    for name, value in truth["theta"].items():
        assert abs(result.theta[name] - value) < 4.5 * result.stderr[name]
        assert name in out
    assert result.chi2_reduced == pytest.approx(1.0, abs=0.02)
    assert result.n_points == 10 * 300 * 299 // 2
    for part in ("truth", "pull", "±", "c2_maps_01.png", "make ui", "dataset.path=/data/run42_results.hdf"):
        assert part in out
    assert {"c2_maps_01.png", "c2_maps_02.png", "residuals.png", "convergence.png", "memory.png"} <= {
        p.name for p in (demo.RUN / "figures").iterdir()
    }


def test_a_fit_without_result_is_not_reported_as_one(workplace, monkeypatch, capfd):
    monkeypatch.setattr(demo, "write_measurement", lambda: demo.DATA.write_bytes(b"not a measurement"))
    assert demo.main() == 1
    captured = capfd.readouterr()
    assert "left no result (exit code 1)" in captured.err
    assert "pull" not in captured.out
