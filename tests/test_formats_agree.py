"""The same numbers from every kind of file: a fit does not depend on how its data were stored."""

import functools
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import homodyne
from homodyne.data import write_aps_legacy, write_apsu
from homodyne.models import get_model
from homodyne.simulate import two_time

from .data.raw_others import write_nxxpcs, write_pychx

Q, OTHER_Q, DT, N_T = 0.0054, 0.0036, 0.1, 60
PHI = np.array([-35.0, 10.0, 170.0])
T = DT * np.arange(N_T)
THETA = {"D0": 9e3, "alpha": -0.5, "D_offset": 0.0}


def maps(q: float, n_phi: int, seed: int) -> np.ndarray:
    values = two_time(
        get_model("static"), THETA, phi=np.arange(n_phi), t=T, q=q, gap=None,
        contrast=0.25 + 0.02 * np.arange(n_phi), offset=1.0 + 0.01 * np.arange(n_phi), noise=0.01, seed=seed,
    )  # fmt: skip
    return np.asarray(values, dtype=np.float32)


C2, OTHER = maps(Q, 3, 1), maps(OTHER_Q, 2, 2)


def write_apsu_file(path: Path) -> None:
    """2 rings x 4 sectors, unsorted; a cell without pixels in each ring, and a bin that was not processed."""
    grid = np.array([170.0, -35.0, 90.0, 10.0])
    cells = [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1), (1, 3)]
    c2 = np.concatenate([OTHER, C2[[2, 0, 1]]])
    write_apsu(path, c2, q=np.array([OTHER_Q, Q]), phi=grid, cells=cells, frame_time_s=DT, processed=[1, 3, 4, 5, 6])


def write_aps_legacy_file(path: Path) -> None:
    """One entry per bin, rings interleaved; a bin of each ring was not processed."""
    q = [Q, OTHER_Q, Q, Q, OTHER_Q, OTHER_Q, Q]
    phi = [170.0, 170.0, 60.0, -35.0, 60.0, 10.0, 10.0]
    c2 = np.stack([C2[2], OTHER[0], C2[0], OTHER[1], C2[1]])
    write_aps_legacy(path, c2, q=q, phi=phi, exposure_period_s=DT, processed=[1, 2, 4, 6, 7])


def write_npz_file(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, phi_angles_list=PHI, c2_exp=C2, t1=T, t2=T, wavevector_q_list=[Q], dt=DT)


def write_zarr_file(path: Path) -> None:
    coordinates = {"phi": ("phi", PHI, {"units": "degree"}), "t1": ("t1", T, {"units": "s"}), "t2": ("t2", T), "q": Q}
    xr.Dataset({"c2": (("phi", "t1", "t2"), C2.copy())}, coordinates).to_zarr(path, consolidated=False)


def write_nxxpcs_file(path: Path) -> None:
    """Rows run back in time, the lower half of the picture is filled; rings interleaved."""
    write_nxxpcs(
        path, np.stack([C2[2], OTHER[0], C2[0], OTHER[1], C2[1]]), q=np.array([Q, OTHER_Q, Q, OTHER_Q, Q]),
        phi=np.array([170.0, 170.0, -35.0, 60.0, 10.0]), frame_time=DT, time_origin_location="lower_left",
        populated_elements="lower_half", storage_mode="data_exchange_keys",
    )  # fmt: skip


def write_pychx_file(path: Path) -> None:
    values = {"0": [Q, -35.0], "1": [OTHER_Q, 60.0], "2": [Q, 170.0], "3": [Q, 10.0], "4": [OTHER_Q, 10.0]}
    write_pychx(path, np.stack([C2[0], OTHER[0], C2[2], C2[1], OTHER[1]]), values=values, frame_time=DT)


WRITERS = {
    "apsu": write_apsu_file,
    "aps_legacy": write_aps_legacy_file,
    "nxxpcs": write_nxxpcs_file,
    "pychx": write_pychx_file,
    "netcdf": lambda path: homodyne.Dataset.from_arrays(C2, PHI, T, Q).to_netcdf(path),
    "npz": write_npz_file,
    "zarr": write_zarr_file,
}


def fitted(dataset: homodyne.Dataset) -> homodyne.FitResult:
    return homodyne.fit(dataset, model="static", start={"D0": 7e3, "alpha": -0.4}, fixed={"D_offset": 0.0})


@functools.cache
def fit_of_arrays(order: tuple[int, ...]) -> homodyne.FitResult:
    """The fit of the same maps from memory, angles in the given order."""
    return fitted(homodyne.Dataset.from_arrays(C2[list(order)], PHI[list(order)], T, Q))


@pytest.fixture(scope="module")
def expected():
    return fit_of_arrays((0, 1, 2))


def test_the_reference_is_a_fit(expected):
    assert expected.converged
    assert abs(expected.theta["D0"] - THETA["D0"]) < 4 * expected.stderr["D0"]


@pytest.mark.parametrize("engine", WRITERS)
def test_every_file_gives_the_same_fit(tmp_path, expected, engine):
    WRITERS[engine](tmp_path / "data")
    dataset = homodyne.Dataset.open(tmp_path / "data", q=Q)
    assert dataset.engine == engine
    result = fitted(dataset)
    order = np.argsort(result.phi)  # PHI ascends
    np.testing.assert_array_equal(result.phi[order], PHI)
    for name in ("D0", "alpha"):
        assert result.theta[name] == pytest.approx(expected.theta[name], rel=1e-12)
        assert result.stderr_by("iid")[name] == pytest.approx(expected.stderr_by("iid")[name], rel=1e-9)
    # random numbers belong to the place of an angle in the file
    alike = fit_of_arrays(tuple(int(np.flatnonzero(p == PHI)[0]) for p in result.phi))
    assert result.covariance_method == "speckle"
    for name in ("D0", "alpha"):
        assert result.stderr[name] == pytest.approx(alike.stderr[name], rel=1e-9)
    assert result.findings == alike.findings
    assert result.warnings == alike.warnings
    np.testing.assert_allclose(result.contrast[order], expected.contrast, rtol=1e-11)
    np.testing.assert_allclose(result.offset[order], expected.offset, rtol=1e-12)
    assert result.n_points == expected.n_points
