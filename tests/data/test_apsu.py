import h5py
import numpy as np
import pytest
import xarray as xr

from homodyne.data import Dataset, write_apsu
from homodyne.errors import InputError

from .raw_files import matrix, pairs, write_apsu_raw


def block(ds: Dataset, k: int) -> np.ndarray:
    return ds.read_block(k, slice(0, ds.n_t), slice(0, ds.n_t))


def test_labels_are_attached_through_the_index_mapping(tmp_path):
    data = write_apsu_raw(tmp_path / "a.hdf")
    first = Dataset.open(tmp_path / "a.hdf", q=0.0054)
    second = Dataset.open(tmp_path / "a.hdf", q=0.0070)
    assert first.phi.tolist() == [170.0, -175.0]
    assert second.phi.tolist() == [-35.0, -175.0]
    for ds, members in ((first, data[:2]), (second, data[2:])):
        for k, expected in enumerate(members):
            np.testing.assert_array_equal(pairs(block(ds, k)), pairs(expected))


def test_dt_is_frame_time_times_stride_times_average(tmp_path):
    write_apsu_raw(tmp_path / "a.hdf")
    ds = Dataset.open(tmp_path / "a.hdf", q=0.0054)
    assert ds.dt == pytest.approx(0.12, rel=1e-6)
    assert "stride_frame (3)" in ds.attrs["dt_source"]
    np.testing.assert_allclose(ds.t, 0.12 * np.arange(24), rtol=1e-6)


def test_frame_time_unit_milliseconds(tmp_path):
    write_apsu_raw(tmp_path / "a.hdf", frame_time=20.0, frame_unit="ms")
    assert Dataset.open(tmp_path / "a.hdf", q=0.007).dt == pytest.approx(0.12)


def test_xarray_entry_point_gives_labeled_lazy_c2(tmp_path):
    data = write_apsu_raw(tmp_path / "a.hdf")
    with xr.open_dataset(tmp_path / "a.hdf", engine="apsu") as opened:
        assert opened["c2"].dims == ("bin", "t1", "t2")
        assert opened["bin"].values.tolist() == [1, 3, 5, 6]
        np.testing.assert_allclose(opened["q"], [0.0054, 0.0054, 0.007, 0.007])
        assert opened["q"].attrs["units"] == "1/angstrom"
        np.testing.assert_array_equal(opened["c2"].sel(bin=5)[2:5, 8:20].values, data[2][2:5, 8:20])
        np.testing.assert_array_equal(opened["c2"][1:3, 0, 5:9].values, np.stack([d[0, 5:9] for d in data[1:3]]))


def test_opening_reads_no_matrix(tmp_path, monkeypatch):
    write_apsu_raw(tmp_path / "a.hdf")
    read = []
    original = h5py.Dataset.__getitem__

    def spy(self, *args, **kwargs):
        read.append(self.name)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    Dataset.open(tmp_path / "a.hdf", q=0.0054)
    assert not [name for name in read if "correlation_map" in name]


def test_full_matrices_give_the_same_as_upper_halves(tmp_path):
    write_apsu_raw(tmp_path / "half.hdf")
    write_apsu_raw(tmp_path / "full.hdf", upper_only=False)
    a, b = (Dataset.open(tmp_path / name, q=0.0054) for name in ("half.hdf", "full.hdf"))
    np.testing.assert_array_equal(pairs(block(a, 1)), pairs(block(b, 1)))
    np.testing.assert_array_equal(a.sigma, b.sigma)


def test_missing_mapping_is_accepted_only_for_a_full_grid(tmp_path):
    path = tmp_path / "a.hdf"
    write_apsu_raw(path, mapping=None)
    with pytest.raises(InputError, match=r"dynamic_index_mapping.*is missing and the 4 bins do not fill the grid of 8"):
        Dataset.open(path, q=0.0054)
    data = write_apsu_raw(path, mapping=None, q=[0.0054], processed=[1, 2, 3, 4])
    ds = Dataset.open(path)
    assert ds.phi.tolist() == [170.0, -35.0, 10.0, -175.0]
    np.testing.assert_array_equal(pairs(block(ds, 3)), pairs(data[3]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"map_names": [b"x", b"y"]}, r"map_names=\['x', 'y'\] is not a \(q, phi\) map"),
        ({"processed": [1, 3, 5]}, "labels do not match the 4 matrices"),
        ({"processed": [1, 3, 5, 9]}, "does not cover the labels up to 9"),
        ({"processed": [1, 3, 3, 5]}, "are not distinct labels"),
        ({"stride": None}, "dataset.dt=None is not in the file: stride_frame is missing"),
        ({"frame_time": None}, "frame_time is missing; set dataset.dt"),
        ({"frame_time": -1.0}, "frame_time = -1 is not positive"),
    ],
)
def test_inconsistent_files_are_refused(tmp_path, changes, message):
    write_apsu_raw(tmp_path / "a.hdf", **changes)
    with pytest.raises(InputError, match=message):
        Dataset.open(tmp_path / "a.hdf", q=0.0054)


def test_multi_tau_only_file_says_what_is_there(tmp_path):
    with h5py.File(tmp_path / "m.hdf", "w") as file:
        file["xpcs/multitau/delay_list"] = np.arange(5)
        file["xpcs/multitau/normalized_g2"] = np.ones((5, 3))
        file["xpcs/qmap/dynamic_v_list_dim0"] = [0.005]
    with pytest.raises(InputError, match=r"multi-tau results only \(/xpcs/multitau: delay_list, normalized_g2\)"):
        Dataset.open(tmp_path / "m.hdf")


def test_writer_round_trip_with_dropped_cells(tmp_path):
    c2 = np.stack([matrix(s) for s in (1, 2, 3)])
    write_apsu(
        tmp_path / "w.hdf", c2, q=[0.005, 0.008], phi=[-90.0, 0.0, 90.0],
        cells=[(0, 0), (0, 2), (1, 1), (1, 2)], frame_time_s=0.01, stride_frame=5, processed=[1, 2, 4],
    )  # fmt: skip
    ds = Dataset.open(tmp_path / "w.hdf", q=0.005)
    assert ds.phi.tolist() == [-90.0, 90.0]
    assert ds.dt == pytest.approx(0.05)
    np.testing.assert_array_equal(pairs(block(ds, 1)), pairs(c2[1]))
    assert Dataset.open(tmp_path / "w.hdf", q=0.008).phi.tolist() == [90.0]
    assert [p.name for p in tmp_path.iterdir()] == ["w.hdf"]


def test_pixels_of_every_bin_come_from_the_dynamic_map(tmp_path):
    """Labels, not positions, count pixels: bin 2 is not correlated, and two angles are merged."""
    path, c2 = tmp_path / "a.hdf", np.ones((3, 6, 6))
    write_apsu(
        path, c2, q=np.array([0.005]), phi=np.array([0.0, 40.0, 80.0, 80.5]), cells=[(0, k) for k in range(4)],
        frame_time_s=0.1, processed=[1, 3, 4], pixels=[300, 1500, 700, 50],
    )  # fmt: skip
    with h5py.File(path) as file:
        assert file["xpcs/qmap/dynamic_roi_map"].ndim == 2
    assert Dataset.open(path).attrs["pixels"] == [300, 700, 50]
    assert Dataset.open(path, phi=[80.5, 0.0], phi_tolerance=0.1).attrs["pixels"] == [300, 50]
    assert Dataset.open(path, angle_merge="average").attrs["pixels"] == [300, 750]
