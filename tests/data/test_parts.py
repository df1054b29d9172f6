"""Files of different sectors as one dataset: every matrix with its own q and phi, selection, weights, what is refused."""

import numpy as np
import pytest

from homodyne.data import Dataset
from homodyne.errors import InputError
from tests.data.raw_files import pairs

N_T = 24
WHOLE = slice(0, N_T)


def maps(n, seed, n_t=N_T):
    upper = np.triu(1.0 + 0.1 * np.random.default_rng(seed).random((n, n_t, n_t)), 1)
    return upper.astype(np.float32)


def write(path, c2, phi, q, **settings):
    t = settings.pop("dt", 0.1) * np.arange(c2.shape[1])
    Dataset.from_arrays(c2, phi, t, q, **settings).to_netcdf(path)


@pytest.fixture
def files(tmp_path):
    """Two angle groups at one q, and another q at the angles of the first."""
    folder = tmp_path / "run"
    folder.mkdir()
    data = [maps(2, 0), maps(3, 1), maps(2, 2)]
    groups = (
        ("a", [0.0, 30.0], 0.005, 0.01),
        ("b", [60.0, 90.0, 120.0], 0.005, [0.02, 0.03, 0.04]),
        ("c", [0.0, 30.0], 0.007, 0.05),
    )
    for (name, phi, q, sigma), c2 in zip(groups, data, strict=True):
        write(folder / f"{name}.nc", c2, phi, q, sigma=np.array(sigma) if isinstance(sigma, list) else sigma)
    return folder, np.concatenate(data).astype(float)


def test_every_matrix_keeps_its_q_phi_and_sigma(files):
    folder, data = files
    phi, q = [0.0, 30.0, 60.0, 90.0, 120.0, 0.0, 30.0], [0.005] * 5 + [0.007] * 2
    (folder / ".hidden").write_text("left out")
    for path in (folder, f"{folder}/*.nc", [folder / "a.nc", folder / "b.nc", folder / "c.nc"]):
        ds = Dataset.open(path, combine="sectors")
        assert (ds.phi.tolist(), ds.sector_q.tolist(), ds.n_t) == (phi, q, N_T)
        np.testing.assert_allclose(ds.sigma, [0.01, 0.01, 0.02, 0.03, 0.04, 0.05, 0.05])
        for k in range(7):
            np.testing.assert_allclose(pairs(ds.read_block(k, WHOLE, WHOLE)), pairs(data[k]), rtol=1e-6)
    np.testing.assert_allclose(ds.read_block(5, slice(3, 9), slice(12, 20)), data[5, 3:9, 12:20], rtol=1e-6)
    assert "sectors of 3 files: " in ds.describe()
    assert len(ds.fingerprint()["files"]) == 3


def test_selection(files):
    folder, data = files
    ds = Dataset.open(folder, combine="sectors", frames=[5, 20], phi=[[0, 45]], sigma=[1.0, 2.0, 3.0, 4.0])
    assert ds.phi.tolist() == [0.0, 30.0, 0.0, 30.0]
    np.testing.assert_allclose(
        pairs(ds.read_block(3, slice(0, 16), slice(0, 16))), pairs(data[6, 4:20, 4:20]), rtol=1e-6
    )
    assert ds.sigma.tolist() == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(InputError, match=r"dataset\.phi=60\.0 matches no angle at q = 0\.007"):
        Dataset.open(folder, combine="sectors", phi=[60.0])


def test_another_process_opens_the_same(files, monkeypatch):
    folder, _ = files
    monkeypatch.chdir(folder.parent)
    ds = Dataset.open("run/*.nc", combine="sectors").sectors([6, 2]).sectors([1])
    monkeypatch.chdir("/")
    again = ds.opener()()
    assert (again.phi.tolist(), again.sigma.tolist()) == ([60.0], [0.02])
    np.testing.assert_array_equal(pairs(again.read_block(0, WHOLE, WHOLE)), pairs(ds.read_block(0, WHOLE, WHOLE)))
    write(folder / "b.nc", maps(3, 1), [61.0, 90.0, 120.0], 0.005, sigma=np.array([0.02, 0.03, 0.04]))
    with pytest.raises(InputError, match=r"a\.nc'.* is another file here than where the fit was started"):
        ds.opener()()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c2": maps(1, 3, 20)}, r"frames of .*d\.nc=20 differs from 24 of .*a\.nc; choose frames that all files have"),
        ({"dt": 0.2}, r"dt of .*d\.nc=0\.2 differs from 0\.1 s"),
        ({"gap": 2e6}, r"gap of .*d\.nc=2000000\.0 differs from None"),
        ({"phi": [90.0]}, r"phi of .*d\.nc=90\.0 is also in .*b\.nc, at q = 0\.005; repetitions of one sector"),
        ({}, r"sigma=\[.*\] is stored differently in the files of the sectors"),
    ],
)
def test_files_that_do_not_belong_together(files, changes, message):
    folder, _ = files
    settings = {"c2": maps(1, 3), "phi": [150.0], "q": 0.005} | changes
    write(folder / "d.nc", settings.pop("c2"), settings.pop("phi"), settings.pop("q"), **settings)
    with pytest.raises(InputError, match=message):
        Dataset.open(folder, combine="sectors")


def test_a_folder_without_files_and_an_unknown_way(tmp_path):
    with pytest.raises(InputError, match=r"is a folder without files; check the folder"):
        Dataset.open(tmp_path)
    with pytest.raises(InputError, match=r"dataset\.combine='mean' is unknown; choose one of repetitions, sectors"):
        Dataset.open(tmp_path, combine="mean")
