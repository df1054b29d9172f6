"""Simulated speckle against what theory says of its mean, its diagonal, its noise and its bias."""

import json
import pickle

import numpy as np
import pytest

import homodyne.simulate.speckle as speckle
from homodyne.data import Dataset
from homodyne.data.formats.apsu import write_apsu
from homodyne.errors import InputError
from homodyne.fields import mode_weights
from homodyne.models import get_model
from homodyne.simulate import speckle_dataset, speckle_maps
from tests.reference import DT, FLOW, GAP, HETERODYNE, STATIC, Q, heterodyne

MODEL = get_model("laminar_flow")
T = DT * np.arange(12)
PHI = np.array([-60.0, 0.0, 45.0])
#: decays within one frame, so that every pair of frames is at far lag
FAST = {"D0": 1e6, "alpha": 0.0, "D_offset": 0.0}
PAIRS = np.triu_indices(len(T), k=1)


@pytest.mark.parametrize(("counts", "resolved"), [(None, 4.0), (2.0, 1.0)])
def test_mean_is_the_model_up_to_the_bias_of_the_normalization(counts, resolved):
    """Few pixels, many sectors: the bias stands out of the scatter, and is the one that ``PixelSums`` states."""
    sectors, pixels, contrast = 1000, 20, 0.3
    maps = speckle_maps(MODEL, FLOW, np.full(sectors, 72.0), T, Q, GAP, contrast=contrast, counts=counts, pixels=pixels)
    values = maps[:, *PAIRS]
    kappa = contrast * MODEL.g1_squared(FLOW, T, 72.0, Q, GAP)[PAIRS]
    third = (mode_weights(contrast) ** 3).sum()
    bias = -kappa / pixels * (1 + 4 * third / contrast - 2 * contrast - kappa)
    scatter = values.std(0) / np.sqrt(sectors)
    deviation = values.mean(0) - 1 - kappa
    assert kappa.max() > 0.25
    assert kappa.min() < 0.005
    assert np.all(np.abs(deviation - bias) < 4.5 * scatter)
    near = kappa > 0.15
    assert deviation[near].mean() == pytest.approx(bias[near].mean(), abs=3 * scatter[near].mean())
    assert deviation[near].mean() < -resolved * scatter[near].mean()


def test_light_of_a_complex_field_has_the_c2_of_its_model():
    pixels, contrast = 40_000, 0.5
    c2 = speckle_maps("heterodyne", HETERODYNE, [0.0, 60.0], T, Q, contrast=contrast, counts=None, pixels=pixels)
    for found, phi in zip(c2, (0.0, 60.0), strict=True):
        s = heterodyne(list(HETERODYNE.values()), T, phi)
        # the product of two deviations scatters by contrast (1 + s) and less
        np.testing.assert_allclose(found - 1, contrast * s, atol=4.5 * contrast * 2 / np.sqrt(pixels))
        assert s[PAIRS].min() < 0.1
        assert s[PAIRS].max() > 0.4


@pytest.mark.parametrize(("contrast", "counts"), [(0.05, None), (0.3, None), (0.3, 0.5), (0.45, 4.0), (1.0, 2.0)])
def test_raw_diagonal_is_contrast_and_shot_noise(contrast, counts):
    """Also for contrasts that are no inverse of a whole number of modes."""
    pixels, t = 20_000, DT * np.arange(8)
    c2 = speckle_maps("static", FAST, [0.0], t, 0.05, contrast=contrast, counts=counts, pixels=pixels)[0]
    expected = contrast + (0.0 if counts is None else 1.0 / counts)
    # var(I^2) is below 20 for one mode and smaller for several; eight independent frames
    assert np.diag(c2).mean() - 1 == pytest.approx(expected, abs=4 * np.sqrt(20 * expected / (8 * pixels)) * 0.5)
    assert np.abs(c2[np.triu_indices(8, 1)] - 1).max() < 4.5 * expected / np.sqrt(pixels)


@pytest.mark.parametrize("counts", [None, 1.0])
def test_noise_of_pairs_at_far_lag(counts):
    contrast, pixels, sectors = 0.25, 200, 400
    t = DT * np.arange(6)
    maps = speckle_maps("static", FAST, np.zeros(sectors), t, 0.05, contrast=contrast, counts=counts, pixels=pixels)
    variance = maps[:, *np.triu_indices(6, 1)].var(0).mean()
    shot = 0.0 if counts is None else 1.0 / counts
    # 15 x 400 nearly independent values: 2 percent of scatter; corrections of order 1 / pixels
    assert variance == pytest.approx((contrast + shot) ** 2 / pixels, rel=0.08)


def test_frames_without_photons_are_zero_rows():
    t = DT * np.arange(60)
    arguments = ("static", STATIC, [0.0, 10.0], t, Q)
    numbers = {"contrast": 0.3, "counts": [0.03, 2.0], "pixels": 100, "seed": 6}
    c2 = speckle_maps(*arguments, **numbers)
    dead = np.flatnonzero(np.diag(c2[0]) == 0)
    assert 0 < dead.size < 12
    assert np.all(np.isfinite(c2))
    assert not c2[0][dead].any()
    assert not c2[0][:, dead].any()
    assert np.all(c2[1] > 0)
    dataset = speckle_dataset(*arguments, **numbers)
    np.testing.assert_array_equal(dataset.dead_frames(0), dead)
    assert np.isnan(dataset.read_block(0, slice(0, 60), slice(0, 60))[dead]).all()


def test_an_angle_depends_on_the_seed_and_its_place_alone():
    three = speckle_maps(MODEL, FLOW, PHI, T, Q, GAP, pixels=100, seed=7)
    np.testing.assert_array_equal(speckle_maps(MODEL, FLOW, PHI[:2], T, Q, GAP, pixels=100, seed=7), three[:2])
    assert np.all(speckle_maps(MODEL, FLOW, PHI, T, Q, GAP, pixels=100, seed=8) != three)
    np.testing.assert_array_equal(three, three.transpose(0, 2, 1))
    assert three.dtype == np.float64
    same_angle = speckle_maps(MODEL, FLOW, [0.0, 0.0], T, Q, GAP, pixels=100, seed=7)
    assert np.all(same_angle[0] != same_angle[1])


def test_each_angle_has_its_own_contrast_photons_and_pixels():
    numbers = {"contrast": [0.1, 0.5], "counts": [1.0, 4.0], "pixels": [1000, 10]}
    c2 = speckle_maps("static", FAST, [0.0, 0.0], T, 0.05, **numbers)
    assert np.diag(c2[0]).mean() == pytest.approx(2.1, abs=0.1)
    assert np.diag(c2[1]).mean() == pytest.approx(1.7, abs=0.25)
    assert c2[1][PAIRS].std() > 3 * c2[0][PAIRS].std()


@pytest.fixture
def drawn(monkeypatch):
    """How often a map was simulated so far, as the length of a list."""
    calls = []
    root = speckle.field_root
    monkeypatch.setattr(speckle, "field_root", lambda g1: (calls.append(1), root(g1))[1])
    return calls


def test_the_dataset_simulates_what_is_read_and_no_more(drawn):
    expected = speckle_maps(MODEL, FLOW, PHI, T, Q, GAP, pixels=100, seed=5)
    drawn.clear()
    dataset = speckle_dataset(MODEL, FLOW, PHI, T, Q, GAP, pixels=100, seed=5)
    lazy = dataset.to_xarray()
    assert "60" in dataset.describe()
    assert not drawn
    np.testing.assert_array_equal(dataset.read_block(1, slice(0, 4), slice(2, 9)), expected[1, 0:4, 2:9])
    assert len(drawn) == 1
    dataset.read_block(1, slice(3, 12), slice(3, 12))
    assert len(drawn) == 1
    np.testing.assert_array_equal(lazy["c2"].values, expected)
    assert len(drawn) == 3
    np.testing.assert_array_equal(dataset.maps.variable[1:, 2, ::3].values, expected[1:, 2, ::3])
    assert dataset.maps.variable[0:0, 2].shape == dataset.maps.variable[0:0, 2].values.shape == (0, 12)
    assert len(drawn) == 3


def test_a_map_that_did_not_fit_is_simulated_again_alike(drawn, monkeypatch):
    monkeypatch.setattr(speckle, "KEPT_BYTES", 1)
    dataset = speckle_dataset(MODEL, FLOW, PHI, T, Q, GAP, pixels=100)
    first = dataset.read_block(0, slice(0, 12), slice(0, 12)).copy()
    dataset.read_block(1, slice(0, 12), slice(0, 12))
    after = len(drawn)
    np.testing.assert_array_equal(dataset.read_block(0, slice(0, 12), slice(0, 12)), first)
    assert len(drawn) == after + 1
    assert dataset.attrs["reader_cache_bytes"] == 12 * 12 * 8


def test_the_dataset_says_what_went_in():
    dataset = speckle_dataset(MODEL, FLOW, PHI, T, Q, GAP, contrast=0.2, counts=None, pixels=[10, 20, 30], seed=2)
    assert (dataset.n_phi, dataset.n_t, dataset.q, dataset.gap) == (3, 12, Q, GAP)
    assert dataset.attrs["pixels"] == [10, 20, 30]
    truth = json.loads(dataset.attrs["truth"])
    assert truth["theta"] == FLOW
    assert (truth["model"], truth["contrast"], truth["counts"], truth["seed"]) == ("laminar_flow", [0.2] * 3, None, 2)
    other = speckle_dataset(MODEL, FLOW, PHI, T, Q, GAP, contrast=0.2, counts=None, pixels=[10, 20, 30], seed=3)
    assert dataset.fingerprint()["metadata_sha256"] != other.fingerprint()["metadata_sha256"]
    copy = pickle.loads(pickle.dumps(dataset))
    block = slice(0, 12)
    np.testing.assert_array_equal(copy.read_block(2, block, block), dataset.read_block(2, block, block))


def test_written_files_hold_the_same_maps(tmp_path, drawn):
    dataset = speckle_dataset(MODEL, FLOW, PHI, T, Q, GAP, pixels=100)
    dataset.to_netcdf(tmp_path / "speckle.nc")
    whole = slice(0, 12)
    write_apsu(
        tmp_path / "speckle_results.hdf", lambda k: dataset.maps.read(k, whole, whole), q=np.array([Q]), phi=PHI,
        cells=[(0, 0), (0, 1), (0, 2)], frame_time_s=DT,
    )  # fmt: skip
    assert len(drawn) == 3
    for name, rtol in (("speckle.nc", 0.0), ("speckle_results.hdf", 1e-6)):
        read = Dataset.open(tmp_path / name, gap=GAP)
        np.testing.assert_allclose(read.phi, PHI)
        for k in range(3):
            expected = dataset.read_block(k, whole, whole)[PAIRS]
            np.testing.assert_allclose(read.read_block(k, whole, whole)[PAIRS], expected, rtol=rtol)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"contrast": 1.2}, "contrast=1.2 must be above 0 and at most 1"),
        ({"contrast": [0.2, 0.3]}, "does not fit 3 angles; give one contrast or one per angle"),
        ({"counts": 0.0}, r"counts=0.0 must be positive"),
        ({"pixels": 1}, "pixels=1 must be whole numbers of at least 2"),
        ({"pixels": 10.5}, "must be whole numbers"),
        ({"seed": -1}, "seed=-1 must not be negative"),
        ({"gap": None}, "gap=None is missing"),
        ({"theta": {"D0": 1e4}}, "lacks alpha, D_offset"),
        ({"theta": {**FLOW, "alpha": 9.0}}, "lies outside the bounds"),
        ({"t": [0.0, 0.1, 0.4]}, "is not uniform"),
        ({"model": "turbulent"}, "is unknown"),
    ],
)
def test_errors_come_before_anything_is_drawn(changed, message):
    given = {"model": MODEL, "theta": FLOW, "phi": PHI, "t": T, "q": Q, "gap": GAP, **changed}
    with pytest.raises(InputError, match=message):
        speckle_dataset(**given)
