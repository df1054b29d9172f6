"""Settings and results as flat names."""

from __future__ import annotations

import math

import numpy as np

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
    result = make_fit_result(at_bound={n: n == "alpha" for n in make_fit_result().theta})
    found = flatten.metrics(result)
    for name in result.theta:
        assert found[f"theta.{name}"] == result.theta[name]
        assert found[f"stderr.{name}"] == result.stderr[name]
    assert [name for name in found if name.startswith("at_bound.")] == ["at_bound.alpha"]
    assert found["n_at_bound"] == 1.0
    assert found["chi2_reduced"] == result.chi2_reduced
    assert found["memory.measured_peak_gb"] == result.memory.measured_peak_gb
    assert found["memory.predicted_peak_gb"] == result.memory.predicted_peak_gb
    assert found["memory.available_gb"] == result.memory.available_gb
    assert found["seconds"] == 2.0
    assert all(isinstance(v, float) for v in found.values())


def test_series_follow_the_passes_and_the_memory():
    result = make_fit_result()
    curves = {s.name: s for s in flatten.series(result)}
    for name in ("cost", "gradient_norm", "radius", "points_per_second"):
        np.testing.assert_array_equal(curves[f"pass.{name}"].values, result.history[name].values)
    np.testing.assert_array_equal(curves["memory.rss_gb"].values, result.memory.series_gb)
    np.testing.assert_array_equal(curves["angle.contrast"].values, result.contrast)


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


def test_commit_of_the_code_without_its_mark_of_changes():
    sha = "0123456789abcdef0123456789abcdef01234567"
    assert flatten.commit(make_fit_result(provenance={"git_commit": f"{sha}-dirty"})) == sha
    assert flatten.commit(make_fit_result(provenance={"git_commit": "unknown: not run from a git checkout"})) is None
    assert flatten.commit(make_fit_result(provenance={})) is None
