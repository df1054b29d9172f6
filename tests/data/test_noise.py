import numpy as np
import pytest

from homodyne.data import Dataset
from homodyne.data.blocks import count_pairs, lags, upper_tiles
from homodyne.data.noise import contrast_of_angle, dead_frames, far_tiles, near_tiles, sigma_of_angle
from homodyne.data.quality import survey
from homodyne.errors import InputError


def decaying(n_t: int, sigma: float, seed: int = 0, contrast: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    lag = np.abs(np.subtract.outer(np.arange(n_t), np.arange(n_t)))
    noise = np.triu(rng.normal(0, sigma, (n_t, n_t)), 1)
    return 1.1 + contrast * np.exp(-lag / (0.05 * n_t)) + noise + noise.T


@pytest.mark.parametrize("n_t", [200, 1500])
def test_sigma_is_recovered_per_angle(n_t):
    c2 = np.stack([decaying(n_t, s, seed) for seed, s in enumerate((0.01, 0.03))])
    ds = Dataset.from_arrays(c2, [0.0, 90.0], np.arange(n_t) * 0.1, 0.005)
    # its scatter is 0.9 % from the far corner of 200 frames, less of more
    np.testing.assert_allclose(ds.sigma, [0.01, 0.03], rtol=0.03)
    assert ds.sigma_source == "estimated from far-lag differences"


def test_scatter_of_sigma_is_below_one_percent_at_300_frames():
    rng = np.random.default_rng(5)
    smooth = decaying(300, 0.0)
    maps = [smooth + rng.normal(0, 0.005, smooth.shape) for _ in range(30)]
    found = np.array([sigma_of_angle(lambda r, c, m=m: m[r, c], 300, 0.0) for m in maps]) / 0.005
    assert found.std() < 0.009
    assert abs(found.mean() - 1.0) < 0.004


def test_infinite_values_are_invalid_like_nan():
    nan, infinite = decaying(60, 0.01), decaying(60, 0.01)
    for value, c2 in ((np.nan, nan), (np.inf, infinite)):
        c2[3, 40] = c2[40, 3] = value
        c2[9, 50] = c2[50, 9] = -value
    t = np.arange(60) * 0.1
    a, b = (Dataset.from_arrays(np.stack([c2, decaying(60, 0.01, 1)]), [0.0, 5.0], t, 0.005) for c2 in (nan, infinite))
    whole = slice(0, 60)
    np.testing.assert_array_equal(a.read_block(0, whole, whole), b.read_block(0, whole, whole))
    np.testing.assert_array_equal(a.sigma, b.sigma)
    assert b.masked_counts(full=True)["nan"] == 2
    assert survey(b)[0].nan == 2


def test_angle_of_infinite_values_only():
    c2 = np.stack([decaying(20, 0.01), np.full((20, 20), np.inf)])
    with pytest.raises(InputError, match=r"phi=5\.0 has no valid point: all values are NaN, infinite or zero"):
        Dataset.from_arrays(c2, [0.0, 5.0], np.arange(20) * 0.1, 0.005)


def test_sigma_ignores_outliers_and_nan():
    c2 = decaying(300, 0.02)
    rng = np.random.default_rng(1)
    i, j = rng.integers(0, 300, (2, 1500))
    c2[i, j] = c2[j, i] = 1e4
    c2[j, i[::-1]] = c2[i[::-1], j] = np.nan
    ds = Dataset.from_arrays(c2[None], [0.0], np.arange(300) * 0.1, 0.005)
    assert ds.sigma[0] == pytest.approx(0.02, rel=0.12)


def test_noise_free_data_need_a_given_sigma():
    c2 = np.full((1, 50, 50), 1.1)
    with pytest.raises(InputError, match=r"sigma=0\.0 estimated at phi=0 is zero.*give sigma"):
        _ = Dataset.from_arrays(c2, [0.0], np.arange(50) * 0.1, 0.005).sigma


def test_far_lags_all_masked():
    c2 = decaying(60, 0.01)
    c2[np.abs(np.subtract.outer(np.arange(60), np.arange(60))) > 15] = np.nan
    with pytest.raises(InputError, match="too few valid points at far lags"):
        _ = Dataset.from_arrays(c2[None], [0.0], np.arange(60) * 0.1, 0.005).sigma


@pytest.mark.parametrize("n_t", [3, 4, 10, 255, 256, 1024, 1025, 1100, 5000])
def test_sampled_tiles_lie_inside(n_t):
    for rows, cols in [*far_tiles(n_t), *near_tiles(n_t)]:
        assert 0 <= rows.start < rows.stop <= n_t
        assert 0 <= cols.start < cols.stop <= n_t
    if n_t > 1024:
        assert all(lags(r, c).min() >= n_t // 2 for r, c in far_tiles(n_t))


@pytest.mark.parametrize(("n_t", "size"), [(10, 3), (16, 4), (5, 8)])
def test_tiles_cover_every_pair_once(n_t, size):
    seen = np.zeros((n_t, n_t), int)
    for rows, cols in upper_tiles(n_t, size):
        seen[rows, cols] += 1
        assert lags(rows, cols).max() > 0 or rows == cols
    assert (seen[np.triu_indices(n_t, 1)] == 1).all()
    assert count_pairs(2, n_t) == 2 * np.triu_indices(n_t, 1)[0].size


@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_dead_frames_are_exact(fraction, zeros):
    """Against the definition, also with few counts (most pairs exactly zero)."""
    rng = np.random.default_rng(3)
    n_t = 150
    c2 = np.triu(np.where(rng.random((n_t, n_t)) < zeros, 0.0, 1.0), 1)
    gone = rng.permutation(n_t)[: int(fraction * n_t)]
    c2[gone], c2[:, gone] = 0.0, 0.0
    full = c2 + c2.T
    np.fill_diagonal(c2, 5.0)
    expected = np.flatnonzero(~full.any(axis=1))
    np.testing.assert_array_equal(dead_frames(lambda r, c: c2[r, c], n_t), expected)


def test_contrast_estimate():
    c2 = decaying(400, 0.005, contrast=0.3)
    np.fill_diagonal(c2, 1e6)
    contrast, offset = contrast_of_angle(lambda r, c: c2[r, c], 400)
    assert contrast == pytest.approx(0.3 * np.exp(-2 / 20), abs=0.01)
    assert offset == pytest.approx(1.1, abs=0.002)


def test_survey_counts_outside_empty_frames():
    c2 = decaying(40, 0.01)
    for (i, j), value in {(1, 9): np.nan, (2, 8): 0.0, (3, 7): -0.5, (4, 6): -0.1}.items():
        c2[i, j] = c2[j, i] = value
    c2[[20, 33]], c2[:, [20, 33]] = 0.0, 0.0
    ds = Dataset.from_arrays(np.stack([c2, decaying(40, 0.01)]), [0.0, 5.0], np.arange(40) * 0.1, 0.005)
    first, second = survey(ds)
    assert (first.points, first.nan, first.zero, first.negative, first.dead) == (780, 1, 1, 2, (20, 33))
    assert (second.nan, second.zero, second.negative, second.dead) == (0, 0, 0, ())
    assert ds.masked_counts(full=True)["nan"] == 1 + 2 * 39 - 1
