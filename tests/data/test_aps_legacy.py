import numpy as np
import pytest
import xarray as xr

from homodyne.data import Dataset, write_aps_legacy
from homodyne.errors import InputError

from .raw_files import matrix, pairs, write_legacy_raw

SIX = [f"g2_{n:05d}" for n in range(1, 7)]


def block(ds: Dataset, k: int) -> np.ndarray:
    return ds.read_block(k, slice(0, ds.n_t), slice(0, ds.n_t))


def test_rings_of_slightly_different_q(tmp_path):
    data = write_legacy_raw(tmp_path / "l.hdf", keys=SIX)
    ds = Dataset.open(tmp_path / "l.hdf", q=0.005)
    assert ds.phi.tolist() == [0.0, 60.0, -60.0]
    assert ds.q == pytest.approx(0.005)
    assert ds.attrs["q_of_angles"] == pytest.approx([0.0050, 0.0053, 0.0047])
    assert ds.dt == pytest.approx(0.2)
    np.testing.assert_array_equal(pairs(block(ds, 2)), pairs(data[2]))
    other = Dataset.open(tmp_path / "l.hdf", q=0.008)
    np.testing.assert_array_equal(pairs(block(other, 0)), pairs(data[3]))


def test_keys_are_ordered_as_numbers(tmp_path):
    keys = [str(n) for n in (2, 4, 6, 8, 10, 12)]  # as text: 10, 12, 2, 4, 6, 8
    data = write_legacy_raw(tmp_path / "l.hdf", keys=keys)
    ds = Dataset.open(tmp_path / "l.hdf", q=0.005)
    np.testing.assert_array_equal(pairs(block(ds, 0)), pairs(data[0]))


def test_label_list_with_a_running_counter(tmp_path):
    data = write_legacy_raw(tmp_path / "l.hdf", keys=SIX[:3], labels=[2, 4, 6])
    assert Dataset.open(tmp_path / "l.hdf", q=0.0053).phi.tolist() == [60.0]
    ds = Dataset.open(tmp_path / "l.hdf", q=0.008)
    assert ds.phi.tolist() == [0.1, -60.02]
    np.testing.assert_array_equal(pairs(block(ds, 0)), pairs(data[1]))


def test_label_list_with_keys_named_after_labels(tmp_path):
    data = write_legacy_raw(tmp_path / "l.hdf", keys=["g2_00002", "g2_00004", "g2_00006"], labels=[6, 4, 2])
    with xr.open_dataset(tmp_path / "l.hdf", engine="aps_legacy") as opened:
        assert opened["bin"].values.tolist() == [2, 4, 6]
        np.testing.assert_array_equal(opened["c2"].sel(bin=6)[0, 1:].values, data[2][0, 1:])


def test_unexplained_number_of_matrices_is_refused(tmp_path):
    write_legacy_raw(tmp_path / "l.hdf", keys=SIX[:4])
    with pytest.raises(InputError, match="C2T_all=4 matrices for 6 bins"):
        Dataset.open(tmp_path / "l.hdf", q=0.005)


def test_labels_beyond_the_bins_are_refused(tmp_path):
    write_legacy_raw(tmp_path / "l.hdf", keys=SIX[:2], labels=[2, 7])
    with pytest.raises(InputError, match=r"does not label the 2 matrices with bins 1..6"):
        Dataset.open(tmp_path / "l.hdf", q=0.005)


def test_dt_must_be_given_when_a_factor_is_missing(tmp_path):
    write_legacy_raw(tmp_path / "l.hdf", keys=SIX, stride=None)
    with pytest.raises(InputError, match=r"not in the file: stride_frames is missing; set dataset.dt"):
        Dataset.open(tmp_path / "l.hdf", q=0.005)
    assert Dataset.open(tmp_path / "l.hdf", q=0.005, dt=0.3).dt == 0.3


def test_writer_round_trip_with_missing_bins(tmp_path):
    c2 = np.stack([matrix(s) for s in (1, 2)])
    write_aps_legacy(
        tmp_path / "w.hdf", c2, q=[0.005, 0.0051, 0.0049], phi=[0.0, 45.0, 90.0], exposure_period_s=0.01,
        stride_frames=3, processed=[1, 3],
    )  # fmt: skip
    ds = Dataset.open(tmp_path / "w.hdf")
    assert (ds.phi.tolist(), ds.dt) == ([0.0, 90.0], pytest.approx(0.03))
    np.testing.assert_array_equal(pairs(block(ds, 1)), pairs(c2[1]))
