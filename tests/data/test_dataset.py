import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from homodyne.data import Dataset, from_mapping
from homodyne.data.blocks import upper_tiles
from homodyne.errors import InputError

from .raw_files import matrix, pairs, write_apsu_raw

N_T = 30
PHI = np.array([30.0, -60.0, 0.0])
C2 = np.stack([matrix(s, N_T) for s in (1, 2, 3)])
T = 0.1 * np.arange(N_T)
Q = 0.0054


def block(ds: Dataset, k: int) -> np.ndarray:
    return ds.read_block(k, slice(0, ds.n_t), slice(0, ds.n_t))


def changed(**values):
    return {"c2": C2, "phi": PHI, "t": T, "q": Q} | values


def test_arrays_are_read_as_views():
    ds = Dataset.from_arrays(C2, PHI, T, Q)
    part = ds.read_block(1, slice(2, 9), slice(5, 20))
    assert np.shares_memory(part, C2)
    np.testing.assert_array_equal(part, C2[1, 2:9, 5:20])


def test_attributes_and_counts():
    ds = Dataset.from_arrays(C2, PHI, T + 7.0, Q, gap=2e6)
    assert (ds.n_phi, ds.n_t, ds.q, ds.gap) == (3, N_T, Q, 2e6)
    np.testing.assert_allclose(ds.t, T)
    lag = np.subtract.outer(np.arange(N_T), np.arange(N_T)).T
    assert [ds.n_points(m) for m in (1, 4, 40)] == [3 * (lag >= 1).sum(), 3 * (lag >= 4).sum(), 0]


@pytest.mark.parametrize("lower", [0.0, np.nan])
def test_empty_lower_half_is_accepted_and_gives_the_same(lower):
    half = np.where(np.tri(N_T, k=-1, dtype=bool), np.float32(lower), C2)
    a, b = Dataset.from_arrays(half, PHI, T, Q), Dataset.from_arrays(C2, PHI, T, Q)
    np.testing.assert_array_equal(pairs(block(a, 2)), pairs(block(b, 2)))
    np.testing.assert_array_equal(a.sigma, b.sigma)


def asymmetric():
    c2 = C2.copy()
    c2[1, 3, 20] += 0.5
    return c2


def without(value):
    c2 = C2.copy()
    c2[1] = value
    return c2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"c2": C2[0]}, "does not have three dimensions"),
        ({"c2": C2[:, :, :20]}, "is not square in t1 and t2"),
        ({"c2": C2[:2]}, "does not fit the 3 angles"),
        ({"c2": C2[:, :20, :20]}, "does not fit the 30 times of t"),
        ({"c2": asymmetric()}, r"is not symmetric at phi=-60: frames \(3, 20\) and \(20, 3\) differ"),
        ({"c2": np.tril(C2)}, "is filled below the diagonal only"),
        ({"c2": C2.astype(complex)}, "is not an array of real numbers"),
        ({"c2": without(np.nan)}, r"phi=-60\.0 has no valid point"),
        ({"c2": without(0.0)}, r"phi=-60\.0 has no valid point"),
        ({"t": np.r_[T[:-1], 99.0]}, "t=.*is not uniform"),
        ({"t": T[::-1]}, "is not increasing"),
        ({"t": np.zeros(N_T)}, "is not increasing"),
        ({"t": T * np.nan}, "is not increasing"),
        ({"t": [0.0, 1.0]}, "fewer than three times"),
        ({"q": -0.0054}, r"q=-0\.0054 must be positive"),
        ({"q": np.nan}, "q=nan must be positive"),
        ({"gap": 0.0}, r"gap=0\.0 must be positive"),
        ({"phi": [0.0, np.nan, 1.0]}, "is not a list of finite angles"),
        ({"sigma": 0.0}, r"sigma=0\.0 must be positive"),
        ({"sigma": [0.1, -0.1, 0.1]}, r"sigma=-0\.1 must be positive"),
        ({"sigma": [0.1, 0.1]}, "does not fit the 3 angles"),
        ({"sigma": np.ones((3, 5, 5))}, "does not fit c2 of shape"),
        ({"sigma": -np.ones((3, N_T, N_T))}, "must not be negative"),
    ],
)
def test_bad_arrays(values, message):
    with pytest.raises(InputError, match=message):
        Dataset.from_arrays(**changed(**values))


def test_sigma_keeps_its_angle_for_unsorted_phi(tmp_path):
    ds = Dataset.from_arrays(C2, PHI, T, Q, sigma=np.array([0.1, 0.2, 0.3]))
    assert ds.sigma_source == "given per angle"
    ds.to_netcdf(tmp_path / "x.nc")
    again = Dataset.open(tmp_path / "x.nc", phi=[0.0, 30.0])
    assert again.phi.tolist() == [30.0, 0.0]
    assert again.sigma.tolist() == [0.1, 0.3]
    assert Dataset.from_arrays(C2, PHI, T, Q, sigma=0.5).sigma.tolist() == [0.5] * 3


def test_sigma_per_point_masks_zero_and_nan(tmp_path):
    sigma = np.full(C2.shape, 0.2)
    sigma[0, 2, 5], sigma[0, 3, 6] = 0.0, np.nan
    ds = Dataset.from_arrays(C2, PHI, T, Q, sigma=sigma)
    ds.to_netcdf(tmp_path / "x.nc")
    for source in (ds, Dataset.open(tmp_path / "x.nc")):
        values, weights = block(source, 0), source.read_sigma(0, slice(0, N_T), slice(0, N_T))
        assert np.isnan(values[[2, 3], [5, 6]]).all()
        assert np.isnan(pairs(values)).sum() == 2
        assert weights[2, 5] == weights[3, 6] == 1.0
        assert weights[2, 6] == pytest.approx(0.2)
        assert source.sigma.tolist() == [1.0, 1.0, 1.0]
        assert source.sigma_source == "given per point"
    assert ds.masked_counts(full=True) == {"nan": 2, "sigma_zero": 2, "dead_frames": []}
    assert ds.masked_counts()["nan"] == 2


def test_masked_counts_are_unknown_before_a_pass():
    assert Dataset.from_arrays(C2, PHI, T, Q).masked_counts() == {"nan": None, "sigma_zero": None, "dead_frames": []}


@pytest.mark.parametrize("half", [True, False])
def test_frames_without_counts_are_masked_and_reported(half):
    c2 = C2.copy()
    dead = [0, 7, 8, N_T - 1]
    c2[1, dead], c2[1][:, dead] = 0.0, 0.0
    ds = Dataset.from_arrays(np.triu(c2) if half else c2, PHI, T, Q)
    values = block(ds, 1)
    assert np.isnan(values[dead]).all()
    assert np.isnan(values[:, dead]).all()
    alive = np.setdiff1d(np.arange(N_T), dead)
    np.testing.assert_array_equal(pairs(values[np.ix_(alive, alive)]), pairs(C2[1][np.ix_(alive, alive)]))
    part = ds.read_block(1, slice(6, 9), slice(10, 20))
    assert np.isnan(part).sum(axis=1).tolist() == [0, 10, 10]
    assert ds.masked_counts()["dead_frames"] == [{"q": Q, "phi": -60.0, "frames": dead}]


def test_single_zeros_are_data():
    c2 = C2.copy()
    c2[0, 4, 9] = c2[0, 9, 4] = 0.0
    assert block(Dataset.from_arrays(c2, PHI, T, Q), 0)[4, 9] == 0.0


def test_blocks_do_not_depend_on_the_window_or_the_tiles(tmp_path):
    data = write_apsu_raw(tmp_path / "a.hdf", n_t=50)
    ds = Dataset.open(tmp_path / "a.hdf", q=Q, frames=[11, 40])
    assert (ds.n_t, ds.attrs["frames"], ds.t[0]) == (30, (11, 40), 0.0)
    assembled = np.full((30, 30), np.nan, np.float32)
    for rows, cols in upper_tiles(30, 7):
        assembled[rows, cols] = ds.read_block(0, rows, cols)
    np.testing.assert_array_equal(pairs(assembled), pairs(data[0][10:40, 10:40]))


def test_merged_angles(tmp_path):
    data = write_apsu_raw(tmp_path / "a.hdf", phi=[10.0, -35.0, 0.0, 10.6])
    whole = slice(0, 24)
    for how, expected in (("average", (data[0] + data[1]) / 2), ("drop", data[0])):
        ds = Dataset.open(tmp_path / "a.hdf", q=Q, angle_merge=how)
        assert ds.n_phi == 1
        np.testing.assert_allclose(pairs(ds.read_block(0, whole, whole)), pairs(expected), rtol=1e-6)
        assert ds.attrs["merged_angles"] == [{"how": how, "q": pytest.approx(Q), "phi": [10.0, 10.6]}]
    assert Dataset.open(tmp_path / "a.hdf", q=Q, angle_merge="average").phi[0] == pytest.approx(10.3)


def test_dt_given_and_dt_of_the_file(tmp_path):
    write_apsu_raw(tmp_path / "a.hdf")
    assert Dataset.open(tmp_path / "a.hdf", q=Q, dt=0.12).dt == 0.12
    with pytest.raises(InputError, match=r"dataset\.dt=0\.02 differs from dt=0\.119999\d* s of the file \(frame_time"):
        Dataset.open(tmp_path / "a.hdf", q=Q, dt=0.02)
    ds = Dataset.open(tmp_path / "a.hdf", q=Q, dt=0.02, dt_override=True)
    assert ds.dt == 0.02
    assert "replacing" in ds.attrs["dt_source"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt": -0.1}, r"dataset\.dt=-0\.1 must be positive"),
        ({"gap": 0}, r"dataset\.gap_angstrom=0\.0 must be positive"),
        ({"q": 0.0}, r"dataset\.q=0\.0 must be positive"),
        ({"q": 0.02}, "available q .*0.0054, 0.007"),
        ({"phi": [45.0]}, "available phi .*170, -175"),
        ({"frames": [1, 1000]}, "does not fit the 24 frames"),
        ({"sigma": [0.1]}, "does not fit the 2 angles"),
    ],
)
def test_bad_selections(tmp_path, options, message):
    write_apsu_raw(tmp_path / "a.hdf")
    with pytest.raises(InputError, match=message):
        Dataset.open(tmp_path / "a.hdf", **{"q": Q, **options})


def test_angle_without_data_is_found_by_check_and_by_sigma(tmp_path):
    import h5py

    write_apsu_raw(tmp_path / "a.hdf")
    with h5py.File(tmp_path / "a.hdf", "a") as file:
        file["xpcs/twotime/correlation_map/c2_00002"][...] = np.nan
    ds = Dataset.open(tmp_path / "a.hdf", q=Q)
    with pytest.raises(InputError, match=r"phi=-175\.0 has no valid point"):
        ds.check()
    with pytest.raises(InputError, match=r"phi=-175\.0 has no valid point"):
        _ = ds.sigma


def test_to_xarray_is_lazy_and_labeled():
    c2 = C2.copy()
    c2[0, 5], c2[0][:, 5] = 0.0, 0.0
    x = Dataset.from_arrays(c2, PHI, T, Q, gap=2e6).to_xarray()
    assert x["c2"].dims == ("phi", "t1", "t2")
    assert [x[name].attrs["units"] for name in ("phi", "q", "t1")] == ["degree", "1/angstrom", "s"]
    assert x.attrs["gap"] == 2e6
    assert np.isnan(x["c2"][0, 5].values).all()
    np.testing.assert_array_equal(x["c2"].sel(phi=-60)[3:9:2, 20:10:-3].values, C2[1][3:9:2, 20:10:-3])
    np.testing.assert_array_equal(x["c2"][1:, 4, 6:8].values, C2[1:, 4, 6:8])


def test_fingerprint_follows_the_selection_not_the_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Dataset.from_arrays(C2, PHI, T, Q).to_netcdf(tmp_path / name / "x.nc")
    a = Dataset.open(tmp_path / "a" / "x.nc").fingerprint()
    assert a["bytes"] == (tmp_path / "a" / "x.nc").stat().st_size
    assert a["phi"] == PHI.tolist()
    assert a["metadata_sha256"] == Dataset.open(tmp_path / "b" / "x.nc").fingerprint()["metadata_sha256"]
    assert a["metadata_sha256"] != Dataset.open(tmp_path / "a" / "x.nc", phi=[0.0]).fingerprint()["metadata_sha256"]


def test_describe_says_what_is_missing(tmp_path):
    write_apsu_raw(tmp_path / "a.hdf")
    said = Dataset.open(tmp_path / "a.hdf", q=Q).describe()
    assert "24 frames (1 to 24), dt = 0.12 s from frame_time" in said
    assert "missing: gap (dataset.gap_angstrom" in said


def test_threads_and_pickles_read_the_same(tmp_path):
    write_apsu_raw(tmp_path / "a.hdf", n_t=64)
    Dataset.open(tmp_path / "a.hdf", q=Q).to_netcdf(tmp_path / "x.nc")
    for name in ("a.hdf", "x.nc"):
        ds = Dataset.open(tmp_path / name, q=Q)
        jobs = [(k, r, c) for k in range(2) for r, c in upper_tiles(64, 16)] * 5
        expected = [ds.read_block(*job).copy() for job in jobs]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda job, ds=ds: ds.read_block(*job), jobs))
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds)).read_block(*jobs[0]), expected[0])


def test_mapping():
    data = {
        "phi_angles_list": PHI,
        "c2_exp": C2,
        "t1": T,
        "t2": T,
        "wavevector_q_list": [Q],
        "sigma": 0.1,
        "L": 2e6,
        "dt": 0.1,
    }
    ds = from_mapping(data)
    assert (ds.dt, ds.gap, ds.q, ds.sigma.tolist()) == (pytest.approx(0.1), 2e6, Q, [0.1] * 3)
    with pytest.raises(InputError, match="lacks c2_exp, t2"):
        from_mapping({k: v for k, v in data.items() if k not in ("c2_exp", "t2")})
    with pytest.raises(InputError, match=r"dt=1\.0 contradicts the spacing 0\.1 s"):
        from_mapping({**data, "dt": 1.0})
    with pytest.raises(InputError, match="does not fit the 3 matrices"):
        from_mapping({**data, "wavevector_q_list": [0.1, 0.2]})
    assert from_mapping({**data, "wavevector_q_list": [0.1, 0.1, 0.2]}).q.tolist() == [0.1, 0.1, 0.2]
