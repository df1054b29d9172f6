"""``homodyne.fit(weighting=...)`` from data to record."""

import dataclasses

import numpy as np
import pytest

import homodyne
from homodyne.errors import InputError
from homodyne.optimization.uncertainty import assess
from homodyne.optimization.uncertainty.errors import Errors
from homodyne.optimization.uncertainty.sentences import Departure
from homodyne.optimization.whitened import finish, limits
from homodyne.result import FitResult
from homodyne.simulate import speckle_maps
from tests.optimization.problems import problem
from tests.reference import DT, FLOW, GAP, Q, heterodyne, kww

PHI = np.array([-60.0, -20.0, 3.0, 40.0, 75.0])
TRUTH = {**FLOW, "D_offset": 0.0, "gamma_dot_offset": 0.0}
HELD = {"D_offset": 0.0, "gamma_dot_offset": 0.0}
SETTINGS = {"start": {n: v for n, v in TRUTH.items() if n not in HELD}, "fixed": HELD, "strategy": "stratified_ls"}
T = DT * np.arange(60)


@pytest.fixture(scope="module")
def c2():
    return speckle_maps("laminar_flow", TRUTH, PHI, T, Q, GAP, contrast=0.25, counts=10.0, pixels=2000, seed=3)


def fit(c2, **more):
    return homodyne.fit(
        homodyne.Dataset.from_arrays(c2, PHI, T, Q, GAP), **{**SETTINGS, "weighting": "whitened", **more}
    )


@pytest.fixture(scope="module")
def result(c2):
    return fit(c2)


def pulls(result):
    return {n: (result.theta[n] - TRUTH[n]) / e for n, e in result.stderr.items() if e > 0}


def test_errors_are_smaller_and_the_truth_within_them(result):
    record = result.weighting
    assert result.converged
    assert (record.name, record.asked, record.recommended) == ("whitened", "whitened", "whitened")
    assert record.ratio < 0.6
    assert len(pulls(result)) == 5
    assert all(abs(p) < 3.5 for p in pulls(result).values())
    assert "iid" not in result.uncertainties
    assert {"speckle", "jackknife"} <= set(result.uncertainties)
    logs = [np.log(record.whitened_stderr[n] / record.uniform_stderr[n]) for n in SETTINGS["start"]]
    assert record.ratio == pytest.approx(np.exp(np.mean(logs)))
    assert f"{record.ratio:.2f} times those of uniform weights" in result.findings[0]
    assert "(uniform)" in result.table()


def test_the_fit_of_uniform_weights_is_in_the_record(c2, result):
    uniform = fit(c2, weighting="uniform")
    assert uniform.weighting.name == uniform.weighting.asked == "uniform"
    np.testing.assert_allclose(list(result.weighting.uniform.values()), list(uniform.theta.values()), rtol=1e-9)
    np.testing.assert_allclose(list(result.weighting.uniform_stderr.values()), list(uniform.stderr.values()), rtol=1e-9)
    # the sum of squares of uniform weights is least at its own solution, and hardly more at the other
    assert uniform.chi2_reduced < result.chi2_reduced < 1.05 * uniform.chi2_reduced


def test_goes_through_a_file(result, tmp_path):
    loaded = FitResult.load(result.save(tmp_path / "result.nc"))
    assert loaded.weighting == result.weighting
    assert loaded.table() == result.table()


def test_masked_frames_and_pairs(c2, result):
    holes = c2.copy()
    holes[:, [7, 31]] = np.nan
    holes[:, :, [7, 31]] = np.nan
    few = fit(holes)
    for i, j in ((3, 20), (11, 12), (40, 55)):
        holes[1, i, j] = holes[1, j, i] = np.nan
    fewer = fit(holes)
    for other in (few, fewer):
        assert other.converged
        assert other.n_points < result.n_points
        assert all(abs(p) < 3.5 for p in pulls(other).values())
    for n in SETTINGS["start"]:
        assert fewer.stderr[n] == pytest.approx(few.stderr[n], rel=0.1)
        assert abs(fewer.theta[n] - few.theta[n]) < few.stderr[n]


@pytest.mark.parametrize("scaling", ["auto", "constant", "fourier"])
def test_every_scaling(c2, scaling):
    found = fit(c2, scaling=scaling, options=homodyne.NLSQOptions(fourier_order=1))
    assert found.converged
    assert found.weighting.ratio < 0.7
    if scaling == "auto":
        assert np.ptp(found.contrast) == 0.0
        assert all(abs(p) < 3.5 for p in pulls(found).values())


def test_blocks_of_frames_and_larger_lags(c2, result, monkeypatch):
    monkeypatch.setattr(limits, "LONGEST", 30)
    monkeypatch.setattr(limits, "BLOCK", 20)
    found = fit(c2, min_lag=2)
    assert found.weighting.block_frames == 20
    assert found.converged
    assert result.weighting.ratio < found.weighting.ratio < 0.8
    assert all(abs(p) < 3.5 for p in pulls(found).values())


@pytest.mark.parametrize(("model", "theirs"), [("kww", kww), ("heterodyne", heterodyne)])
def test_other_models(model, theirs):
    truth = {
        "kww": {"Gamma_0": 0.5, "aging": -0.4, "Gamma_offset": 0.0, "kww_exponent": 1.3},
        "heterodyne": {
            "D0": 5e3, "alpha": -0.4, "D_offset": 0.0, "v0": 2000.0, "beta": -0.2, "v_offset": 0.0, "phi0": 2.0, "reference_fraction": 0.35,
        },
    }[model]  # fmt: skip
    held = {n: v for n, v in truth.items() if v == 0.0}
    phi = PHI[:3] if model == "heterodyne" else PHI[:1]
    maps = speckle_maps(model, truth, phi, T, Q, contrast=0.25, counts=10.0, pixels=4000, seed=5)
    signal = theirs(list(truth.values()), T, phi[0])
    assert np.corrcoef(maps[0][np.triu_indices(60, 1)], signal[np.triu_indices(60, 1)])[0, 1] > 0.9
    data = homodyne.Dataset.from_arrays(maps, phi, T, Q)
    start = {n: v for n, v in truth.items() if n not in held}
    found = homodyne.fit(data, model, start=start, fixed=held, strategy="stratified_ls", weighting="whitened")
    assert found.weighting.ratio < 0.8
    errors = found.stderr
    assert all(abs(found.theta[n] - truth[n]) < 4 * errors[n] for n in start if np.isfinite(errors[n]))


def test_auto_is_whitened_where_that_helps_and_uniform_where_it_does_not(c2, monkeypatch):
    found = fit(c2, weighting="auto")
    assert (found.weighting.name, found.weighting.asked) == ("whitened", "auto")
    monkeypatch.setattr(finish, "_WORTH", 0.1)
    found = fit(c2, weighting="auto")
    assert (found.weighting.name, found.weighting.recommended) == ("uniform", "whitened")
    assert found.weighting.whitened_stderr
    assert found.theta == found.weighting.uniform
    assert "iid" in found.uncertainties
    by_jackknife = fit(c2, weighting="auto", covariance="jackknife")
    assert (by_jackknife.weighting.name, by_jackknife.covariance_method) == ("uniform", "jackknife")
    assert by_jackknife.weighting.ratio == pytest.approx(found.weighting.ratio)
    monkeypatch.setattr(limits, "_AUTO", 1e3)
    found = fit(c2, weighting="auto")
    assert found.weighting.reason == "5 sectors of 60 frames take minutes, and weighting=whitened takes them"


def test_auto_is_the_default(c2, result):
    found = homodyne.fit(homodyne.Dataset.from_arrays(c2, PHI, T, Q, GAP), **SETTINGS)
    assert (found.weighting.name, found.weighting.asked) == ("whitened", "auto")
    assert found.theta == result.theta


def test_noise_of_no_light_keeps_uniform_weights():
    """Where pairs are independent nothing is to be gained, and the least-squares estimate is the best there is."""
    source, theta, _ = problem("static", n_phi=5, n_t=60, noise=0.05)
    found = homodyne.fit(source, "static", start=theta, fixed={"D_offset": theta["D_offset"]}, strategy="stratified_ls")
    assert (found.weighting.name, found.weighting.asked) == ("uniform", "auto")
    assert 0.9 < found.weighting.ratio < 1.1


def test_points_with_their_own_noise_keep_it():
    source, theta, _ = problem("static", n_phi=3, n_t=40, noise=0.01)
    source = dataclasses.replace(source, sigma_points=np.full(source.c2.shape, 0.01), sigma=np.ones(3))
    found = homodyne.fit(source, "static", start=theta, strategy="stratified_ls", weighting="whitened")
    assert found.weighting.name == "uniform"
    assert any("every point has a noise of its own" in w for w in found.warnings)


def test_streamed_and_full_batch_are_one_estimate(c2):
    """The weights are a smooth function of the pilot; traces of light, which errors come from, are multiplied in single precision."""
    tight = homodyne.NLSQOptions(xtol=1e-8)
    full, streamed = (fit(c2, strategy=strategy, options=tight) for strategy in ("stratified_ls", "hybrid_streaming"))
    for n in SETTINGS["start"]:
        assert abs(streamed.theta[n] - full.theta[n]) < 1e-9 * full.stderr[n]
        assert streamed.stderr[n] == pytest.approx(full.stderr[n], rel=1e-6)


def test_worse_errors_are_said(c2, monkeypatch):
    monkeypatch.setattr(finish, "_WORSE", 0.0)
    assert "use weighting=uniform" in fit(c2).findings[0]


def test_what_cannot_be_whitened_says_so(c2):
    robust = homodyne.NLSQOptions(loss="huber")
    found = fit(c2, weighting="auto", options=robust)
    assert (found.weighting.name, found.weighting.reason) == ("uniform", "a robust loss judges pairs one by one")
    with pytest.raises(InputError, match="weighting='whitened' does not go with a robust loss"):
        fit(c2, options=robust)
    with pytest.raises(InputError, match="leaves no pairs that could be counted as independent"):
        fit(c2, covariance="iid")
    with pytest.raises(InputError, match="weighting='best' is unknown; choose one of uniform, whitened, auto"):
        fit(c2, weighting="best")


def test_interrupted(c2, monkeypatch):
    def stop(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(finish, "refine", stop)
    for weighting in ("whitened", "auto"):
        found = fit(c2, weighting=weighting)
        assert found.weighting.name == "uniform"
        assert any("not whitened, weights are uniform: it was interrupted" in w for w in found.warnings)


def test_errors_by_the_jackknife(c2, result):
    found = fit(c2, covariance="jackknife")
    assert found.covariance_method == "jackknife"
    np.testing.assert_allclose(list(found.theta.values()), list(result.theta.values()), rtol=1e-9)
    assert found.stderr == pytest.approx(result.stderr_by("jackknife"))


def test_a_model_that_is_wrong_is_noticed(result):
    """By whitened residuals; errors are then the jackknife's."""
    assert 1e-3 < result.weighting.p_value <= 1.0
    assert not any("rests on a model or a noise" in w for w in result.warnings)
    stretched = {"Gamma_0": 0.5, "aging": -0.4, "Gamma_offset": 0.0, "kww_exponent": 0.8}
    maps = speckle_maps("kww", stretched, PHI, T, Q, contrast=0.25, counts=10.0, pixels=2000, seed=4)
    held, start = {"Gamma_offset": 0.0, "kww_exponent": 1.0}, {"Gamma_0": 0.5, "aging": -0.4}
    data = homodyne.Dataset.from_arrays(maps, PHI, T, Q)
    wrong = homodyne.fit(data, "kww", fixed=held, start=start, strategy="stratified_ls", weighting="whitened")
    assert wrong.weighting.p_value < 1e-4
    assert "The whitened fit rests on a model or a noise that the data refute" in wrong.warnings[0]
    assert wrong.covariance_method == "jackknife"
    assert wrong.stderr == wrong.stderr_by("jackknife")


@pytest.mark.parametrize(
    ("above", "larger", "method"), [(False, True, "speckle"), (True, True, "jackknife"), (True, False, "speckle")]
)
def test_doubt_never_makes_errors_smaller(c2, monkeypatch, above, larger, method):
    """Angles that agree better than chance refute nothing, and a jackknife below the noise of speckle is not taken."""
    monkeypatch.setattr(assess, "of_angles", lambda *given: [Departure(above, "D0: more than chance.")])
    monkeypatch.setattr(assess, "_larger", lambda one, other: larger)
    found = fit(c2)
    assert found.covariance_method == method
    assert "D0: more than chance." in found.warnings
    assert any("rests on a model or a noise" in w for w in found.warnings) == above


def test_the_larger_errors():
    small, large = (Errors("x", np.diag([a, 2.0, 0.0]), np.zeros((3, 0)), np.zeros((1, 2))) for a in (1.0, 1.1))
    assert assess._larger(large, small)
    assert not assess._larger(small, large)
    assert not assess._larger(small, dataclasses.replace(small, root=np.diag([np.inf, np.inf, 0.0])))
