import itertools

import h5py
import numpy as np
import pytest
import xarray as xr

from homodyne.data import Dataset, recognize
from homodyne.data.formats.nxxpcs import NxxpcsBackend
from homodyne.errors import InputError

from .raw_files import pairs
from .raw_others import DEAD, DT, N_T, time_ordered, write_nxxpcs

MODES = ("one_array_q_first", "one_array_q_last", "data_exchange_keys")
HALVES = ("all", "upper_half", "lower_half")
ORIGINS = ("upper_left", "lower_left")
LAYOUTS = list(itertools.product(MODES, HALVES, ORIGINS, (0, 1)))


def everything(ds: Dataset, k: int) -> np.ndarray:
    return ds.read_block(k, slice(0, ds.n_t), slice(0, ds.n_t))


def layout(mode: str, half: str, origin: str, baseline: int) -> dict[str, object]:
    return {
        "storage_mode": mode, "populated_elements": half, "time_origin_location": origin, "baseline_reference": baseline,
    }  # fmt: skip


@pytest.mark.parametrize("attributes", LAYOUTS, ids=lambda a: "-".join(map(str, a)))
def test_every_layout_gives_the_same_data(tmp_path, attributes):
    write_nxxpcs(tmp_path / "n.h5", **layout(*attributes))
    assert recognize(tmp_path / "n.h5") == "nxxpcs"
    expected = time_ordered().astype(float)
    expected[1, DEAD], expected[1, :, DEAD] = np.nan, np.nan
    for q, first in ((0.005, 0), (0.007, 2)):
        ds = Dataset.open(tmp_path / "n.h5", q=q)
        assert (ds.q, ds.phi.tolist(), ds.dt, ds.n_t) == (q, [-90.0, 10.0], DT, N_T)
        for k in range(2):
            np.testing.assert_allclose(pairs(everything(ds, k)), pairs(expected[first + k]), rtol=1e-6)
        # any block is that part of the whole
        np.testing.assert_array_equal(ds.read_block(0, slice(2, 7), slice(5, 16)), everything(ds, 0)[2:7, 5:16])
    assert [
        d["frames"] for d in Dataset.open(tmp_path / "n.h5", q=0.005, phi=[10.0]).masked_counts()["dead_frames"]
    ] == []
    ds = Dataset.open(tmp_path / "n.h5", q=0.005)
    assert ds.dead_frames(1).tolist() == [DEAD]


@pytest.mark.parametrize("mode", MODES)
def test_the_same_through_xarray_with_any_index(tmp_path, mode):
    write_nxxpcs(tmp_path / "n.h5", **layout(mode, "all", "lower_left", 1))
    with xr.open_dataset(tmp_path / "n.h5", engine=NxxpcsBackend) as opened:
        assert opened["c2"].dims == ("bin", "t1", "t2")
        assert opened["c2"].attrs["filled_half"] == "upper"
        whole = time_ordered()
        np.testing.assert_array_equal(opened["c2"].values, whole)
        np.testing.assert_array_equal(opened["c2"][::2, 3:12:4, 7].values, whole[::2, 3:12:4, 7])
        np.testing.assert_array_equal(opened["c2"][2, 15, ::-3].values, whole[2, 15, ::-3])


# later columns, the half that is read where the attribute says that both are filled
READ = (("upper_half", "upper_left"), ("lower_half", "lower_left"))
WRONG = [
    (stated, true)
    for stated, true in itertools.product(itertools.product(HALVES, ORIGINS), repeat=2)
    if stated[1] != true[1] or (stated[0] != true[0] and true[0] != "all" and not (stated[0] == "all" and true in READ))
]


def smooth_map() -> np.ndarray:
    """A stationary map without noise, which has the most symmetries."""
    t = np.arange(N_T)
    return (1 + 0.3 * np.exp(-np.abs(t[:, None] - t) / 8.0))[None]


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(("half", "origin"), list(itertools.product(HALVES, ORIGINS)))
def test_attributes_are_checked_against_the_matrices(tmp_path, half, origin, smooth):
    c2 = smooth_map() if smooth else time_ordered(1)
    true = {"populated_elements": half, "time_origin_location": origin}
    write_nxxpcs(tmp_path / "n.h5", c2, **true)
    np.testing.assert_array_equal(pairs(everything(Dataset.open(tmp_path / "n.h5"), 0)), pairs(c2[0]))
    for stated in (s for s, t in WRONG if t == (half, origin)):
        path = tmp_path / ("-".join(stated) + ".h5")
        write_nxxpcs(path, c2, **true, stated=dict(zip(true, stated, strict=True)))
        wrong = Dataset.open(path)
        with pytest.raises(InputError, match=r"two_time_corr_func:(populated_elements|time_origin_location)="):
            everything(wrong, 0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("storage_mode", "other", r"storage_mode='other' is none of the layouts that can be read; set .*one_array_q_first"),
        ("storage_mode", None, r"storage_mode=None is missing"),
        ("populated_elements", None, r"populated_elements=None is missing; set .*all, upper_half, lower_half"),
        ("time_origin_location", "center", r"time_origin_location='center' is none"),
        ("baseline_reference", 2, r"baseline_reference='2' is none of .*; set this attribute .*: 0, 1"),
        ("q_units", None, r"dynamic_q_list:units=None is not a unit of q"),
        ("q_units", "NX_PER_LENGTH", r"units='NX_PER_LENGTH' is not a unit of q"),
        ("q", None, r"dynamic_q_list=None is not a list of numbers"),
        ("q", np.arange(1, 5), r"is neither q nor \(q, phi\)"),
        ("q", np.ones((4, 3)), r"is neither q nor \(q, phi\)"),
        ("q", np.array([0.005, 0.007]), r"dynamic_phi_list=4 entries do not match the 2"),
        ("phi", np.array([0.0, 10.0]), r"dynamic_phi_list=2 entries do not match the 4"),
    ],
)  # fmt: skip
def test_what_the_file_does_not_say_is_refused(tmp_path, name, value, message):
    write_nxxpcs(tmp_path / "n.h5", **{name: value})
    with pytest.raises(InputError, match=message):
        Dataset.open(tmp_path / "n.h5", q=0.005)


def test_number_of_bins_must_fit(tmp_path):
    write_nxxpcs(tmp_path / "n.h5", q=np.array([0.005, 0.007]), phi=None)
    with pytest.raises(InputError, match=r"two_time_corr_func=4 bins do not match the 2 entries"):
        Dataset.open(tmp_path / "n.h5", q=0.005)
    write_nxxpcs(tmp_path / "k.h5", storage_mode="data_exchange_keys", q=np.array([0.005, 0.007]), phi=None)
    with pytest.raises(InputError, match=r"\[1, 2, 3, 4\] are not numbers of the 2 bins"):
        Dataset.open(tmp_path / "k.h5", q=0.005)
    write_nxxpcs(tmp_path / "m.h5", storage_mode="one_array_q_first")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["entry/twotime/two_time_corr_func"].attrs["storage_mode"] = "data_exchange_keys"
    with pytest.raises(InputError, match=r"storage_mode='data_exchange_keys' does not fit an array"):
        Dataset.open(tmp_path / "m.h5", q=0.005)


def test_keys_name_bins_that_were_correlated(tmp_path):
    write_nxxpcs(tmp_path / "n.h5", storage_mode="data_exchange_keys")
    with h5py.File(tmp_path / "n.h5", "a") as file:
        group = file["entry/twotime/two_time_corr_func"]
        del group["c2_1"]
        for name, value in dict(group.attrs).items():  # attributes at the members
            del group.attrs[name]
            for member in group.values():
                member.attrs[name] = value
    ds = Dataset.open(tmp_path / "n.h5", q=0.005)
    assert ds.phi.tolist() == [10.0]
    assert ds.read_block(0, slice(2, 3), slice(8, 9))[0, 0] == time_ordered()[1, 2, 8]


@pytest.mark.parametrize(
    ("units", "factor"), [("1/nm", 10.0), ("nm^-1", 10.0), ("1/m", 1e10), ("1/Å", 1.0), ("angstrom^-1", 1.0)]
)
def test_units_of_q(tmp_path, units, factor):
    write_nxxpcs(tmp_path / "n.h5", q=factor * np.array([0.005, 0.005, 0.007, 0.007]), q_units=units)
    assert Dataset.open(tmp_path / "n.h5", q=0.005).q == pytest.approx(0.005, rel=1e-12)


def test_phi_in_radians_degrees_or_unknown(tmp_path):
    phi = np.array([-90.0, 10.0, -90.0, 10.0])
    write_nxxpcs(tmp_path / "r.h5", phi=np.radians(phi), phi_units="rad")
    np.testing.assert_allclose(Dataset.open(tmp_path / "r.h5", q=0.005).phi, [-90.0, 10.0])
    # the definition itself states a unit of q here; values beyond 2 pi are degrees
    write_nxxpcs(tmp_path / "d.h5", phi_units="1/Å")
    assert Dataset.open(tmp_path / "d.h5", q=0.005).phi.tolist() == [-90.0, 10.0]
    write_nxxpcs(tmp_path / "u.h5", phi=np.radians(phi), phi_units=None)
    with pytest.raises(InputError, match=r"dynamic_phi_list=.* may be degrees, radians or no angles"):
        Dataset.open(tmp_path / "u.h5", q=0.005)
    write_nxxpcs(tmp_path / "t.h5", q=np.column_stack([[0.005, 0.005, 0.007, 0.007], phi]), phi=None)
    assert Dataset.open(tmp_path / "t.h5", q=0.007).phi.tolist() == [-90.0, 10.0]


def test_frame_time_with_unit_and_what_makes_it_useless(tmp_path):
    write_nxxpcs(tmp_path / "m.h5", frame_time=20.0, time_units="ms")
    assert Dataset.open(tmp_path / "m.h5", q=0.005).dt == pytest.approx(0.02)
    for name, changes, message in (
        ("s.h5", {"frame_sum": 4}, r"dataset.dt=None is not usable: frame_sum = 4"),
        ("u.h5", {"time_units": "minute"}, r"unknown unit 'minute'"),
        ("n.h5", {"frame_time": None}, r"not in the file: frame_time is missing; set dataset.dt"),
    ):
        write_nxxpcs(tmp_path / name, **changes)
        with pytest.raises(InputError, match=message):
            Dataset.open(tmp_path / name, q=0.005)
        assert Dataset.open(tmp_path / name, q=0.005, dt=0.08).dt == 0.08
    write_nxxpcs(tmp_path / "two.h5")
    with h5py.File(tmp_path / "two.h5", "a") as file:
        file["entry/instrument/detector_2/frame_time"] = 0.5
    with pytest.raises(InputError, match="several detectors"):
        Dataset.open(tmp_path / "two.h5", q=0.005)


def test_pixels_of_the_roi_map(tmp_path):
    roi = np.array([[0, 1, 1, 1], [2, 2, 3, 4]])
    write_nxxpcs(tmp_path / "n.h5", roi_map=roi)
    assert Dataset.open(tmp_path / "n.h5", q=0.005).attrs["pixels"] == [3, 2]


def test_entries(tmp_path):
    write_nxxpcs(tmp_path / "n.h5", entry="scan_12")
    assert Dataset.open(tmp_path / "n.h5", q=0.005).engine == "nxxpcs"
    write_nxxpcs(tmp_path / "n.h5", entry="scan_13")
    with pytest.raises(InputError, match=r"in 2 entries: scan_12, scan_13; copy the one"):
        Dataset.open(tmp_path / "n.h5", q=0.005)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["entry/definition"], file["entry/data/g2"] = "NXxpcs", np.ones((3, 2))
    with pytest.raises(InputError, match=r"has no /<entry>/twotime/two_time_corr_func .*found .*entry/data/g2"):
        Dataset.open(tmp_path / "e.h5")
