import h5py
import numpy as np
import pytest
import xarray as xr

from homodyne.data import Dataset, recognize, write_netcdf_stream
from homodyne.data.blocks import upper_tiles
from homodyne.errors import InputError

from .raw_files import matrix, pairs, write_apsu_raw, write_legacy_raw

PHI = np.array([30.0, -60.0, 0.0])
C2 = np.stack([matrix(s, 40) for s in (1, 2, 3)])
T = 0.1 * np.arange(40)


def block(ds: Dataset, k: int) -> np.ndarray:
    return ds.read_block(k, slice(0, ds.n_t), slice(0, ds.n_t))


def write_npz(path, **changes):
    arrays = {
        "phi_angles_list": PHI,
        "c2_exp": C2,
        "t1": T,
        "t2": T,
        "wavevector_q_list": [0.0054],
        "L": 2e6,
        "dt": 0.1,
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})


def write_with_xarray(**extra):
    return xr.Dataset(
        {"c2": (("phi", "t1", "t2"), C2.copy(), extra)},
        {"phi": ("phi", PHI, {"units": "degree"}), "t1": ("t1", T, {"units": "s"}), "t2": ("t2", T), "q": 0.0054},
        {"gap": 2e6},
    )


def test_formats_are_recognized_by_content(tmp_path):
    write_apsu_raw(tmp_path / "a.dat")
    write_legacy_raw(tmp_path / "l.dat", keys=[str(n) for n in range(6)])
    write_npz(tmp_path / "n.npz")
    (tmp_path / "n.npz").rename(tmp_path / "n.dat")
    Dataset.from_arrays(C2, PHI, T, 0.0054).to_netcdf(tmp_path / "c.dat")
    write_with_xarray().to_zarr(tmp_path / "z.dat", consolidated=False)
    assert [recognize(tmp_path / f"{n}.dat") for n in "alncz"] == ["apsu", "aps_legacy", "npz", "netcdf", "zarr"]


@pytest.mark.parametrize("kind", ["netcdf", "foreign", "zarr", "npz", "compressed", "grid"])
def test_every_format_gives_the_arrays(tmp_path, kind):
    path = tmp_path / "file"
    memory = Dataset.from_arrays(C2, PHI, T, 0.0054, gap=2e6)
    if kind in ("netcdf", "compressed"):
        memory.to_netcdf(path, compression=kind == "compressed")
    elif kind == "foreign":
        write_with_xarray().to_netcdf(path, engine="netcdf4")
    elif kind == "grid":
        both = xr.concat([write_with_xarray(), write_with_xarray() * 2], xr.Variable("q", [0.0054, 0.008]))
        both.assign_attrs(gap=2e6).to_netcdf(path, engine="netcdf4")
    elif kind == "zarr":
        write_with_xarray().to_zarr(path, consolidated=False)
    else:
        write_npz(path := tmp_path / "file.npz")
    ds = Dataset.open(path, q=0.0054)
    np.testing.assert_array_equal(ds.phi, PHI)
    np.testing.assert_array_equal(ds.t, memory.t)
    assert (ds.q, ds.gap, ds.n_t, ds.n_points()) == (0.0054, 2e6, 40, 3 * 780)
    for k in range(3):
        np.testing.assert_array_equal(pairs(block(ds, k)), pairs(C2[k]))
    np.testing.assert_array_equal(ds.sigma, memory.sigma)


def test_lower_half_is_read_transposed(tmp_path):
    lower = write_with_xarray(filled_half="lower")
    lower["c2"].values[:] = np.stack([np.tril(c, -1) for c in C2])
    lower.to_netcdf(tmp_path / "l.nc", engine="netcdf4")
    ds = Dataset.open(tmp_path / "l.nc")
    np.testing.assert_array_equal(ds.read_block(1, slice(3, 9), slice(20, 31)), C2[1][3:9, 20:31])


def test_stream_writes_the_upper_triangle_only(tmp_path):
    calls = []

    def fill(k, rows, cols):
        calls.append((k, rows.start, cols.start))
        return C2[k][rows, cols]

    write_netcdf_stream(tmp_path / "s.nc", fill, phi=PHI, n_t=40, dt=0.1, q=0.0054, chunk_frames=16)
    assert calls == [(k, r.start, c.start) for k in range(3) for r, c in upper_tiles(40, 16)]
    with h5py.File(tmp_path / "s.nc") as file:
        assert file["c2"].id.get_num_chunks() == 3 * 6
        assert np.isnan(file["c2"][0][np.tril_indices(40, -1)]).all()
        assert file["c2"].attrs["filled_half"] == b"upper" or file["c2"].attrs["filled_half"] == "upper"
    np.testing.assert_array_equal(pairs(block(Dataset.open(tmp_path / "s.nc"), 2)), pairs(C2[2]))


def test_nothing_is_left_when_writing_fails(tmp_path):
    def fill(k, rows, cols):
        raise RuntimeError("generator stopped")

    with pytest.raises(RuntimeError, match="generator stopped"):
        write_netcdf_stream(tmp_path / "s.nc", fill, phi=PHI, n_t=40, dt=0.1, q=0.0054)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="cannot be written: its folder does not exist"):
        Dataset.from_arrays(C2, PHI, T, 0.0054).to_netcdf(tmp_path / "no" / "x.nc")


def test_npz_meshgrid_times_and_entry_point(tmp_path):
    t1, t2 = np.meshgrid(T, T, indexing="ij")
    write_npz(tmp_path / "n.npz", t1=t1, t2=t2)
    assert Dataset.open(tmp_path / "n.npz").dt == 0.1
    with xr.open_dataset(tmp_path / "n.npz", engine="homodyne_npz") as opened:
        np.testing.assert_array_equal(opened["c2"].sel(phi=-60)[4, 5:].values, C2[1][4, 5:])


def test_npz_never_unpickles(tmp_path):
    write_npz(tmp_path / "n.npz", sigma=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        Dataset.open(tmp_path / "n.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t2": None}, "lacks the arrays t2; found"),
        ({"c2_exp": C2[:2]}, "does not fit 3 angles"),
        ({"dt": 1.0}, "dt=1.0 contradicts the spacing 0.1 s of t1"),
        ({"t1": T**2, "t2": T**2, "dt": None}, "t1=.*is not uniform"),
        ({"wavevector_q_list": [-0.1]}, "must be positive"),
        ({"wavevector_q_list": [0.1, 0.2]}, "neither one entry nor one per angle"),
    ],
)
def test_bad_npz(tmp_path, changes, message):
    write_npz(tmp_path / "n.npz", **changes)
    with pytest.raises(InputError, match=message):
        Dataset.open(tmp_path / "n.npz")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.hdf' does not exist"):
        Dataset.open(tmp_path / "nowhere.hdf")


def test_truncated_hdf5(tmp_path):
    write_apsu_raw(tmp_path / "a.hdf")
    whole = (tmp_path / "a.hdf").read_bytes()
    (tmp_path / "a.hdf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot be read \(truncated or damaged\?\)"):
        Dataset.open(tmp_path / "a.hdf", q=0.0054)


def test_damaged_matrix_is_reported_when_read(tmp_path):
    write_apsu_raw(tmp_path / "a.hdf", n_t=64)
    with h5py.File(tmp_path / "a.hdf", "r") as file:
        place = file["xpcs/twotime/correlation_map/c2_00001"].id.get_chunk_info(0)
    raw = bytearray((tmp_path / "a.hdf").read_bytes())
    raw[place.byte_offset : place.byte_offset + place.size] = b"\xff" * place.size
    (tmp_path / "a.hdf").write_bytes(bytes(raw))
    with pytest.raises(InputError, match="cannot be read"):
        Dataset.open(tmp_path / "a.hdf", q=0.0054).check()


def test_unknown_formats_list_what_was_found(tmp_path):
    with h5py.File(tmp_path / "u.h5", "w") as file:
        file["entry/data/frames"] = np.zeros((4, 5))
    with pytest.raises(InputError, match=r"in no known format; found entry/data/frames\(4, 5\)"):
        Dataset.open(tmp_path / "u.h5")
    (tmp_path / "u.txt").write_text("tau g2\n")
    with pytest.raises(InputError, match=r"found 7 bytes that start with b'tau g2"):
        Dataset.open(tmp_path / "u.txt")
    with pytest.raises(InputError, match="is not a known format; use one of apsu"):
        Dataset.open(tmp_path / "u.h5", engine="nexus")
    with pytest.raises(InputError, match="has no /exchange/C2T_all; found entry"):
        Dataset.open(tmp_path / "u.h5", engine="aps_legacy")


def test_npz_that_is_not_symmetric_is_refused(tmp_path):
    """Only the upper half is fitted: a file whose halves disagree must not pass without a word."""
    write_npz(tmp_path / "n.npz")
    with np.load(tmp_path / "n.npz", allow_pickle=False) as archive:
        c2 = archive["c2_exp"].astype(float)
    c2[-1, 4, 1] += 0.3
    write_npz(tmp_path / "bad.npz", c2_exp=c2)
    with pytest.raises(InputError, match="is not symmetric at phi"):
        Dataset.open(tmp_path / "bad.npz").read_block(0, slice(0, 2), slice(0, 3))
