"""Fits from end to end on small data: one optimum whatever the strategy, honest errors, honest verdicts."""

import dataclasses
import logging

import numpy as np
import pytest
import scipy.optimize

import homodyne
from homodyne.errors import InputError
from homodyne.fitting import fit_maps
from homodyne.optimization.nlsq import NLSQOptions, engine
from homodyne.result import HISTORY_VARIABLES, FitResult, Status
from tests.optimization.problems import Arrays, problem
from tests.reference import FLOW, STATIC, g1_squared, jacobian
from tests.result.comparison import assert_same_result

# One set of shapes for all tests, so that few functions are compiled.
N_T, PHI, NOISE = 60, np.array([-70.0, -30.0, 5.0, 40.0, 85.0]), 0.002
STRATEGIES = ("stratified_ls", "hybrid_streaming")
FACTORS = (1.25, 0.8, 1.2, 0.75, 1.3, 0.8, 1.3)
START = {name: value * factor for (name, value), factor in zip(FLOW.items(), FACTORS, strict=True)}
TIGHT = NLSQOptions(xtol=1e-8)
ROW, COL = np.triu_indices(N_T, k=1)


def data(model="laminar_flow", **settings):
    return problem(model, n_t=N_T, phi=PHI, noise=NOISE, **settings)[0]


@pytest.fixture(scope="module")
def source():
    return data()


@pytest.fixture(scope="module")
def fits(source):
    """The same data by both strategies, from the same start."""
    return {name: homodyne.fit(source, strategy=name, start=START, options=TIGHT) for name in STRATEGIES}


@pytest.fixture(scope="module")
def static():
    return data("static")


def vector(result):
    return np.array(list(result.theta.values()))


def pulls(result, truth):
    """Deviations in iid errors: the right ones here, where the noise of every point is independent."""
    stderr = result.stderr_by("iid")
    return np.array([(result.theta[n] - x) / stderr[n] for n, x in truth.items()])


def joint_jacobian(source, theta, contrast):
    """Dense Jacobian of c2 with respect to theta, all contrasts, all offsets: NumPy model, complex steps."""
    n = len(PHI)
    rows = []
    for k, phi in enumerate(PHI):
        s, ds = jacobian(theta, source.t, phi)
        rows.append(np.hstack([contrast[k] * ds, np.outer(s, np.eye(n)[k]), np.tile(np.eye(n)[k], (len(s), 1))]))
    return np.concatenate(rows)


def joint_residual(source, x):
    """Model minus data over theta (7), contrasts (5), offsets (5)."""
    values = [g1_squared(x[:7], source.t, phi).real[ROW, COL] for phi in PHI]
    return np.concatenate([x[12 + k] + x[7 + k] * s - source.c2[k][ROW, COL] for k, s in enumerate(values)])


def joint_optimum(source):
    """scipy over all 17 parameters, then plain Gauss-Newton steps until only rounding is left."""
    x0 = np.concatenate([list(START.values()), np.full(5, 0.3), np.full(5, 1.0)])
    scale = np.abs(x0)
    x = scipy.optimize.least_squares(
        lambda x: joint_residual(source, x), x0, lambda x: joint_jacobian(source, x[:7], x[7:12]), x_scale=scale
    ).x
    for _ in range(8):
        a = joint_jacobian(source, x[:7], x[7:12]) * scale
        x = x - np.linalg.lstsq(a, joint_residual(source, x), rcond=None)[0] * scale
    return x


@pytest.fixture(scope="module")
def optimum(source):
    return joint_optimum(source)


def test_both_strategies_find_the_same_optimum(fits):
    a, b = fits.values()
    assert a.status is b.status is Status.CONVERGED
    np.testing.assert_allclose(vector(b), vector(a), rtol=1e-6)
    np.testing.assert_allclose(b.contrast, a.contrast, rtol=1e-8)
    np.testing.assert_allclose(list(b.stderr.values()), list(a.stderr.values()), rtol=1e-6)
    assert b.chi2_reduced == pytest.approx(a.chi2_reduced, rel=1e-10)
    assert (a.strategy, b.strategy) == (a.decision.strategy, b.decision.strategy) == STRATEGIES


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_projected_optimum_is_the_joint_optimum(fits, optimum, strategy):
    result = fits[strategy]
    np.testing.assert_allclose(vector(result), optimum[:7], rtol=1e-7)
    np.testing.assert_allclose(result.contrast, optimum[7:12], rtol=1e-7)
    np.testing.assert_allclose(result.offset, optimum[12:], rtol=1e-7)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_iid_errors_are_those_of_the_joint_problem(source, fits, optimum, strategy):
    """No placeholder: the covariance is chi2_reduced sigma**2 (J^T J)^-1 of all 17 parameters."""
    result = fits[strategy]
    a = joint_jacobian(source, optimum[:7], optimum[7:12])
    scale = np.linalg.norm(a, axis=0)
    half = np.linalg.inv(np.linalg.qr(a / scale, mode="r")) / scale[:, None]
    residual = joint_residual(source, optimum)
    covariance = residual @ residual / (len(residual) - 17) * half @ half.T
    error = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(list(result.stderr_by("iid").values()), error[:7], rtol=1e-5)
    np.testing.assert_allclose(result.uncertainties["iid"].contrast_stderr, error[7:12], rtol=1e-5)
    np.testing.assert_allclose(result.uncertainties["iid"].offset_stderr, error[12:], rtol=1e-5)
    found = result.covariance_by("iid")
    expected = (covariance / np.outer(error, error))[:7, :7]
    np.testing.assert_allclose(found.values / np.outer(error, error)[:7, :7], expected, atol=1e-5)
    assert list(found.parameter.values) == list(FLOW)


def test_truth_is_recovered_from_a_start_20_to_30_percent_off(fits):
    result = fits["stratified_ls"]
    assert np.abs(pulls(result, FLOW)).max() < 4.5
    assert result.chi2_reduced == pytest.approx(1.0, abs=4.5 * np.sqrt(2 / result.n_points))
    assert result.start == START
    assert result.start_source == "given by the user"


def test_truth_is_recovered_without_a_start(source, fits):
    result = homodyne.fit(source)
    np.testing.assert_allclose(vector(result), vector(fits["stratified_ls"]), rtol=1e-3)
    assert result.converged
    assert result.start_source == "found from the data"
    assert result.start.keys() == FLOW.keys()


def test_a_given_start_is_where_the_search_begins(source, fits):
    """What is missing is looked for; what is given stays as it is among the candidates."""
    part = {"D0": START["D0"], "gamma_dot_0": START["gamma_dot_0"]}
    result = homodyne.fit(source, start=part)
    assert result.start_source == "given by the user, the rest found from the data"
    np.testing.assert_allclose(vector(result), vector(fits["stratified_ls"]), rtol=1e-3)
    rest = homodyne.fit(source, start={n: x for n, x in START.items() if n != "D_offset"})
    assert rest.start_source == "given by the user, defaults of the model for D_offset"
    assert rest.start["D0"] == START["D0"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_shared_pair_is_refuted_where_contrasts_differ(source, strategy, caplog):
    with caplog.at_level(logging.WARNING, logger="homodyne"):
        result = homodyne.fit(source, scaling="auto", strategy=strategy, start=START)
    (refuted,) = (w for w in result.warnings if "auto scaling is refuted by the data" in w)
    assert "use scaling=individual" in refuted
    assert refuted in caplog.text
    assert np.ptp(result.contrast) == 0
    assert np.abs(pulls(result, FLOW)).max() > 3  # the bias it warns of
    assert result.n_parameters == 9


def test_a_shared_pair_is_not_refuted_where_contrasts_are_equal():
    result = homodyne.fit(data(spread=0.0), scaling="auto", strategy="stratified_ls", start=START)
    assert result.warnings == ()
    assert result.converged
    assert np.abs(pulls(result, FLOW)).max() < 4.5


def test_every_scaling_mode_runs_in_both_strategies(source):
    for mode, n_free in (("constant", 0), ("fourier", 6)):
        options = NLSQOptions(fourier_order=1, xtol=1e-8)
        a, b = (homodyne.fit(source, scaling=mode, strategy=s, start=START, options=options) for s in STRATEGIES)
        assert a.converged
        assert b.converged
        assert a.n_parameters == b.n_parameters == 7 + n_free
        np.testing.assert_allclose(vector(b), vector(a), rtol=1e-6)


def test_fixed_parameters_stay_and_have_no_error(source):
    result = homodyne.fit(source, fixed={"D_offset": 300.0, "gamma_dot_offset": 1e-4}, start=START)
    assert result.converged
    assert result.fixed == {"D_offset": 300.0, "gamma_dot_offset": 1e-4}
    for name, value in result.fixed.items():
        assert result.theta[name] == value
        assert result.stderr[name] == 0
    moved = {n: x for n, x in FLOW.items() if n not in result.fixed}
    assert np.abs(pulls(result, moved)).max() < 4.5
    assert result.n_parameters == 5 + 10


def test_everything_fixed_measures_the_contrasts(static):
    result = homodyne.fit(static, "static", fixed=STATIC)
    assert result.converged
    assert result.theta == STATIC
    assert result.n_parameters == 10
    stderr = result.uncertainties["iid"].contrast_stderr
    assert np.all(np.abs(result.contrast - 0.3 * (1 + 0.1 * np.cos(2.4 * np.arange(5)))) < 4.5 * stderr)
    for method in ("speckle", "jackknife", "iid"):  # nothing of the model moved
        assert set(result.stderr_by(method).values()) == {0.0}
    assert np.all(np.isfinite(result.contrast_stderr) & (result.contrast_stderr > 0))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_parameter_that_ends_at_its_bound_says_so(static, strategy):
    result = homodyne.fit(static, "static", strategy=strategy, bounds={"alpha": (-1.5, 1.0)})
    assert result.theta["alpha"] == -1.5
    assert result.at_bound == {"D0": False, "alpha": True, "D_offset": False}
    assert np.isnan(result.stderr["alpha"])
    assert result.stderr["D0"] > 0
    assert any("alpha = -1.5 sits at its lower bound; its error is not defined" in w for w in result.warnings)
    assert "at bound" in result.table()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_valid_pairs_are_fitted_and_nothing_else(static, strategy):
    """No silent sub-sampling: the warm-up on a few frames never becomes the result; NaN points are counted out."""
    c2 = static.c2.copy()
    c2[np.random.default_rng(5).random(c2.shape) < 0.1] = np.nan
    valid = int(np.isfinite(c2[:, ROW, COL]).sum())
    result = homodyne.fit(
        dataclasses.replace(static, c2=c2), "static", strategy=strategy, options=NLSQOptions(subset_frames=24)
    )
    assert result.converged
    assert result.n_points == valid < 5 * len(ROW)
    assert result.decision.n_points == 5 * len(ROW)
    stage, points = result.history["stage"].values, result.history["points"].values
    assert set(stage) == {"subset", "full"}
    assert np.all(points[stage == "full"] == valid)
    assert np.all(points[stage == "subset"] < valid)
    assert np.abs(pulls(result, STATIC)).max() < 4.5


def test_min_lag_leaves_pairs_out(static):
    assert homodyne.fit(static, "static", min_lag=3).n_points == 5 * 57 * 58 // 2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_angle_with_few_points_neither_stops_nor_spoils_the_fit(source, strategy):
    """Blocks that miss an angle: elsewhere a zero gradient, no iteration, and success."""
    c2 = source.c2.copy()
    c2[2, 6:] = np.nan
    result = homodyne.fit(dataclasses.replace(source, c2=c2), strategy=strategy, start=START)
    assert result.converged
    assert np.all(np.abs(vector(result) / np.array(list(START.values())) - 1) > 1e-3)
    assert np.abs(pulls(result, FLOW)).max() < 4.5
    assert result.contrast_stderr[2] == max(result.contrast_stderr)


@pytest.mark.parametrize("scaling", ["individual", "auto"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_angle_without_points_is_an_error(static, strategy, scaling):
    c2 = static.c2.copy()
    c2[2] = np.nan
    with pytest.raises(InputError, match=r"phi=5\.0 has no valid point: .*; leave this angle out"):
        homodyne.fit(dataclasses.replace(static, c2=c2), "static", scaling, strategy)


def test_fewer_valid_points_than_parameters_is_an_error(static):
    c2 = np.full_like(static.c2, np.nan)
    c2[:, 3, 20:22] = static.c2[:, 3, 20:22]
    with pytest.raises(InputError, match="n_points=10 valid points are not more than the 13 free parameters"):
        homodyne.fit(dataclasses.replace(static, c2=c2), "static")


def test_success_is_not_forced(static):
    """One pass over all points is not enough from a few-frames start, and the result says so."""
    options = NLSQOptions(max_passes=1, subset_frames=24, xtol=1e-7)
    result = homodyne.fit(static, "static", options=options)
    assert result.status is Status.MAX_PASSES
    assert not result.converged
    assert result.message == Status.MAX_PASSES.advice
    assert (result.history["stage"] == "full").sum() == 1


def test_one_azimuth_cannot_tell_shear_rate_from_flow_direction():
    """cos(phi0 - phi) times the rate is one number: both are open, with everything else determined."""
    same = problem(n_t=N_T, phi=np.full(5, 20.0), noise=NOISE)[0]
    result = homodyne.fit(same, start=START, weighting="uniform")
    assert result.status is Status.NOT_IDENTIFIABLE
    assert "Undetermined: gamma_dot_0, gamma_dot_offset, phi0." in result.message
    assert {n for n, e in result.stderr.items() if np.isinf(e)} == {"gamma_dot_0", "gamma_dot_offset", "phi0"}
    assert np.isfinite(result.stderr["D0"])
    # the parameters belong to the cost: a last step along the open direction must not have led away
    residual = [
        same.c2[k][ROW, COL] - b - a * g1_squared(list(result.theta.values()), same.t, 20.0)[ROW, COL].real
        for k, (a, b) in enumerate(zip(result.contrast, result.offset, strict=True))
    ]
    assert 0.5 * np.sum(np.square(residual)) / NOISE**2 == pytest.approx(result.history["cost"].values[-1], rel=1e-6)


def test_static_data_under_the_flow_model(static):
    """The diffusion comes out; the shear parameters, which nothing determines, run into their bounds."""
    result = homodyne.fit(static, "laminar_flow")
    assert np.abs(pulls(result, STATIC)).max() < 4.5
    assert result.at_bound["beta"]
    assert np.isnan(result.stderr["beta"])
    assert any("beta = " in w and "bound" in w for w in result.warnings)
    assert abs(result.theta["gamma_dot_0"]) < 1e-4


def test_an_optimum_beyond_positive_transport_is_not_converged(static):
    """Data of a transport coefficient that turns negative: the best J(t) > 0 lies at the border, which is said."""
    c2 = np.stack([1.05 + 0.3 * g1_squared([2e4, -1.0, -4.5e3], static.t, phi).real for phi in PHI])
    noise = np.triu(np.random.default_rng(1).normal(0, NOISE, c2.shape), 1)
    result = homodyne.fit(dataclasses.replace(static, c2=c2 + noise), "static")
    assert result.status is Status.BORDER
    assert "changes its sign" in result.message


class Interrupting(Arrays):
    """A source on which the user presses Ctrl-C at the given read."""

    reads: list = []  # noqa: RUF012
    at = 10**9

    def read_block(self, k, rows, cols):
        self.reads.append(k)
        if len(self.reads) == self.at:
            raise KeyboardInterrupt
        return self.c2[k, rows, cols]


def interrupted(source, at):
    class Once(Interrupting):
        reads: list = []  # noqa: RUF012

    Once.at = at
    made = Once(source.c2, source.phi, source.t, source.sigma)
    options = NLSQOptions(subset_frames=24, xtol=1e-12)
    return homodyne.fit(made, "static", strategy="hybrid_streaming", options=options)


def test_ctrl_c_keeps_the_best_point_so_far(static):
    reads_of_the_subset = 5 * len(np.split(np.arange(24), 3))
    result = interrupted(static, reads_of_the_subset + 5 + 3)  # in the second pass over all points
    assert result.status is Status.INTERRUPTED
    assert not result.converged
    assert result.n_points == 5 * len(ROW)
    assert np.abs(pulls(result, STATIC)).max() < 6


def test_ctrl_c_before_the_first_complete_pass_leaves_no_result(static):
    with pytest.raises(KeyboardInterrupt):
        interrupted(static, 17)


def test_ctrl_c_while_errors_are_computed_keeps_the_fit(static):
    options = NLSQOptions(subset_frames=24, xtol=1e-12)
    whole = homodyne.fit(static, "static", strategy="hybrid_streaming", options=options)
    passes = int((whole.history["stage"] == "full").sum())
    try:
        result = interrupted(static, 5 * 3 + 5 * passes + 5)
    except KeyboardInterrupt:  # which would end the tests
        result = None
    assert result is not None
    assert result.status in (Status.INTERRUPTED, Status.CONVERGED)


def test_result_survives_the_file(fits, tmp_path):
    made = fits["hybrid_streaming"]
    read = FitResult.load(made.save(tmp_path / "result.nc"))
    assert_same_result(made, read)
    assert set(made.uncertainties) == {"speckle", "jackknife", "iid"}
    assert read.table() == made.table()
    assert [p.name for p in tmp_path.iterdir()] == ["result.nc"]


def test_nan_and_infinite_errors_survive_the_file(static, tmp_path):
    made = homodyne.fit(static, "static", bounds={"alpha": (-1.5, 1.0)}, fixed={"D_offset": 0.0})
    read = FitResult.load(made.save(tmp_path / "result.nc"))
    assert np.isnan(read.stderr["alpha"])
    assert read.stderr["D_offset"] == 0
    assert (read.at_bound, read.fixed, read.warnings) == (made.at_bound, made.fixed, made.warnings)
    assert read.status is made.status


def test_record_is_filled(fits, source):
    for name, result in fits.items():
        h = result.history
        assert set(h.data_vars) == set(HISTORY_VARIABLES)
        full = h.where(h["stage"] == "full", drop=True)
        assert full.sizes["pass"] >= 1
        assert np.all(full["points"] == 5 * len(ROW))
        assert np.all(np.isfinite(h["cost"]) & (h["seconds"] > 0) & (h["points_per_second"] > 0))
        assert float(full["step_norm"][-1]) <= 1e-7  # or below what rounding lets the cost see
        assert float(full["chi2"][-1]) == pytest.approx(2 * float(full["cost"][-1]) / result.n_points)
        m = result.memory
        assert 0 < m.baseline_gb <= m.measured_peak_gb < m.available_gb
        assert m.threshold_gb == pytest.approx(0.75 * m.available_gb)
        assert m.predicted_peak_gb > 0
        assert len(m.series_gb) == len(m.series_seconds) >= 2
        assert result.decision.strategy == name
        assert result.decision.log_lines[0].startswith(f"Strategy: {name} (n=8.85K pts, est. peak=")
        edges, counts = result.residual_histogram
        assert len(edges) == len(counts) + 1
        assert counts.sum() == 5 * len(ROW)
        assert result.provenance["versions"]["numpy"] == np.__version__
        assert result.sigma_source == source.sigma_source
        assert result.chi2_per_angle.mean() == pytest.approx(1.0, abs=0.1)


def test_maps_show_data_and_model(source, fits):
    result = fits["stratified_ls"]
    maps = fit_maps(source, result, angles=[0, 3])
    assert [m.phi_deg for m in maps] == [PHI[0], PHI[3]]
    for k, m in zip((0, 3), maps, strict=True):
        assert m.data.shape == m.model.shape == (N_T, N_T)
        assert np.all(np.isnan(np.diag(m.data)) & np.isnan(np.diag(m.model)))
        np.testing.assert_array_equal(m.data[ROW, COL], source.c2[k][ROW, COL])
        np.testing.assert_array_equal(m.data, m.data.T)
        z = (m.data - m.model)[ROW, COL] / m.sigma
        assert np.mean(z**2) == pytest.approx(result.chi2_per_angle[k], rel=1e-6)
    assert len(fit_maps(source, result)) == 5


def test_large_maps_are_thinned_for_display_only():
    big, theta, _ = problem("static", n_t=850, n_phi=1, noise=0.0, spread=0.0)
    result = homodyne.fit(data("static"), "static", fixed=STATIC)
    shown = fit_maps(big, dataclasses.replace(result, contrast=np.array([0.3]), offset=np.array([1.05])))[0]
    assert shown.data.shape == (284, 284)
    np.testing.assert_array_equal(shown.t_s, big.t[::3])
    i, j = np.triu_indices(284, k=1)
    np.testing.assert_array_equal(shown.data[i, j], big.c2[0][::3, ::3][i, j])
    np.testing.assert_allclose(shown.model[i, j], shown.data[i, j], atol=1e-12)
    assert theta == STATIC


SINGLE = NLSQOptions(precision="float32", subset_frames=16)


def test_single_precision_ends_in_double_and_gives_the_same_answer(source, fits, caplog):
    caplog.set_level(logging.INFO, "homodyne")
    found = homodyne.fit(source, strategy="hybrid_streaming", start=START, options=SINGLE, weighting="uniform")
    double = fits["hybrid_streaming"]
    assert found.converged
    apart = [abs(found.theta[n] - x) / double.stderr[n] for n, x in double.theta.items()]
    assert max(apart) < 1e-2
    notes = [m.split(":")[0].split(" in ")[1] for m in caplog.messages if m.startswith("Pass ")]
    assert notes[0] == "float32"
    assert notes[-1] == "float64"
    # the last pass is the exact one: cost and errors are those of double precision
    assert found.chi2_reduced == pytest.approx(double.chi2_reduced, rel=1e-9)
    assert found.stderr["D0"] == pytest.approx(double.stderr["D0"], rel=1e-3)
    assert found.provenance["options"]["precision"] == "float32"


def test_full_batch_says_that_it_sums_in_double_precision(source, caplog):
    caplog.set_level(logging.INFO, "homodyne")
    homodyne.fit(source, strategy="stratified_ls", start=START, options=SINGLE)
    assert "precision=float32 is for streamed passes; stratified_ls sums in float64" in caplog.messages


def test_an_interruption_between_the_precisions_keeps_what_single_precision_found(source, monkeypatch):
    real = engine.block_pass

    def block_pass(*given):
        def interrupted(theta, reference):
            raise KeyboardInterrupt

        return real(*given) if "float32" in given else interrupted

    monkeypatch.setattr(engine, "block_pass", block_pass)
    found = homodyne.fit(source, strategy="hybrid_streaming", start=START, options=SINGLE)
    assert found.status is Status.INTERRUPTED
    assert max(abs(p) for p in pulls(found, FLOW)) < 5
