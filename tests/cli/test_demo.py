"""The demo from end to end in an empty folder, and the file it writes."""

import json

import numpy as np
import pytest

from homodyne.cli import demo
from homodyne.data import Dataset
from homodyne.models import get_model
from homodyne.result import FitResult


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder, and fewer pixels than the demo has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "PIXELS", (100, 2500))
    (tmp_path / demo.FOLDER).mkdir(parents=True)
    return tmp_path


def test_the_file_has_an_empty_cell_that_shifts_labels(workplace):
    demo.write_measurement()
    truth = json.loads((workplace / demo.TRUTH).read_text())
    ds = Dataset.open(demo.DATA, q=truth["q"], gap=truth["gap_angstrom"])
    assert (ds.n_phi, ds.n_t) == (10, 300)
    assert ds.dt == pytest.approx(0.1)
    assert ds.phi == pytest.approx(truth["phi_deg"])
    assert not np.any(np.isclose(truth["phi_deg"], -34.0))
    assert (truth["pixels"], truth["counts"]) == (2500, 2.0)
    # every sector holds its own decay: the data are nearer to the model of its angle than to any other
    pairs, whole = np.triu_indices(300, k=1), slice(0, 300)
    sectors = zip(truth["phi_deg"], truth["contrast"], strict=True)
    expected = [
        1.0 + contrast * get_model("laminar_flow").g1_squared(truth["theta"], ds.t, phi, ds.q, ds.gap)[pairs]
        for phi, contrast in sectors
    ]
    for k in range(ds.n_phi):
        c2 = ds.read_block(k, whole, whole)[pairs]
        assert np.argmin([np.mean((c2 - model) ** 2) for model in expected]) == k
        # far lags: 1, within the noise of (contrast + 1 / counts) / sqrt(pixels) that neighboring pairs share
        assert np.nanmean(ds.read_block(k, slice(0, 20), slice(280, 300))) == pytest.approx(1.0, abs=0.015)
    assert sorted(p.name for p in (workplace / demo.FOLDER).iterdir()) == ["demo_results.hdf", "truth.json"]


def test_demo(workplace, capfd):
    assert demo.main() == 0
    out = capfd.readouterr().out
    result = FitResult.load(demo.RUN / "result.nc")
    truth = json.loads((workplace / demo.TRUTH).read_text())
    for name, pull in demo.pulls(result, truth).items():
        assert np.all(np.abs(pull) < 4.0), name
        assert name in out
    # neighboring pairs share noise, so that their differences, of which sigma is estimated, show less than there is
    expected, sd = (result.diagnostics[n].values for n in ("chi2_expected", "chi2_sd"))
    assert expected.mean() > 1.2
    assert np.all(np.abs(result.chi2_per_angle - expected) < 4.0 * sd)
    assert result.n_points == 10 * 300 * 299 // 2
    for part in (
        "truth",
        "pull",
        "±",
        "Errors here: speckle",
        "times larger",
        "speckle alone makes",
        "c2_maps_01.png",
        "make ui",
        "dataset.path=/data/run42_results.hdf",
    ):
        assert part in out
    assert {"c2_maps_01.png", "c2_maps_02.png", "curves.png", "diagnostics.png", "convergence.png", "memory.png"} <= {
        p.name for p in (demo.RUN / "figures").iterdir()
    }


def test_a_fit_without_result_is_not_reported_as_one(workplace, monkeypatch, capfd):
    monkeypatch.setattr(demo, "write_measurement", lambda: demo.DATA.write_bytes(b"not a measurement"))
    assert demo.main() == 1
    captured = capfd.readouterr()
    assert "left no result (exit code 1)" in captured.err
    assert "pull" not in captured.out
