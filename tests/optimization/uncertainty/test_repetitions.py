"""Errors from repetitions: against fits of every repetition, against the truth, and against the noise of speckle."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

import homodyne
from homodyne.data import Dataset
from homodyne.data.repetitions import mean_of
from homodyne.errors import InputError
from homodyne.optimization.uncertainty.repetitions import unlikely
from homodyne.simulate import speckle_maps, two_time
from tests.optimization.problems import uniform_fit

T, PHI, Q = 0.1 * np.arange(40), np.array([0.0, 40.0, 80.0]), 0.0054
TRUTH = {"D0": 2e4, "alpha": -0.3, "D_offset": 0.0}
FREE = ("D0", "alpha")


def dataset(c2: np.ndarray) -> Dataset:
    return Dataset.from_arrays(c2, PHI, T, Q)


def fit(
    source: Dataset, covariance: str = "repetitions", passes: str = "stratified_ls", **settings
) -> homodyne.FitResult:
    start = {"D0": 2.2e4, "alpha": -0.25}
    return uniform_fit(
        source, "static", "individual", passes, start=start, fixed={"D_offset": 0.0}, covariance=covariance, **settings
    )  # fmt: skip


@pytest.fixture(scope="module")
def quiet() -> list[Dataset]:
    """Five repetitions with so little independent noise that the model is linear in it."""
    return [dataset(two_time("static", TRUTH, PHI, T, Q, contrast=0.3, noise=2e-4, seed=n)) for n in range(5)]


@pytest.fixture(scope="module")
def light() -> list[list[Dataset]]:
    """24 times three repetitions of speckle, 300 pixels each."""
    maps = [
        dataset(speckle_maps("static", TRUTH, PHI, T, Q, contrast=0.3, counts=4.0, pixels=300, seed=n))
        for n in range(72)
    ]
    return [maps[n : n + 3] for n in range(0, 72, 3)]


@pytest.mark.parametrize("passes", ["stratified_ls", "hybrid_streaming"])
def test_one_step_for_each_is_a_fit_of_each(quiet, passes):
    result = fit(mean_of(quiet), passes=passes)
    weights = np.array(result.sigma)
    each = [fit(dataclasses.replace(one, sigma_given=weights), "iid") for one in quiet]
    for name in FREE:
        values = np.array([one.theta[name] for one in each])
        assert result.stderr[name] == pytest.approx(values.std(ddof=1) / np.sqrt(5), rel=5e-3)
        assert result.theta[name] == pytest.approx(values.mean(), abs=0.01 * result.stderr[name])
    for what in ("contrast", "offset"):
        scatter = np.std([getattr(one, what) for one in each], axis=0, ddof=1) / np.sqrt(5)
        np.testing.assert_allclose(getattr(result, f"{what}_stderr"), scatter, rtol=5e-3)
    low, high = result.interval("D0", 0.95)
    assert high - low == pytest.approx(2 * scipy.stats.t(4).ppf(0.975) * result.stderr["D0"])
    assert result.uncertainties["repetitions"].root.shape == (3, 5)


def test_frames_that_are_missing_in_one_do_not_matter_to_the_others(quiet):
    c2 = np.array(quiet[0].maps.variable.values)
    c2[:, 7], c2[:, :, 7] = 0.0, 0.0
    result = fit(mean_of([dataset(c2), *quiet[1:]]))
    whole = fit(mean_of(quiet))
    assert result.n_points == whole.n_points - 3 * 39
    assert result.stderr["D0"] == pytest.approx(whole.stderr["D0"], rel=0.2)


def test_they_hold_against_the_truth_and_are_those_of_speckle(light):
    """Light of known truth: deviations of the mean, the errors of repetitions, and those of speckle, squared and averaged."""
    means = [fit(mean_of(group)) for group in light]
    off = np.array([[one.theta[n] - TRUTH[n] for n in FREE] for one in means])
    stated = np.array([[one.stderr[n] for n in FREE] for one in means])
    ratio = np.sqrt((off**2).mean(0) / (stated**2).mean(0))
    assert np.all((ratio > 0.6) & (ratio < 1.6))  # 48 degrees of freedom against 24: 18 %
    inside = np.mean(
        [
            [abs(o) < scipy.stats.t(2).ppf(0.95) * s for o, s in zip(*row, strict=True)]
            for row in zip(off, stated, strict=True)
        ]
    )
    assert 0.75 < inside <= 1.0  # nominal 0.9
    by_speckle = fit(mean_of(light[0]), "speckle")
    assert set(by_speckle.uncertainties) == {"speckle", "repetitions", "iid"}
    assert by_speckle.stderr_by("repetitions")["D0"] == pytest.approx(means[0].stderr["D0"], rel=1e-9)
    for i, name in enumerate(FREE):
        assert by_speckle.stderr[name] == pytest.approx(np.sqrt((stated**2).mean(0))[i], rel=0.45)
    assert not by_speckle.warnings
    # pixels of three repetitions are three times as many, and errors the square root of three smaller
    single = fit(light[0][0], "speckle")
    assert np.median(by_speckle.diagnostics["pixels"]) == pytest.approx(900, rel=0.15)
    assert single.stderr["alpha"] / by_speckle.stderr["alpha"] == pytest.approx(np.sqrt(3), rel=0.25)
    given = fit(mean_of(light[0]), "speckle", pixels=300, counts=4.0)
    assert given.diagnostics["pixels"].values.tolist() == [900.0] * 3
    assert "900 independent pixels per angle (given, times 3 repetitions)" in given.findings[0]


def test_samples_that_differ_are_told(light):
    """Diffusion in the third measurement is a fifth of the others: a scatter that no noise of speckle knows."""
    slow = {**TRUTH, "D0": 0.2 * TRUTH["D0"]}
    other = dataset(speckle_maps("static", slow, PHI, T, Q, contrast=0.3, counts=4.0, pixels=3000, seed=100))
    alike = [
        dataset(speckle_maps("static", TRUTH, PHI, T, Q, contrast=0.3, counts=4.0, pixels=3000, seed=200 + n))
        for n in (0, 1)
    ]
    told = [text for text in fit(mean_of([*alike, other]), "speckle").warnings if "repetitions" in text]
    assert any(text.startswith("D0: 3 repetitions give an error of") for text in told)
    assert "more than chance. Something changes between them." in told[0]


def test_what_chance_makes_of_a_variance():
    dof, ratios = 4.0, np.array([1.0, 0.5, 3.0, 7.0, 1e-4, np.inf])
    assert unlikely(ratios, np.ones(6), dof).tolist() == [0, 0, 0, 1, -1, 0]
    for ratio, side in ((7.0, 1), (1e-4, -1), (3.0, 0)):
        tail = scipy.stats.chi2(dof).sf(ratio * dof) if ratio > 1 else scipy.stats.chi2(dof).cdf(ratio * dof)
        assert (tail < scipy.stats.norm.sf(4)) == (side != 0)
    assert unlikely(np.ones(2), np.array([0.0, np.nan]), dof).tolist() == [0, 0]


def test_when_they_can_be_asked_for(quiet):
    with pytest.raises(
        InputError, match=r"needs the files of at least 3 repetitions, there are 2; give dataset.path=\[a,b,c\]"
    ):
        fit(mean_of(quiet[:2]))
    with pytest.raises(InputError, match=r"at least 3 repetitions, there are 0"):
        fit(quiet[0])
    with pytest.raises(InputError, match="does not go with a robust loss"):
        fit(mean_of(quiet), options=homodyne.NLSQOptions(loss="huber"))
    assert "repetitions" not in fit(mean_of(quiet), "iid").uncertainties
