import h5py
import numpy as np
import pytest
import xarray as xr

import homodyne
from homodyne.data import Dataset, recognize
from homodyne.data.formats import stacks
from homodyne.data.formats.pychx import PychxBackend
from homodyne.errors import InputError
from homodyne.models import get_model
from homodyne.optimization.directions import require_directions

from .raw_files import pairs
from .raw_others import DT, N_T, time_ordered, write_pychx

Q_ONLY = {"0": [0.005], "1": [0.006], "2": [0.007], "3": [0.008]}
LAYOUTS = [{}, {"chunks": (8, 8, 1)}, {"chunks": (N_T, N_T, 4), "compression": "gzip"}]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["contiguous", "chunks", "one compressed chunk"])
@pytest.mark.parametrize("mapped_bytes", [1, 1 << 24])
def test_matrices_with_q_last(tmp_path, monkeypatch, layout, mapped_bytes):
    monkeypatch.setattr(stacks, "MAPPED_BYTES", mapped_bytes)
    c2 = time_ordered()
    write_pychx(tmp_path / "uid=d99ee9_Res.h5", layout=layout)
    assert recognize(tmp_path / "uid=d99ee9_Res.h5") == "pychx"
    ds = Dataset.open(tmp_path / "uid=d99ee9_Res.h5", q=0.007)
    assert (ds.engine, ds.q, ds.phi.tolist(), ds.dt, ds.n_t) == ("pychx", 0.007, [-90.0, 10.0], DT, N_T)
    assert ds.attrs["uid"] == "d99ee9"
    for k in range(2):
        np.testing.assert_array_equal(pairs(ds.read_block(k, slice(0, N_T), slice(0, N_T))), pairs(c2[2 + k]))
    np.testing.assert_array_equal(ds.read_block(1, slice(3, 9), slice(5, 18)), c2[3, 3:9, 5:18])
    with xr.open_dataset(tmp_path / "uid=d99ee9_Res.h5", engine=PychxBackend) as opened:
        np.testing.assert_array_equal(opened["c2"].values, c2)  # the raw diagonal as well
        np.testing.assert_array_equal(opened["c2"][1::2, 2:15:3, ::-1].values, c2[1::2, 2:15:3, ::-1])
        np.testing.assert_array_equal(opened["c2"][0, 4:4, 3].values, c2[0, 4:4, 3])


def test_frames_without_counts(tmp_path):
    write_pychx(tmp_path / "p.h5")
    assert Dataset.open(tmp_path / "p.h5", q=0.005).dead_frames(1).tolist() == [13]


def test_without_directions_only_models_without_them_are_fitted(tmp_path):
    write_pychx(tmp_path / "p.h5", values=Q_ONLY)
    ds = Dataset.open(tmp_path / "p.h5", q=0.006, gap=2e6)
    assert ds.phi.tolist() == [0.0]
    assert "no directions: averaged over all of them" in ds.describe()
    ds.to_netcdf(tmp_path / "c.nc")
    for dataset in (ds, Dataset.open(tmp_path / "c.nc")):  # known after conversion too
        with pytest.raises(InputError, match=r"dataset.phi=None is missing: .* averaged over all directions.*static"):
            homodyne.fit(dataset, "laminar_flow")
        require_directions(dataset, get_model("static"))
    with_phi = Dataset.from_arrays(time_ordered(1), [0.0], DT * np.arange(N_T), 0.006, gap=2e6)
    require_directions(with_phi, get_model("laminar_flow"))


def test_bins_without_gaps_and_one_for_every_matrix(tmp_path):
    write_pychx(tmp_path / "p.h5", values={str(n + 1): v for n, v in enumerate(Q_ONLY.values())})  # counted from 1
    assert Dataset.open(tmp_path / "p.h5", q=0.008).q == 0.008
    ten = {str(n): [0.001 * (n + 1)] for n in range(12)}
    write_pychx(tmp_path / "t.h5", time_ordered(12), values=ten)  # ordered as numbers, not as text
    ds = Dataset.open(tmp_path / "t.h5", q=0.003, q_tolerance=0.01)
    assert ds.read_block(0, slice(0, 1), slice(5, 6))[0, 0] == time_ordered(12)[2, 0, 5]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**Q_ONLY, "4": [0.009]}, r"qval_dict=5 entries do not match the 4 matrices"),
        ({"0": [0.005], "1": [0.006], "3": [0.007], "4": [0.008]}, r"\[0, 1, 3, 4\] does not number the bins without gaps"),
        ({"0": [0.005, 1, 2]}, r"\[3\] values per bin are neither q nor \(q, phi\)"),
        ({**Q_ONLY, "3": [0.005, 20.0]}, r"\[1, 2\] values per bin are neither"),
        ({"a": [0.005]}, r"qval_dict='a' is not the number of a bin"),
        # grazing incidence: q parallel and perpendicular to the surface
        ({str(k): [0.005, 0.1 + 0.02 * k] for k in range(4)}, r"may be degrees, radians or no angles at all"),
    ],
)  # fmt: skip
def test_bins_that_cannot_be_attached_are_refused(tmp_path, values, message):
    write_pychx(tmp_path / "p.h5", values=values)
    with pytest.raises(InputError, match=message):
        Dataset.open(tmp_path / "p.h5", q=0.005)


def test_frame_time_must_agree_with_the_delays(tmp_path):
    write_pychx(tmp_path / "a.h5", tausb=DT * np.array([0, 1, 2, 5, 9]), values=Q_ONLY)
    assert Dataset.open(tmp_path / "a.h5", q=0.005).dt == DT
    write_pychx(tmp_path / "b.h5", tausb=4 * DT * np.arange(6), values=Q_ONLY)  # four frames were binned
    with pytest.raises(InputError, match=r"frame_time = 0.02 s, but the delays .* begin with 0.08 s; set dataset.dt"):
        Dataset.open(tmp_path / "b.h5", q=0.005)
    assert Dataset.open(tmp_path / "b.h5", q=0.005, dt=0.08).dt == 0.08
    write_pychx(tmp_path / "n.h5", frame_time=None, values=Q_ONLY)
    with pytest.raises(InputError, match="frame_time is missing"):
        Dataset.open(tmp_path / "n.h5", q=0.005)
    write_pychx(tmp_path / "s.h5", frame_time="0.02", values=Q_ONLY)
    assert Dataset.open(tmp_path / "s.h5", q=0.005).dt == DT


def test_no_two_time_results(tmp_path):
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["g2"] = np.ones((5, 2))
    with pytest.raises(InputError, match=r"lacks /g12b or /qval_dict; found g2\(5, 2\)"):
        Dataset.open(tmp_path / "g.h5", engine="pychx")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["g12b"], file["qval_dict"] = np.ones((5, 4, 2)), 0
    with pytest.raises(InputError, match=r"qval_dict=\[\] does not number"):
        Dataset.open(tmp_path / "s.h5")
