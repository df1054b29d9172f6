import shlex

import numpy as np
import pytest

from homodyne.cli.inspect_file import main
from homodyne.data import Dataset, write_apsu


def matrices(n: int, n_t: int = 40) -> np.ndarray:
    rng = np.random.default_rng(5)
    lag = np.abs(np.subtract.outer(np.arange(n_t), np.arange(n_t)))
    noise = np.triu(rng.normal(0, 0.01, (n, n_t, n_t)), 1)
    return 1.0 + 0.2 * np.exp(-lag / 8.0) + noise + noise.transpose(0, 2, 1)


@pytest.fixture
def apsu_file(tmp_path):
    c2 = matrices(3)
    c2[0, 7], c2[0][:, 7] = 0.0, 0.0
    c2[1, 2, 9] = np.nan
    path = tmp_path / "run.hdf"
    write_apsu(
        path,
        c2,
        q=np.array([0.0054, 0.007]),
        phi=np.array([0.0, 60.0]),
        cells=[(0, 0), (0, 1), (1, 1)],
        frame_time_s=0.1,
    )
    return path


def test_report_of_a_beamline_file(apsu_file, capsys):
    assert main([str(apsu_file)]) == 0
    out = capsys.readouterr().out
    for expected in (
        "format:  apsu",
        "3 matrices, 40 x 40 frames, float32",
        "dt:      0.1 s from frame_time (0.1) x stride_frame (1) x avg_frame (1)",
        "0.0054 (2 angles), 0.007 (1 angles)",
        "1 (numbers 8)",
        "missing: gap",
        "missing: q: one of 0.0054, 0.007",
    ):
        assert expected in out
    assert (
        "python -m homodyne.train +experiment=laminar_flow dataset=apsu "
        f"dataset.path={apsu_file} dataset.q=0.0054 dataset.gap_angstrom=GAP"
    ) in out
    row = next(line.split() for line in out.splitlines() if line.split()[:1] == ["60"])
    assert row[3:6] == ["1", "0", "0"]


def test_given_gap_and_q_fill_the_command(apsu_file, capsys):
    assert main([str(apsu_file), "--q", "0.007", "--gap", "2e6", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "missing: nothing" in out
    assert "dataset.q=0.007 dataset.gap_angstrom=2e+06" in out
    assert "contrast" not in out


def test_paths_are_quoted_for_shell_and_hydra(tmp_path, capsys):
    path = tmp_path / "my run, a=1.nc"
    Dataset.from_arrays(matrices(1), [0.0], np.arange(40) * 0.1, 0.0054, gap=2e6).to_netcdf(path)
    assert main([str(path)]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert f'dataset.path="{path}"' in shlex.split(command)


def test_missing_dt_is_reported_and_does_not_stop_the_counts(tmp_path, capsys):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "old.hdf"
    with h5py.File(path, "w") as file:
        file["exchange/C2T_all/g2_00001"] = np.triu(matrices(1)[0])
        file["xpcs/dqlist"], file["xpcs/dphilist"] = [[0.005]], [[12.0]]
    assert main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "dt:      unknown, not in the file: exposure_period_s, stride_frames, avg_frames is missing" in out
    assert "dataset=aps_legacy" in out
    assert "dataset.dt=DT" in out


def test_angle_without_data_is_pointed_out(tmp_path, capsys):
    c2 = matrices(2)
    c2[1] = 0.0
    path = tmp_path / "run.hdf"
    write_apsu(path, c2, q=np.array([0.0054]), phi=np.array([0.0, 60.0]), cells=[(0, 0), (0, 1)], frame_time_s=0.1)
    assert main([str(path)]) == 0
    assert "no usable points: leave phi=60 out" in capsys.readouterr().out


def test_unusable_file_exits_with_a_message(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere.hdf")]) == 1
    captured = capsys.readouterr()
    assert "does not exist" in captured.err
    assert captured.out == ""
