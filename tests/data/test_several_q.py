"""Several rings of one file as one dataset of sectors: order, selection, errors, files, and back to single q."""

import numpy as np
import pytest

from homodyne.cli.inspect_file import main as inspect
from homodyne.data import Dataset
from homodyne.errors import InputError
from tests.data.raw_files import pairs, write_apsu_raw

WHOLE = slice(0, 24)
# kept cells in flat order: (0,0) (0,3) (1,1) (1,3)
PHI, Q = [170.0, -175.0, -35.0, -175.0], [0.0054, 0.0054, 0.0070, 0.0070]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.hdf"
    return path, write_apsu_raw(path)


def test_sectors_of_all_rings_keep_their_q_and_matrix(file):
    path, data = file
    ds = Dataset.open(path, q=[0.0054, 0.0070])
    assert ds.phi.tolist() == pytest.approx(PHI)
    assert ds.q.tolist() == ds.sector_q.tolist() == pytest.approx(Q)
    assert ds.q_values == pytest.approx((0.0054, 0.0070))
    for k in range(4):
        np.testing.assert_array_equal(pairs(ds.read_block(k, WHOLE, WHOLE)), pairs(data[k]))
    # in the order of the list
    other = Dataset.open(path, q=[0.0070, 0.0054])
    assert other.phi.tolist() == pytest.approx([PHI[k] for k in (2, 3, 0, 1)])
    np.testing.assert_array_equal(pairs(other.read_block(0, WHOLE, WHOLE)), pairs(data[2]))
    assert other.fingerprint()["metadata_sha256"] != ds.fingerprint()["metadata_sha256"]


def test_a_list_of_one_is_one_q(file):
    assert Dataset.open(file[0], q=[0.0054]).q == Dataset.open(file[0], q=0.0054).q
    assert isinstance(Dataset.open(file[0], q=[0.0054]).q, float)


def test_angles_are_selected_and_merged_ring_by_ring(file, tmp_path):
    path, _ = file
    assert Dataset.open(path, q=[0.0054, 0.0070], phi=[-175.0]).sector_q.tolist() == pytest.approx([0.0054, 0.0070])
    with pytest.raises(InputError, match=r"dataset\.phi=170\.0 matches no angle at q = 0\.007; available phi"):
        Dataset.open(path, q=[0.0054, 0.0070], phi=[170.0])
    # equal azimuths of different q are not near-identical angles
    merged = Dataset.open(path, q=[0.0054, 0.0070], angle_merge="average", angle_tolerance=20.0)
    assert merged.phi.tolist() == pytest.approx([177.5, -35.0, -175.0])
    (record,) = merged.attrs["merged_angles"]
    assert (record["q"], record["phi"]) == (pytest.approx(0.0054), pytest.approx([170.0, -175.0]))


@pytest.mark.parametrize(
    ("q", "message"),
    [
        ([], r"dataset\.q=\[\] selects nothing; available q"),
        ([0.0054, 0.00541], "names one ring twice"),
        ([0.0054, 0.01], "matches no ring"),
        ([0.0054, -1.0], "must be positive"),
    ],
)
def test_lists_that_mean_no_rings(file, q, message):
    with pytest.raises(InputError, match=message):
        Dataset.open(file[0], q=q)


def test_split_gives_what_opening_one_q_gives(file):
    path, _ = file
    both = Dataset.open(path, q=[0.0054, 0.0070], sigma=[0.1, 0.2, 0.3, 0.4])
    parts = both.split()
    assert list(parts) == list(both.q_values)
    for n, (q, part) in enumerate(parts.items()):
        alone = Dataset.open(path, q=q, sigma=[0.1, 0.2] if n == 0 else [0.3, 0.4])
        assert (part.q, part.phi.tolist(), part.sigma.tolist()) == (alone.q, alone.phi.tolist(), alone.sigma.tolist())
        np.testing.assert_array_equal(part.read_block(1, WHOLE, WHOLE), alone.read_block(1, WHOLE, WHOLE))
        assert part.fingerprint() == alone.fingerprint()
        assert list(part.split()) == [q]


def test_files_of_several_q_come_back(file, tmp_path):
    path, _ = file
    both = Dataset.open(path, q=[0.0054, 0.0070])
    both.to_netcdf(tmp_path / "both.nc")
    again = Dataset.open(tmp_path / "both.nc", q=[0.0054, 0.0070])
    assert (again.phi.tolist(), again.q.tolist()) == (both.phi.tolist(), both.q.tolist())
    np.testing.assert_array_equal(
        pairs(again.read_block(3, WHOLE, WHOLE)), pairs(np.asarray(both.read_block(3, WHOLE, WHOLE)))
    )
    assert Dataset.open(tmp_path / "both.nc", q=0.0070).phi.tolist() == both.phi[2:].tolist()
    assert both.to_xarray()["q"].dims == ("phi",)


def test_arrays_with_one_q_a_sector():
    t, rng = 0.1 * np.arange(12), np.random.default_rng(0)
    c2 = 1 + 0.1 * rng.random((3, 12, 12))
    c2 = c2 + c2.transpose(0, 2, 1)
    sigma = np.full(c2.shape, 0.1)
    ds = Dataset.from_arrays(c2, [0.0, 0.0, 30.0], t, q=[0.005, 0.007, 0.005], sigma=sigma)
    assert ds.split()[0.005].phi.tolist() == [0.0, 30.0]
    np.testing.assert_array_equal(ds.split()[0.007].read_block(0, slice(0, 12), slice(0, 12)), c2[1])
    assert ds.split()[0.007].read_sigma(0, slice(0, 2), slice(0, 2)).tolist() == [[0.1] * 2] * 2
    assert "q = 0.007 1/angstrom; 1 angles" in ds.describe()
    for q, message in (([0.005, 0.007], "does not fit the 3 angles"), ([0.005, 0.007, -1.0], "must be positive")):
        with pytest.raises(InputError, match=message):
            Dataset.from_arrays(c2, [0.0, 0.0, 30.0], t, q=q)


def test_a_sector_without_data_is_named_with_its_q():
    c2 = np.triu(1.0 + 0.01 * np.random.default_rng(0).random((2, 12, 12)))
    ds = Dataset.from_arrays(c2, [0.0, 0.0], 0.1 * np.arange(12), q=[0.005, 0.007])
    c2[1] = np.nan
    with pytest.raises(InputError, match=r"phi=0\.0 has no valid point \(q=0\.007\)"):
        ds.check()


def test_inspect_tells_how_to_fit_several_q(file, capsys):
    assert inspect([str(file[0]), "--quick"]) == 0
    text = capsys.readouterr().out
    assert "dataset.q=[0.0054,0.007] with model=laminar_flow_joint_q" in text
    assert "-m dataset.q=0.0054,0.007" in text
