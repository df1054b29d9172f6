"""Bands of c2 from draws, against closed forms and against new measurements."""

import numpy as np
import pytest

from homodyne.data import Dataset
from homodyne.errors import InputError
from homodyne.optimization.posterior.predictive import systematic
from homodyne.sampling import predictive
from tests.factories import make_posterior, with_log_weights

Q, DT = 0.0054, 0.1


def brownian(d, lag):
    """|g1|**2 of plain diffusion: exp(-2 q**2 D lag), with J = 6 D here as models define it."""
    return np.exp(-(Q**2) * d * lag)


def make_dataset(noise=0.01, n_phi=4, n_t=60, seed=1, sigma=None):
    rng = np.random.default_rng(seed)
    t = DT * np.arange(n_t)
    c2 = 1.0 + 0.25 * brownian(8e3, np.abs(t[:, None] - t))
    upper = np.triu(noise * rng.standard_normal((n_phi, n_t, n_t)), 1)
    given = noise if sigma is None else sigma
    return Dataset.from_arrays(c2 + upper + np.swapaxes(upper, 1, 2), np.linspace(-80, 82, n_phi), t, Q, sigma=given)


@pytest.fixture(scope="module")
def brownian_posterior():
    """Draws of D0 alone, alpha and D_offset fixed at 0, contrast 0.25 and offset 1 throughout."""
    posterior = make_posterior()
    idata = posterior.idata.copy()
    idata.posterior["contrast"] = idata.posterior["contrast"] * 0.0 + 0.25
    idata.posterior["offset"] = idata.posterior["offset"] * 0.0 + 1.0
    return make_posterior(
        idata=idata, names=("D0",), units=("angstrom^2 s^-1",), fixed={"alpha": 0.0, "D_offset": 0.0},
        fit_covariance=posterior.fit_covariance[:1, :1],
    )  # fmt: skip


def test_model_bands_are_quantiles_of_the_closed_form(brownian_posterior):
    cuts = predictive(make_dataset(), brownian_posterior, n_draws=600, sectors=[2], frames=[5, 30])
    assert [(c.phi_deg, c.t1_s) for c in cuts] == [(pytest.approx(28.0), 0.5), (pytest.approx(28.0), 3.0)]
    d = brownian_posterior.draws("D0")
    for cut in cuts:
        # the decay is monotonous in D0, so that quantiles of D0 become quantiles of c2
        for level, (low, high) in zip(cut.levels, cut.model, strict=True):
            ends = np.quantile(d, [0.5 * (1 + level), 0.5 * (1 - level)])
            np.testing.assert_allclose(low, 1 + 0.25 * brownian(ends[0], cut.lag_s), atol=2e-6)
            np.testing.assert_allclose(high, 1 + 0.25 * brownian(ends[1], cut.lag_s), atol=2e-6)
        np.testing.assert_allclose(cut.median, 1 + 0.25 * brownian(np.median(d), cut.lag_s), atol=1e-6)
        assert cut.lag_s[0] == pytest.approx(DT)
        assert cut.lag_s[-1] == pytest.approx(DT * 59 - cut.t1_s)


def test_data_are_those_of_the_dataset(brownian_posterior):
    dataset = make_dataset()
    (cut,) = predictive(dataset, brownian_posterior, n_draws=20, sectors=[1], frames=[7])
    lag = np.round(cut.lag_s / DT).astype(int)
    np.testing.assert_array_equal(cut.data, dataset.read_block(1, slice(7, 8), slice(0, 60))[0, 7 + lag])


def test_noisy_bands_are_normal_where_the_model_is_certain(brownian_posterior):
    (cut,) = predictive(make_dataset(noise=0.02), brownian_posterior, n_draws=50, sectors=[0], frames=[3])
    for z, (low, high) in zip((1.0, 1.96), cut.noisy, strict=True):
        np.testing.assert_allclose(high - cut.median, 0.02 * z, rtol=0.02)
        np.testing.assert_allclose(cut.median - low, 0.02 * z, rtol=0.02)


def test_new_measurements_fall_into_the_noisy_bands(brownian_posterior):
    dataset = make_dataset(noise=0.01, seed=5)
    cuts = predictive(dataset, brownian_posterior, n_draws=50, sectors=range(4), frames=range(0, 50, 3))
    for i, level in enumerate((0.6827, 0.95)):
        inside = np.concatenate([(c.noisy[i, 0] < c.data) & (c.data < c.noisy[i, 1]) for c in cuts])
        assert inside.mean() == pytest.approx(level, abs=0.03)


def test_noise_may_be_given_point_by_point(brownian_posterior):
    sigma = np.full((4, 60, 60), 0.01)
    sigma[:, :, 30:] = sigma[:, 30:, :] = 0.03
    dataset = make_dataset(sigma=sigma)
    (cut,) = predictive(dataset, brownian_posterior, n_draws=50, sectors=[0], frames=[3])
    late = np.round((cut.lag_s + cut.t1_s) / DT).astype(int) >= 30
    half = 0.5 * (cut.noisy[0, 1] - cut.noisy[0, 0])
    np.testing.assert_allclose(half, np.where(late, 0.03, 0.01), rtol=0.03)


def test_draws_count_by_their_weights(brownian_posterior):
    d = brownian_posterior.draws("D0").reshape(4, -1)
    weighted = with_log_weights(brownian_posterior, np.where(d > np.quantile(d, 0.9), 0.0, -1e3))
    (cut,) = predictive(make_dataset(), weighted, n_draws=60, sectors=[0], frames=[3])
    assert np.all(cut.model[1, 1] <= 1 + 0.25 * brownian(np.quantile(d, 0.9), cut.lag_s) + 1e-12)


def test_systematic_resampling_follows_weights():
    weights = np.array([0.1, 0.4, 0.0, 0.5])
    assert np.bincount(systematic(weights, 100), minlength=4).tolist() == [10, 40, 0, 50]
    assert systematic(np.full(1024, 2.0**-10), 8).tolist() == list(range(63, 1024, 128))


def test_sectors_and_frames_by_default(brownian_posterior):
    cuts = predictive(make_dataset(), brownian_posterior, n_draws=20)
    assert len(cuts) == 12
    assert sorted({c.t1_s for c in cuts}) == pytest.approx([0.1, 1.5, 3.6])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_draws": 0}, r"n_draws=0 must be at least 1"),
        ({"sectors": [4]}, r"sectors=4 is no position below 4; choose from 0 to 3"),
        ({"frames": [59]}, r"frames=59 is no position below 59"),
        ({"frames": [-1]}, r"frames=-1 is no position"),
    ],
)
def test_bad_input(brownian_posterior, arguments, message):
    with pytest.raises(InputError, match=message):
        predictive(make_dataset(), brownian_posterior, **arguments)


def test_other_data_are_refused(brownian_posterior):
    with pytest.raises(InputError, match=r"dataset='5 sectors' is not the data of the posterior"):
        predictive(make_dataset(n_phi=5), brownian_posterior)
