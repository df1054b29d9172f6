"""Settings and results as flat names."""

from __future__ import annotations

import math

import numpy as np
import pytest

from homodyne.result import Weighting
from homodyne.tracking import flatten
from tests.factories import make_fit_result, make_memory


def test_nested_settings_become_dotted_names_without_targets():
    settings = {
        "model": {"_target_": "x", "scaling": "auto", "start": {"D0": 1.0}, "fixed": {}},
        "phi": [0, [80, -80]],
        "q": None,
    }
    assert flatten.flatten(settings) == {
        "model.scaling": "auto",
        "model.start.D0": "1.0",
        "model.fixed": "{}",
        "phi": "[0, [80, -80]]",
        "q": "null",
    }


def test_long_values_point_to_the_artifact():
    assert flatten.flatten({"phi": list(range(1000))})["phi"].endswith("see config.yaml or result.nc)")
    assert len(flatten.flatten({"phi": list(range(1000))})["phi"]) < 80


def test_metrics_hold_values_errors_and_bounds_of_every_parameter():
    result = make_fit_result(at_bound={n: n == "alpha" for n in make_fit_result().theta}, undetermined=("beta",))
    found = flatten.metrics(result)
    for name in result.theta:
        assert found[f"theta.{name}"] == result.theta[name]
        assert found[f"stderr.{name}"] == pytest.approx(result.stderr[name], nan_ok=True)
    assert np.isnan(found["stderr.alpha"])
    assert found["stderr.beta"] == np.inf
    assert [name for name in found if name.startswith("at_bound.")] == ["at_bound.alpha"]
    assert found["n_at_bound"] == found["n_undetermined"] == 1.0
    assert found["chi2_reduced"] == result.chi2_reduced
    assert found["memory.measured_peak_gb"] == result.memory.measured_peak_gb
    assert found["memory.predicted_peak_gb"] == result.memory.predicted_peak_gb
    assert found["memory.available_gb"] == result.memory.available_gb
    assert found["seconds"] == 2.0
    assert all(isinstance(v, float) for v in found.values())


def test_metrics_hold_the_errors_of_the_other_methods_where_there_is_one():
    result = make_fit_result(undetermined=("beta",))
    found = flatten.metrics(result)
    for method in ("jackknife", "iid"):
        assert found[f"stderr_{method}.D0"] == result.stderr_by(method)["D0"]
        assert f"stderr_{method}.beta" not in found
    assert not any(name.startswith("stderr_speckle") for name in found)


def test_metrics_hold_the_chi2_that_speckle_noise_makes_where_it_is_known():
    result = make_fit_result(4)
    found = flatten.metrics(result)
    assert found["chi2_expected"] == pytest.approx(1.01)
    assert found["chi2_expected_sd"] == pytest.approx(0.01)
    without = make_fit_result(4, diagnostics=result.diagnostics.drop_vars(["chi2_expected", "chi2_sd"]))
    assert "chi2_expected" not in flatten.metrics(without)


def test_series_follow_the_passes_and_the_memory():
    result = make_fit_result()
    curves = {s.name: s for s in flatten.series(result)}
    for name in ("cost", "gradient_norm", "radius", "points_per_second"):
        np.testing.assert_array_equal(curves[f"pass.{name}"].values, result.history[name].values)
    np.testing.assert_array_equal(curves["memory.rss_gb"].values, result.memory.series_gb)
    np.testing.assert_array_equal(curves["angle.contrast"].values, result.contrast)


def test_curves_are_thinned_to_frames_even_in_log_t():
    table = make_fit_result().curve_table
    curves = {s.name: s for s in flatten.series(make_fit_result()) if s.name.startswith("curve.")}
    assert {"curve.t_s", "curve.J", "curve.J_stderr", "curve.gamma_dot", "curve.gamma_dot_stderr"} <= set(curves)
    assert not any("iid" in name for name in curves)
    frames = curves["curve.J"].steps
    assert (frames[0], frames[-1]) == (0, 299)
    assert 50 < frames.size <= 100
    for name in ("J", "J_stderr"):
        np.testing.assert_array_equal(curves[f"curve.{name}"].values, table[name].values[frames])
    np.testing.assert_array_equal(curves["curve.t_s"].values, table["t"].values[frames])
    shortest = flatten.series(make_fit_result(curve_table=table.isel(t=slice(0, 1))))
    assert next(s for s in shortest if s.name == "curve.J").steps.tolist() == [0]


def test_long_memory_series_are_thinned_to_their_ends():
    seconds = np.linspace(0, 3600, 72_001)
    memory = make_memory().__class__(60, 40, 1, 2, 0.4, seconds, seconds / 3600)
    curve = next(s for s in flatten.series(make_fit_result(memory=memory)) if s.name == "memory.rss_gb")
    assert curve.values.size == 1000
    assert (curve.seconds[0], curve.seconds[-1]) == (0.0, 3600.0)


def test_values_that_are_not_finite_are_set_apart():
    finite, dropped = flatten.split_finite({"a": 1.0, "b": math.inf, "c": math.nan})
    assert finite == {"a": 1.0}
    assert dropped == ["b", "c"]


def test_tags():
    tags = flatten.tags({"dataset": {"path": "/data/run42_results.hdf"}}, make_fit_result())
    assert tags == {
        "model": "laminar_flow",
        "scaling": "individual",
        "strategy": "stratified_ls",
        "convention": "physical",
        "status": "converged",
        "dataset": "run42_results.hdf",
    }
    assert flatten.tags({"dataset": {"n_phi": 3}}, make_fit_result())["dataset"] == "synthetic"


def test_the_note_has_warnings_first_and_a_bounded_length():
    result = make_fit_result(warnings=("chi2 is large",), findings=("J(t) is known", "x" * 9000))
    assert flatten.note(result).startswith("chi2 is large\n\nJ(t) is known\n\nxxx")
    assert len(flatten.note(result)) == flatten.LONGEST_NOTE


def test_parameters_name_what_is_undetermined():
    found = flatten.parameters({}, make_fit_result(undetermined=("alpha", "beta")))
    assert (found["undetermined"], found["covariance_method"]) == ("alpha, beta", "speckle")
    assert flatten.parameters({}, make_fit_result())["undetermined"] == "none"


def test_commit_of_the_code_without_its_mark_of_changes():
    sha = "0123456789abcdef0123456789abcdef01234567"
    assert flatten.commit(make_fit_result(provenance={"git_commit": f"{sha}-dirty"})) == sha
    assert flatten.commit(make_fit_result(provenance={"git_commit": "unknown: not run from a git checkout"})) is None
    assert flatten.commit(make_fit_result(provenance={})) is None


def test_a_whitened_fit_is_recorded_beside_what_uniform_weights_would_have_given():
    plain = make_fit_result()
    errors = dict.fromkeys(plain.theta, 2.0)
    record = Weighting("whitened", "auto", "whitened", uniform=plain.theta, uniform_stderr=errors, ratio=0.4)
    found = flatten.metrics(make_fit_result(weighting=record))
    assert found["weighting.ratio"] == 0.4
    assert all(found[f"stderr_uniform.{name}"] == 2.0 for name in plain.theta)
    assert flatten.parameters({}, make_fit_result(weighting=record))["weighting"] == "whitened"
    assert not any("uniform" in name for name in flatten.metrics(plain))
