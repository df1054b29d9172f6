"""What a user reads when the data leave something open, and when two sectors see the same light."""

import dataclasses
import itertools

import numpy as np
import pytest

import homodyne
from homodyne.models import get_model
from homodyne.optimization.uncertainty.identifiable import outside_bounds, sentences
from homodyne.optimization.uncertainty.residual_structure import binned, same_light
from homodyne.result import Status
from homodyne.simulate import speckle_maps
from tests.optimization.problems import Arrays, uniform_fit
from tests.reference import DT, GAP, Q
from tests.result.comparison import curve_table

PHI = np.array([-70.0, -35.0, 5.0, 40.0, 85.0])
T = DT * np.arange(60)


def light(theta, seed=0, **settings):
    numbers = {"contrast": 0.3, "counts": 5.0, "pixels": 4000, **settings}
    c2 = speckle_maps("static", theta, PHI, T, Q, seed=seed, **numbers)
    sigma = np.array([np.diff(one[:10, 30:], axis=1).std() for one in c2])
    return Arrays(c2, PHI, T, sigma)


def transport(theta):
    return theta["D0"] * np.maximum(T, DT / 2) ** theta["alpha"] + theta["D_offset"]


@pytest.fixture(scope="module")
def constant():
    """Light of a constant transport coefficient, for which D0 and D_offset are one number."""
    truth = {"D0": 8e3, "alpha": 0.0, "D_offset": 0.0}
    return truth, light(truth)


@pytest.fixture(scope="module")
def degenerate(constant):
    return uniform_fit(constant[1], "static", fixed={"alpha": 0.0})


def test_two_parameters_that_are_one_are_said_to_be(degenerate):
    assert degenerate.status is Status.NOT_IDENTIFIABLE
    assert degenerate.undetermined == ("D0", "D_offset")
    assert degenerate.message.endswith("Undetermined: D0, D_offset.")
    (text,) = (f for f in degenerate.findings if "not determined" in f)
    assert text.startswith("D0, D_offset are not determined one by one: the data determine J(t) within 25 % for t = ")
    assert text.endswith("use curves()")
    assert "0.1 s to 5.9 s" in text
    assert degenerate.table().count("undetermined") == 2


def test_their_errors_are_infinite_by_every_method(degenerate):
    for method in ("speckle", "jackknife", "iid"):
        assert degenerate.stderr_by(method) == {"D0": np.inf, "alpha": 0.0, "D_offset": np.inf}
    assert degenerate.interval("D0") == (-np.inf, np.inf)
    assert degenerate.interval("D0", 0.95, "jackknife") == (-np.inf, np.inf)
    assert degenerate.interval("alpha") == (0.0, 0.0)
    assert np.all(np.isnan(degenerate.correlation.sel(parameter="D0")))
    (null,) = degenerate.uncertainty.null.T
    np.testing.assert_allclose(null / null[0], [1.0, 0.0, -1.0], atol=1e-6)


def test_their_sum_is_known_as_well_as_ever(constant, degenerate):
    truth, source = constant
    alone = uniform_fit(source, "static", fixed={"alpha": 0.0, "D_offset": 0.0})
    curves = degenerate.curves()
    for method in ("speckle", "iid"):
        stderr = curves[f"J_stderr_{method}"].values
        np.testing.assert_allclose(stderr, alone.stderr_by(method)["D0"], rtol=1e-4)
    np.testing.assert_allclose(curves["J"], alone.theta["D0"], rtol=1e-4)
    assert np.all(np.abs(curves["J"] - transport(truth)) < 4 * curves["J_stderr"])
    np.testing.assert_allclose(degenerate.contrast_stderr, alone.contrast_stderr, rtol=1e-4)


def test_flow_fitted_to_light_without_flow():
    """Nothing determines the direction of a flow that is not there; diffusion is found all the same."""
    truth = {"D0": 1.7e4, "alpha": -0.5, "D_offset": 0.0}
    source = light(truth, seed=3)
    result = uniform_fit(source, "laminar_flow", fixed={"D_offset": 0.0, "gamma_dot_offset": 0.0})
    words = " | ".join(result.findings + result.warnings)
    assert "phi0 is not determined (error " in words
    assert "far from linear within two errors" in words
    assert "gamma_dot_0" in words
    curves = result.curves()
    assert np.all(np.abs(curves["J"] - transport(truth)) < 4 * curves["J_stderr"])
    assert np.all(curves["J_stderr"] < 0.15 * curves["J"])
    # no flow within its error
    assert result.theta["gamma_dot_0"] < 4 * result.stderr["gamma_dot_0"]
    assert result.theta["gamma_dot_0"] * T[-1] * 0.5 * Q * GAP < np.pi


def test_more_than_the_range_is_undetermined():
    """An error of 2100 where the bounds are +-1500: the data say less than they do."""
    truth = {"D0": 8e3, "alpha": -0.1, "D_offset": 0.0}
    source = light(truth, seed=2)
    wide, narrow = (
        uniform_fit(source, "static", fixed={"alpha": -0.1}, bounds={"D_offset": (-limit, limit)})
        for limit in (1e4, 1.5e3)
    )
    assert wide.converged
    assert 1.8e3 < wide.stderr["D_offset"] < 2.5e3
    assert narrow.status is Status.NOT_IDENTIFIABLE
    assert narrow.undetermined == ("D_offset",)
    assert narrow.stderr["D_offset"] == np.inf
    assert narrow.stderr["D0"] == pytest.approx(wide.stderr["D0"], rel=1e-3)
    # iid errors alone would not have told
    assert np.sqrt((narrow.uncertainties["iid"].root ** 2).sum(1))[2] < 1.5e3
    assert np.all(narrow.curves()["J_stderr"] < 0.15 * narrow.curves()["J"])


def test_half_the_range_is_the_limit():
    model = get_model("static")
    found = homodyne.result.Uncertainty("iid", np.diag([1.0, 2.1, 0.0]), np.zeros((3, 0)), np.zeros(1), np.zeros(1))
    assert outside_bounds(found, model.parameters) == (1,)  # alpha from -2 to 2
    nan = dataclasses.replace(found, root=np.diag([np.nan, 1.9, 0.0]))
    assert outside_bounds(nan, model.parameters) == (0,)


def spoken(stderr, undetermined=(), relative=0.1, name="laminar_flow"):
    """Sentences for errors of these sizes and curves known to ``relative``."""
    model = get_model(name)
    return list(sentences(model, model.parameters, np.array(stderr), undetermined, curve_table(relative)))


@pytest.mark.parametrize(
    ("stderr", "relative", "expected"),
    [
        ([10, 0.01, 10, 1e-5, 0.01, 1e-5, 0.1], 0.1, []),
        ([0, 0, 0, 0, 0, 0, 0], 0.1, []),
        ([1e5, 0.01, 1e5, 1e-5, 0.01, 1e-5, 0.1], 0.1,
         ["D0, D_offset are not determined one by one: the data determine J(t) within 25 % for t = 0.1 s to 2.9 s, "
          "best within 10 % at 0 s; use curves()"]),
        ([10, 0.01, 1e5, 1e-5, 0.01, 1e-5, 0.1], 0.1,
         ["D_offset is not determined by itself: the data determine J(t) within 25 % for t = 0.1 s to 2.9 s, "
          "best within 10 % at 0 s; use curves()"]),
        ([1e5, 0.01, 1e5, 1e-5, 0.01, 1e-5, 0.1], 0.4,
         ["D0, D_offset are not determined one by one: nor is J(t), whose error is 40 % at best, at t = 0 s"]),
        ([1e5, 0.01, 1e5, 1e-5, 0.01, 1e-5, 0.1], np.inf, ["D0, D_offset are not determined one by one: nor is J(t) at any time"]),
        ([10, 0.01, 10, 1e-5, 0.01, 1e-5, 44.0], 0.1, ["phi0 is not determined (error 44 degree)"]),
        # with its exponent open, no part of a rate stands for itself
        ([10, 0.01, 10, 1e-5, 0.9, 1e-5, 0.1], 0.1,
         ["gamma_dot_0, beta, gamma_dot_offset are not determined one by one: the data determine gamma_dot(t) within 25 % "
          "for t = 0.1 s to 2.9 s, best within 10 % at 0 s; use curves()"]),
    ],
)  # fmt: skip
def test_sentences(stderr, relative, expected):
    assert spoken(stderr, relative=relative) == expected


def residuals(n_phi, n_t=40, seed=0):
    """Noise of independent sectors, on all frames."""
    theta = {"D0": 8e3, "alpha": 0.0, "D_offset": 0.0}
    c2 = speckle_maps("static", theta, np.zeros(n_phi), DT * np.arange(n_t), Q, counts=1.0, pixels=300, seed=seed)
    r = c2 - 1 - 0.3 * get_model("static").g1_squared(theta, DT * np.arange(n_t), 0.0, Q)
    return np.where(np.triu(np.ones((n_t, n_t)), 1) > 0, r, np.nan)


@pytest.mark.parametrize("seed", range(5))
def test_independent_sectors_are_not_taken_for_the_same_light(seed):
    assert same_light(residuals(12, seed=seed), np.arange(40)) == []


def test_the_same_light_is_found():
    r = residuals(6)
    r[4] = r[1]
    ((a, b, correlation),) = same_light(r, np.arange(40))
    assert (a, b) == (1, 4)
    assert correlation == pytest.approx(1.0)
    # sectors that share half their pixels, and one whose noise is twice the other's
    r[4] = 0.5 * (r[1] + r[5])
    found = same_light(r, np.arange(40))
    assert [(a, b) for a, b, _ in found] == [(1, 4), (4, 5)]
    assert all(c == pytest.approx(np.sqrt(0.5), abs=0.1) for *_, c in found)
    r[4] = 2 * r[1]
    assert [(a, b) for a, b, _ in same_light(r, np.arange(40))] == [(1, 4)]


def test_missing_points_do_not_hide_it():
    r = residuals(6)
    r[4] = r[1]
    r[:, 7], r[:, :, 20] = np.nan, np.nan
    assert [(a, b) for a, b, _ in same_light(r, np.arange(40))] == [(1, 4)]
    assert same_light(r[:, ::5, ::5], np.arange(0, 40, 5)) == []  # no neighbors to compare


def test_a_sector_that_is_there_twice_is_named_by_the_fit():
    truth = {"D0": 8e3, "alpha": -0.3, "D_offset": 0.0}
    source = light(truth)
    c2 = source.c2.copy()
    c2[3] = c2[1]
    fixed = {"D_offset": 0.0}
    twice = uniform_fit(dataclasses.replace(source, c2=c2, sigma=source.sigma[[0, 1, 2, 1, 4]]), "static", fixed=fixed)
    (text,) = (w for w in twice.warnings if "carry the same noise" in w)
    assert text.startswith("Angles -35 and 40 degree carry the same noise (correlation 1.00)")
    once = uniform_fit(source, "static", fixed=fixed)
    assert not [w for w in once.warnings if "carry the same noise" in w]


def test_means_by_lag_and_age():
    """Against loops over pairs."""
    rng = np.random.default_rng(0)
    frames = np.concatenate([np.arange(20), np.arange(30, 50)])
    r = rng.normal(size=(3, 40, 40))
    r[rng.random(r.shape) < 0.2] = np.nan
    found = binned(r, frames, 2)
    lag = frames[None, :] - frames[:, None]
    age = 0.5 * (frames[None, :] + frames[:, None])
    edges = np.unique(np.round(np.geomspace(2, 49, 25)))
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        last = k == len(edges) - 2
        inside = (lag >= low) & ((lag <= high) if last else (lag < high))
        assert found["by_lag"][k] == pytest.approx(np.nanmean(r[:, inside]))
        assert low <= found["lag"][k] <= high
    for k in range(24):
        inside = (lag >= 2) & (np.minimum((age / 49 * 24).astype(int), 23) == k)
        values = r[:, inside]
        assert np.isnan(found["by_age"][k]) if not np.isfinite(values).any() else True
        if np.isfinite(values).any():
            assert found["by_age"][k] == pytest.approx(np.nanmean(values))
    assert found["by_lag_and_age"].shape == (24, len(edges) - 1)


def test_light_that_cannot_be_speckle_has_no_speckle_errors():
    """A negative contrast at every angle: the errors are iid, and it is said."""
    truth = {"D0": 8e3, "alpha": -0.3, "D_offset": 0.0}
    source = light(truth)
    result = uniform_fit(dataclasses.replace(source, c2=2 - source.c2), "static", fixed={"D_offset": 0.0})
    assert set(result.uncertainties) == {"jackknife", "iid"}
    assert result.covariance_method == "iid"
    assert result.stderr == result.stderr_by("iid")
    assert any(
        w.startswith("Errors are iid, too small where pairs share frames: the data do not tell")
        for w in result.warnings
    )
    assert "counts" not in result.diagnostics
