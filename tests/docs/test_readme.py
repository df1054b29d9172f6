"""The snippet of the README runs on a file of the beamline's layout."""

import numpy as np

from homodyne.data.formats.apsu import write_apsu
from homodyne.result import FitResult
from homodyne.simulate import speckle_maps
from tests.docs.pages import ROOT, blocks, run
from tests.reference import FLOW

PLACE = "/data/run42_results.hdf"


def test_python_snippet(tmp_path, monkeypatch, capsys):
    phi, t = np.array([-85.0, -40.0, 5.0, 50.0, 80.0]), 0.1 * np.arange(40)
    maps = speckle_maps("laminar_flow", FLOW, phi, t, 0.0054, 2e6, pixels=300)
    cells = [(0, k) for k in range(len(phi))]
    write_apsu(tmp_path / "run42.hdf", lambda n: maps[n], q=np.array([0.0054]), phi=phi, cells=cells, frame_time_s=0.1)
    monkeypatch.chdir(tmp_path)
    (snippet,) = [b for b in blocks("README.md", "python") if PLACE in b]
    names = run("README.md", [snippet.replace(PLACE, "run42.hdf")])
    assert "Speckle noise: contrast" in capsys.readouterr().out
    assert {"J", "J_stderr", "gamma_dot", "gamma_dot_stderr"} <= set(names["curves"])
    assert FitResult.load("run42.nc").theta == names["fit"].theta


def test_pages_that_it_names_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [part.partition(")")[0] for part in text.split("](")[1:]]
    assert "docs/errors.md" in pages
    for page in pages:
        assert (ROOT / page).exists(), page
