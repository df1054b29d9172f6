import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from homodyne.cli import convert, inspect_file
from homodyne.data import Dataset, write_apsu
from homodyne.data.repetitions import files_of
from homodyne.errors import InputError

PHI, DT, N_T = [0.0, 60.0, 60.4], 0.1, 24
WHOLE = slice(0, N_T)
UPPER = np.triu_indices(N_T, 1)


def maps(seed: int, n_t: int = N_T) -> np.ndarray:
    upper = np.triu(1.0 + 0.1 * np.random.default_rng(seed).random((3, n_t, n_t)), 1)
    return (upper + upper.transpose(0, 2, 1)).astype(np.float32)


def write(path: Path, c2: np.ndarray, **changes: object) -> None:
    parts = {"q": [0.0054], "phi": PHI, "frame_time_s": DT, "pixels": [100, 200, 300]} | changes
    cells = [(0, k) for k in range(len(PHI))]
    write_apsu(path, c2, cells=cells, **{**parts, "q": np.array(parts["q"]), "phi": np.array(parts["phi"])})


@pytest.fixture
def runs(tmp_path):
    """Three repetitions; in the second, frame 5 of the first angle has no counts."""
    data = [maps(seed) for seed in range(3)]
    data[1][0, 5], data[1][0, :, 5] = 0.0, 0.0
    for n, c2 in enumerate(data):
        write(tmp_path / f"run_{n}.hdf", c2)
    return tmp_path, np.array(data, dtype=float)


def test_mean_of_files_block_by_block(runs):
    folder, data = runs
    expected = data.mean(0)
    expected[0, 5], expected[0, :, 5] = np.nan, np.nan  # invalid where any is: all points have the noise of three
    by_list = Dataset.open([folder / f"run_{n}.hdf" for n in range(3)])
    for ds in (
        by_list,
        Dataset.open(f"{folder}/run_*.hdf"),
        Dataset.open([f"{folder}/run_[01].hdf", f"{folder}/run_2.hdf"]),
    ):
        assert (ds.n_repetitions, ds.phi.tolist(), ds.dt, ds.n_t) == (3, PHI, DT, N_T)
        for k in range(3):
            np.testing.assert_allclose(ds.read_block(k, WHOLE, WHOLE)[UPPER], expected[k][UPPER], rtol=1e-6)
        np.testing.assert_allclose(ds.read_block(1, slice(3, 9), slice(12, 20)), expected[1, 3:9, 12:20], rtol=1e-6)
    assert by_list.dead_frames(0).tolist() == [5]
    assert by_list.attrs["pixels"] == [300, 600, 900]
    assert by_list.attrs["bytes"] == sum(p.stat().st_size for p in folder.glob("run_*.hdf"))
    assert "mean of 3 repetitions: " in by_list.describe()
    assert "n_repetitions" not in Dataset.open(folder / "run_0.hdf").attrs
    np.testing.assert_array_equal(by_list.sectors([2]).read_block(0, WHOLE, WHOLE), by_list.read_block(2, WHOLE, WHOLE))


def test_window_and_merged_angles(runs):
    folder, data = runs
    ds = Dataset.open(f"{folder}/run_*.hdf", frames=[8, 20], angle_merge="average", phi=[[50, 70]])
    assert (ds.n_phi, ds.n_t) == (1, 13)
    expected = data[:, 1:, 7:20, 7:20].mean((0, 1))
    np.testing.assert_allclose(ds.read_block(0, slice(0, 13), slice(0, 13))[0, 1:], expected[0, 1:], rtol=1e-6)
    each = ds.repetitions()
    np.testing.assert_allclose(
        each[2].read_block(0, slice(0, 1), slice(1, 9)), data[2, 1:, 7:8, 8:16].mean(0), rtol=1e-6
    )


def test_every_repetition_with_the_frames_and_weights_of_the_mean(runs):
    folder, data = runs
    mean = Dataset.open(f"{folder}/run_*.hdf")
    each = mean.repetitions()
    assert [ds.path.name for ds in each] == ["run_0.hdf", "run_1.hdf", "run_2.hdf"]
    for ds, c2 in zip(each, data, strict=True):
        block = ds.read_block(0, WHOLE, WHOLE)
        assert np.isnan(block[5, 6:]).all()
        np.testing.assert_array_equal(block[8, 9:], c2[0, 8, 9:])
        np.testing.assert_array_equal(ds.sigma, mean.sigma)
    assert Dataset.open(folder / "run_0.hdf").repetitions() == ()


def test_fingerprint_names_all_files(runs):
    folder, _ = runs
    two, three = Dataset.open([folder / "run_0.hdf", folder / "run_1.hdf"]), Dataset.open(f"{folder}/run_*.hdf")
    facts = three.fingerprint()
    assert facts["n_repetitions"] == 3
    assert [Path(p).name for p in facts["repetitions"]] == ["run_0.hdf", "run_1.hdf", "run_2.hdf"]
    assert facts["metadata_sha256"] != two.fingerprint()["metadata_sha256"]
    json.dumps(facts)


def test_sigma_of_the_mean(tmp_path):
    t = DT * np.arange(N_T)
    for n in range(4):
        sigma = np.full((3, N_T, N_T), 0.2 + 0.1 * n)
        sigma[0, 3, 9] = 0.0
        Dataset.from_arrays(maps(n), PHI, t, 0.0054, sigma=np.array([0.3, 0.4, 0.5 + n])).to_netcdf(
            tmp_path / f"angle_{n}.nc"
        )
        Dataset.from_arrays(maps(n), PHI, t, 0.0054, sigma=sigma).to_netcdf(tmp_path / f"point_{n}.nc")
        Dataset.from_arrays(maps(n), PHI, t, 0.0054).to_netcdf(tmp_path / f"none_{n}.nc")
    per_angle = Dataset.open(f"{tmp_path}/angle_*.nc")
    np.testing.assert_allclose(per_angle.sigma, [0.15, 0.2, np.sqrt(np.sum((0.5 + np.arange(4.0)) ** 2)) / 4])
    per_point = Dataset.open(f"{tmp_path}/point_*.nc")
    expected = np.sqrt(np.sum((0.2 + 0.1 * np.arange(4)) ** 2)) / 4
    assert per_point.read_sigma(1, slice(2, 3), slice(9, 10))[0, 0] == pytest.approx(expected, rel=1e-6)
    assert np.isnan(per_point.read_block(0, slice(3, 4), slice(9, 10))[0, 0])
    assert Dataset.open(f"{tmp_path}/none_*.nc", sigma=0.07).sigma.tolist() == [0.07] * 3
    single, mean = Dataset.open(tmp_path / "none_0.nc").sigma, Dataset.open(f"{tmp_path}/none_*.nc").sigma
    assert np.mean(mean / single) == pytest.approx(0.5, rel=0.2)  # estimated from the mean itself
    with pytest.raises(InputError, match="is stored differently in the files"):
        Dataset.open([tmp_path / "angle_0.nc", tmp_path / "none_1.nc"])


@pytest.mark.parametrize(
    ("changes", "n_t", "message"),
    [
        ({"q": [0.0056]}, N_T, r"q of .*b\.hdf='0\.0056' differs from 0\.0054 of .*a\.hdf; give repetitions of one"),
        ({"phi": [0.0, 61.0, 60.4]}, N_T, r"phi of .*b\.hdf='0, 61, 60\.4' differs from 0, 60, 60\.4 of"),
        ({"processed": [1, 3]}, N_T, r"phi of .*b\.hdf='0, 60\.4' differs from 0, 60, 60\.4 of .*select q and phi"),
        ({"frame_time_s": 0.11}, N_T, r"dt of .*b\.hdf=0\.11 differs from 0\.1 s of .*a\.hdf"),
        ({}, 20, r"frames of .*b\.hdf=20 differs from 24 of .*a\.hdf; .*dataset\.frames=\[1,20\]"),
    ],
)  # fmt: skip
def test_files_that_differ_are_refused(tmp_path, changes, n_t, message):
    write(tmp_path / "a.hdf", maps(0))
    write(tmp_path / "b.hdf", maps(1, n_t), **changes)
    with pytest.raises(InputError, match=message):
        Dataset.open([tmp_path / "a.hdf", tmp_path / "b.hdf"])
    if n_t < N_T:
        assert Dataset.open([tmp_path / "a.hdf", tmp_path / "b.hdf"], frames=[1, 20]).n_t == 20


def test_paths(runs):
    folder, _ = runs
    assert [p.name for p in files_of(f"{folder}/run_[0-1].hdf")] == ["run_0.hdf", "run_1.hdf"]
    assert Dataset.open([folder / "run_0.hdf"]).n_repetitions == 1
    (folder / "with [brackets].hdf").write_bytes((folder / "run_0.hdf").read_bytes())
    assert Dataset.open(folder / "with [brackets].hdf").n_repetitions == 1
    for wrong, message in (
        ([], "names no file"),
        (f"{folder}/none_*.hdf", "matches no file; check the folder"),
        ([folder / "run_0.hdf", f"{folder}/../{folder.name}/run_0.hdf"], "is named twice; .* a copy is no evidence"),
        ([folder / "run_0.hdf", folder / "run_9.hdf"], "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            Dataset.open(wrong)


def test_a_converted_mean_remembers_how_many(runs, capsys):
    folder, data = runs
    names = [str(folder / f"run_{n}.hdf") for n in range(3)]
    assert convert.main([*names, str(folder / "mean.nc")]) == 0
    assert "mean of 3 repetitions" in capsys.readouterr().out
    ds = Dataset.open(folder / "mean.nc")
    assert (ds.n_repetitions, ds.repetitions()) == (3, ())
    np.testing.assert_allclose(ds.read_block(2, WHOLE, WHOLE)[UPPER], data.mean(0)[2][UPPER], rtol=1e-6)
    with xr.open_dataset(folder / "mean.nc", engine="netcdf4") as stored:
        assert stored.attrs["source_file"].count("run_") == 3
    assert convert.main([names[0], names[1], names[0]]) == 1  # the output is one of the repetitions
    assert "is the input file" in capsys.readouterr().err
    with pytest.raises(InputError, match="means of different numbers of repetitions"):
        Dataset.open([folder / "mean.nc", folder / "run_0.hdf"])
    with pytest.raises(InputError, match="means of different numbers of repetitions"):
        Dataset.open([folder / "run_0.hdf", folder / "mean.nc"])


def test_inspect_repetitions(runs, capsys):
    folder, _ = runs
    names = [str(folder / f"run_{n}.hdf") for n in range(3)]
    assert inspect_file.main(names) == 0
    out = capsys.readouterr().out
    assert f"file:    {', '.join(names)}" in out
    assert "mean:    of 3 repetitions, surveyed below" in out
    assert f"dataset.path=[{','.join(names)}]" in out
    assert "1 (numbers 6)" in out
