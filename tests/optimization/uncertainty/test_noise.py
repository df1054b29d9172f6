"""Counts and pixels come out of simulated speckle as they went in, whatever the diagonal holds and whatever is missing."""

import dataclasses
import functools

import numpy as np
import pytest

from homodyne.data import Dataset
from homodyne.models import get_model
from homodyne.optimization.uncertainty import noise
from homodyne.optimization.uncertainty.noise import estimate_noise
from homodyne.simulate import speckle_maps
from tests.optimization.problems import Arrays
from tests.reference import DT, STATIC, Q

PHI = np.array([-60.0, -20.0, 10.0, 45.0])
N_T, PIXELS = 120, 3000
#: neighbors share some of their noise: g1**2 of neighbors from 0.77 at the beginning to 0.98
THETA = {"D0": 6e4, "alpha": -0.4, "D_offset": 0.0}
MODEL = get_model("static")


@functools.cache
def maps(contrast=0.2, counts=2.0, n_t=N_T, seed=0):
    c2 = speckle_maps(
        "static", THETA, PHI, DT * np.arange(n_t), Q, contrast=contrast, counts=counts, pixels=PIXELS, seed=seed
    )
    c2.setflags(write=False)
    return c2


def source(c2):
    return Arrays(c2, PHI, DT * np.arange(c2.shape[1]), np.ones(len(PHI)))


def found(c2, contrast=0.2, offset=1.0, **given):
    scaling = np.tile([contrast * offset, offset], (len(PHI), 1))
    return estimate_noise(source(c2), MODEL, np.array(list(THETA.values())), scaling, **given)


def replaced(c2, contrast):
    """The diagonal as software leaves it that cannot use it: the contrast instead of the photons."""
    c2 = c2.copy()
    for one in c2:
        np.fill_diagonal(one, 1 + contrast)
    return c2


@pytest.mark.parametrize(("contrast", "counts"), [(0.2, 2.0), (0.2, 0.2), (0.05, 0.5), (0.33, 20.0)])
def test_from_a_raw_diagonal(contrast, counts):
    result = found(maps(contrast, counts), contrast)
    assert result.counts_source == "from the diagonal"
    # the diagonal averages 120 frames x 3000 pixels; an error of the contrast of its own, and bias, of a percent
    nu = 1 / counts
    np.testing.assert_allclose(result.nu, nu, atol=0.03 * (contrast + nu))
    # (counts x counts) differences of a mean of 7000 pairs, not independent
    np.testing.assert_allclose(result.pixels, PIXELS, rtol=0.25)
    assert result.pixels.mean() == pytest.approx(PIXELS, rel=0.1)
    assert f"{1 / result.nu.max():.3g}"[:3] in result.sentence()


@pytest.mark.parametrize(("contrast", "counts"), [(0.33, 2.0), (0.33, 20.0), (0.1, 0.5)])
def test_from_a_replaced_diagonal(contrast, counts):
    result = found(replaced(maps(contrast, counts), contrast), contrast)
    assert "the diagonal was replaced" in result.counts_source
    assert np.ptp(result.nu) == 0  # one number for all angles
    # where photons are all the noise, any number of them goes with a number of pixels: their ratio is what errors need
    far = (contrast + result.nu) / np.sqrt(result.pixels)
    assert far.mean() == pytest.approx((contrast + 1 / counts) / np.sqrt(PIXELS), rel=0.08)
    weak = 1 / counts > 10 * contrast
    assert contrast + result.nu[0] == pytest.approx(contrast + 1 / counts, rel=0.4 if weak else 0.12)
    assert result.pixels.mean() == pytest.approx(PIXELS, rel=0.8 if weak else 0.2)


def test_from_a_diagonal_that_was_filled_with_its_neighbors():
    """As the raw diagonal divided by sqrt(1 + counts), or an average of neighbors: still not the shot noise."""
    c2 = maps(0.33, 2.0).copy()
    for one in c2:
        beside = np.diag(one, 1)
        np.fill_diagonal(one, np.concatenate([beside[:1], 0.5 * (beside[1:] + beside[:-1]), beside[-1:]]))
    result = found(c2, 0.33)
    assert "the diagonal was replaced" in result.counts_source
    assert 0.33 + result.nu[0] == pytest.approx(0.83, rel=0.12)


def test_without_shot_noise():
    result = found(maps(0.2, None))
    np.testing.assert_allclose(result.nu, 0, atol=0.01)
    assert result.pixels.mean() == pytest.approx(PIXELS, rel=0.15)


def test_given_numbers_are_used():
    result = found(maps(), counts=3.0, pixels=777.0)
    np.testing.assert_array_equal(result.nu, 1 / 3.0)
    np.testing.assert_array_equal(result.pixels, 777.0)
    assert (result.counts_source, result.pixels_source) == ("given", "given")
    assert "3 counts per pixel and frame (given), 777 independent pixels per angle (given)" in result.sentence()
    some = found(maps(), counts=2.0)
    assert (some.counts_source, some.pixels_source) == ("given", "from the scatter of neighbors")
    assert some.pixels.mean() == pytest.approx(PIXELS, rel=0.1)


def test_points_and_frames_without_data_do_no_harm():
    whole = found(maps())
    c2 = maps().copy()
    c2[np.random.default_rng(0).random(c2.shape) < 0.05] = np.nan
    c2[:, [0, 17, 55, 119]] = np.nan
    c2[:, :, [0, 17, 55, 119]] = np.nan
    result = found(c2)
    assert result.counts_source == "from the diagonal"
    np.testing.assert_allclose(result.nu, whole.nu, rtol=0.02)
    np.testing.assert_allclose(result.pixels, whole.pixels, rtol=0.05)
    # without any diagonal
    c2[:, np.arange(N_T), np.arange(N_T)] = np.nan
    result = found(c2)
    assert "the diagonal was replaced" in result.counts_source
    assert 0.2 + result.nu[0] == pytest.approx(0.7, rel=0.12)


def test_the_baseline_is_a_factor():
    one, other = found(maps()), found(1.1 * maps(), offset=1.1)
    np.testing.assert_allclose(other.nu, one.nu, rtol=1e-9)
    np.testing.assert_allclose(other.pixels, one.pixels, rtol=1e-9)
    np.testing.assert_allclose(other.contrast, one.contrast, rtol=1e-12)


def test_a_contrast_that_noise_drove_away_takes_that_of_the_others():
    scaling = np.array([[0.2, 1.0], [0.21, 1.0], [-0.4, 1.0], [1.7, 1.0]])
    result = estimate_noise(source(maps()), MODEL, np.array(list(THETA.values())), scaling)
    np.testing.assert_allclose(result.contrast, [0.2, 0.21, 0.205, 0.205])
    assert np.all(np.isfinite(result.nu) & np.isfinite(result.pixels) & (result.pixels > 0))


def test_slow_changes_are_not_taken_for_noise():
    """A model that misses something smooth, several times the noise: pixels stay what they are."""
    t = np.linspace(0, 1, N_T)
    wrong = 0.2 * np.sin(3 * t)[:, None] * np.sin(3 * t)[None, :]
    assert wrong.std() > 2 * maps()[:, 0, N_T // 2 :].std()
    right = found(maps(), counts=2.0).pixels
    np.testing.assert_allclose(found(maps() + wrong, counts=2.0).pixels, right, rtol=0.02)


@dataclasses.dataclass(frozen=True)
class Read(Arrays):
    """Notes how much is read at a time."""

    sizes: list = dataclasses.field(default_factory=list)

    def read_block(self, k, rows, cols):
        self.sizes.append((rows.stop - rows.start, cols.stop - cols.start))
        return super().read_block(k, rows, cols)


def test_squares_of_long_series_are_enough(monkeypatch):
    """As above 1024 frames, with smaller numbers."""
    whole = found(maps())
    monkeypatch.setattr(noise, "_WHOLE", 64)
    monkeypatch.setattr(noise, "_SQUARE", 24)
    read = Read(maps(), PHI, DT * np.arange(N_T), np.ones(len(PHI)))
    scaling = np.tile([0.2, 1.0], (len(PHI), 1))
    result = estimate_noise(read, MODEL, np.array(list(THETA.values())), scaling)
    assert set(read.sizes) == {(24, 24)}
    assert len(read.sizes) <= 12 * len(PHI)
    assert result.counts_source == whole.counts_source == "from the diagonal"
    np.testing.assert_allclose(result.nu, whole.nu, rtol=0.15)
    assert result.pixels.mean() == pytest.approx(PIXELS, rel=0.15)
    other = estimate_noise(source(replaced(maps(), 0.2)), MODEL, np.array(list(THETA.values())), scaling)
    assert 0.2 + other.nu[0] == pytest.approx(0.7, rel=0.2)


def test_very_slow_light_without_photons_is_left_alone():
    """Nothing fluctuates but the photons: neighbors share the whole speckle."""
    theta = dict(STATIC, D0=1.0, D_offset=0.0)
    c2 = speckle_maps("static", theta, PHI, DT * np.arange(40), Q, contrast=0.2, counts=1.0, pixels=PIXELS)
    scaling = np.tile([0.2, 1.0], (len(PHI), 1))
    result = estimate_noise(source(c2), MODEL, np.array(list(theta.values())), scaling)
    assert result.counts_source == "from the diagonal"
    # a speckle that never changes is one sample of each pixel
    np.testing.assert_allclose(result.nu, 1.0, rtol=0.1)
    np.testing.assert_allclose(result.pixels, PIXELS, rtol=0.25)


def test_an_angle_without_neighboring_frames_takes_the_typical_number_of_pixels():
    c2 = maps().copy()
    c2[1, ::2], c2[1, :, ::2] = np.nan, np.nan
    result = found(c2)
    assert np.all(np.isfinite(result.pixels) & (result.pixels > 0))
    assert "there are none at phi" in result.pixels_source


def test_no_neighboring_frames_at_all():
    c2 = maps().copy()
    c2[:, ::2], c2[:, :, ::2] = np.nan, np.nan
    assert found(c2) is None


def test_short_lags_alone():
    """As correlators leave it that stop at a longest lag."""
    i, j = np.indices((N_T, N_T))
    c2 = np.where(np.abs(i - j) < N_T // 5, maps(), np.nan)
    result = found(c2)
    assert result.counts_source == "from the diagonal"
    np.testing.assert_allclose(result.nu, 0.5, atol=0.03)


@pytest.mark.parametrize(("stored", "words"), [(PIXELS, "the file counts"), (4 * PIXELS, "a speckle covers several")])
def test_pixels_of_the_file_are_named_beside_those_found(stored, words):
    data = Dataset.from_arrays(maps(), PHI, DT * np.arange(N_T), Q)
    data = dataclasses.replace(data, attrs={**data.attrs, "pixels": [stored] * len(PHI)})
    noise = estimate_noise(data, MODEL, np.array(list(THETA.values())), np.tile([0.2, 1.0], (len(PHI), 1)))
    assert words in noise.sentence()
    assert ("several" in noise.sentence()) == (stored > PIXELS)


def test_unknown_counts_are_not_made_up_where_pixels_are_given():
    c2 = maps().copy()
    c2[:, ::2], c2[:, :, ::2] = np.nan, np.nan
    c2[:, np.arange(N_T), np.arange(N_T)] = np.nan
    assert found(c2, pixels=3000.0) is None


def test_a_contrast_no_speckle_has_is_replaced_and_named():
    scaling = np.array([[0.2, 1.0], [-0.1, 1.0], [0.2, 1.0], [0.2, 1.0]])
    noise = estimate_noise(source(maps()), MODEL, np.array(list(THETA.values())), scaling)
    assert noise.contrast[1] == pytest.approx(0.2)
    assert "typical contrast at phi = -20" in noise.sentence()
