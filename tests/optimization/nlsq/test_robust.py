"""Robust fits end at the joint optimum that scipy finds, whatever the scaling, strategy, blocks, weights and precision."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy.optimize import least_squares

import homodyne
from homodyne import NLSQOptions
from homodyne.errors import InputError
from homodyne.models import get_model
from homodyne.optimization.loss import Loss
from homodyne.optimization.nlsq.hybrid_streaming import streamed_pass
from homodyne.optimization.nlsq.stratified_ls import full_batch_pass
from homodyne.optimization.normal import freed, linearize_robust, nearest_pairs
from homodyne.optimization.scaling import make_scaling
from homodyne.optimization.source import all_frames
from tests.optimization.problems import Arrays, problem, uniform_fit
from tests.reference import FLOW, jacobian

FIXED = {"D_offset": FLOW["D_offset"], "gamma_dot_offset": FLOW["gamma_dot_offset"]}
FREE = np.array([0, 1, 3, 4, 6])
ROW, COL = np.triu_indices(40, 1)


@functools.cache
def spoiled(weighted=False):
    """Five angles with noise, 2 % of the pairs missing and 3 % far too large; sigma per point where weighted."""
    source, _, _ = problem(n_phi=5, noise=0.01, missing=0.02, spread=0.0)
    rng = np.random.default_rng(4)
    c2 = source.c2.copy()
    bad = rng.random(c2.shape) < 0.03
    c2[bad] += rng.exponential(0.2, np.count_nonzero(bad))
    points = None
    if weighted:
        points = 0.01 * rng.uniform(0.5, 2.0, c2.shape)
        points[:, 3, 17] = 0.0
    return Arrays(c2, source.phi, source.t, np.ones(5) if weighted else source.sigma, sigma_points=points)


def options(loss, scale=2.0, **others):
    return NLSQOptions(loss=loss, loss_scale=scale, **{"xtol": 1e-9, "fourier_order": 1, "subset_frames": 24, **others})


@functools.cache
def fitted(mode, loss, strategy="stratified_ls", weighted=False):
    return uniform_fit(
        spoiled(weighted), scaling=mode, strategy=strategy, start=FLOW, fixed=FIXED, covariance="iid",
        options=options(loss),
    )  # fmt: skip


class Dense:
    """The joint problem of theta and all scaling parameters, one row a pair, on the NumPy model."""

    def __init__(self, source, mode, given):
        n, x = len(source.phi), np.deg2rad(source.phi)
        self.terms = {
            "individual": np.eye(n),
            "auto": np.ones((n, 1)),
            "fourier": np.stack([np.ones(n), np.cos(x), np.sin(x)], axis=1),
            "constant": np.zeros((n, 0)),
        }[mode]
        self.source, self.given = source, given
        sigma = source.sigma[:, None] if source.sigma_points is None else source.sigma_points[:, ROW, COL]
        y = source.c2[:, ROW, COL]
        self.ok = np.isfinite(y) & (sigma > 0)
        self.y, self.sigma = y, np.broadcast_to(np.where(sigma > 0, sigma, 1.0), y.shape)
        self.units = np.abs(list(FLOW.values()))

    def split(self, x):
        theta = np.array(list(FLOW.values()))
        theta[FREE] = x[:5] * self.units[FREE]
        if not self.terms.shape[1]:
            return theta, self.given
        half = (len(x) - 5) // 2
        return theta, np.stack([self.terms @ x[5 : 5 + half], self.terms @ x[5 + half :]], axis=1)

    def rows(self, x):
        theta, pairs = self.split(x)
        parts = []
        for k, phi in enumerate(self.source.phi):
            s, ds = jacobian(theta, self.source.t, phi)
            r = (self.y[k] - pairs[k, 1] - pairs[k, 0] * s) / self.sigma[k]
            scaling = [np.outer(s, self.terms[k]), np.outer(np.ones_like(s), self.terms[k])]
            columns = np.hstack([pairs[k, 0] * (ds * self.units)[:, FREE], *scaling])
            parts.append((r[self.ok[k]], -(columns / self.sigma[k][:, None])[self.ok[k]]))
        return tuple(np.concatenate(p) for p in zip(*parts, strict=True))

    def optimum(self, fit, loss, scale=2.0):
        """scipy's, from a few percent beside the fit: theta, contrast and offset, cost."""
        away = np.array([1.02, 0.97, 1.03, 0.98, 1.02])
        x = np.array([fit.theta[n] for n in FLOW])[FREE] / self.units[FREE] * away
        scaling = [np.linalg.lstsq(self.terms, values, rcond=None)[0] for values in (fit.contrast, fit.offset)]
        found = least_squares(
            lambda x: self.rows(x)[0], np.concatenate([x, *scaling]), lambda x: self.rows(x)[1], loss=loss,
            f_scale=scale, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=300,
        )  # fmt: skip
        return *self.split(found.x), found.cost


def close(fit, theta, pairs, limit):
    stderr = np.array([fit.stderr[n] for n in FLOW])[FREE]
    away = np.abs(np.array([fit.theta[n] for n in FLOW]) - theta)[FREE] / stderr
    assert away.max() < limit
    np.testing.assert_allclose(np.stack([fit.contrast, fit.offset], axis=1), pairs, atol=1e-7)


# few of them: every loss, kind of weights and way to sum is compiled for itself
CASES = [
    ("individual", "cauchy", False), ("auto", "soft_l1", False), ("constant", "soft_l1", False),
    ("fourier", "soft_l1", False), ("individual", "soft_l1", True),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "loss", "weighted"), CASES)
def test_the_fit_is_the_joint_optimum_of_scipy(mode, loss, weighted):
    fit = fitted(mode, loss, weighted=weighted)
    assert fit.converged
    given = np.stack([fit.contrast, fit.offset], axis=1)
    theta, pairs, cost = Dense(spoiled(weighted), mode, given).optimum(fit, loss)
    close(fit, theta, pairs, 1e-5)
    assert 0.5 * fit.chi2_reduced * (fit.n_points - fit.n_parameters) == pytest.approx(cost, rel=1e-12)


@pytest.mark.parametrize(("mode", "loss", "weighted"), CASES)
def test_streamed_is_full_batch(mode, loss, weighted):
    full, streamed = (fitted(mode, loss, s, weighted) for s in ("stratified_ls", "hybrid_streaming"))
    np.testing.assert_allclose(list(streamed.theta.values()), list(full.theta.values()), rtol=1e-10)
    np.testing.assert_allclose(streamed.contrast, full.contrast, rtol=1e-10)
    assert streamed.chi2_reduced == pytest.approx(full.chi2_reduced, rel=1e-12)


def test_sums_of_any_blocks_are_those_of_the_dense_rows():
    source, theta = spoiled(True), np.array(list(FLOW.values())) * 1.05
    reference, robust = np.tile([0.28, 1.06], (5, 1)), Loss("soft_l1", 2.0)
    model, view = get_model("laminar_flow"), all_frames(source)
    runs = [full_batch_pass(model, view, 1, loss=robust), streamed_pass(model, view, 1, 400, loss=robust)]
    for sums in (run(theta, reference) for run in runs):
        for k, phi in enumerate(source.phi):
            s, ds = jacobian(theta, source.t, phi)
            sigma, y = source.sigma_points[k, ROW, COL], source.c2[k, ROW, COL]
            ok = np.isfinite(y) & (sigma > 0)
            r = ((y - 1.06 - 0.28 * s) / np.where(sigma > 0, sigma, 1.0))[ok]
            columns = np.column_stack([s, np.ones_like(s), ds])[ok] / sigma[ok, None]
            _, slope, curvature = (np.asarray(x) for x in robust.derivatives((r / 2.0) ** 2))
            h = np.maximum(curvature, 0.01 * slope)
            gram = columns.T @ (h[:, None] * columns)
            size = np.sqrt(np.diag(gram))
            found = sums.factors[k].T @ sums.factors[k]
            np.testing.assert_allclose(found[:-1, :-1] / np.outer(size, size), gram / np.outer(size, size), atol=1e-12)
            gradient = columns.T @ (slope * r) / size
            np.testing.assert_allclose(found[:-1, -1] / size, gradient, atol=1e-11 * np.linalg.norm(r))
            np.testing.assert_allclose(sums.terms[k], np.asarray(robust.terms(r)).sum(1), rtol=1e-11)
            assert sums.counts[k] == np.count_nonzero(ok)


@pytest.mark.parametrize("mode", ["individual", "fourier", "constant"])
def test_the_step_of_theta_and_scaling_solves_the_joint_problem(mode):
    source, theta = spoiled(), np.array(list(FLOW.values())) * 1.03
    scaling = make_scaling(mode, source.phi, 1, np.tile([0.29, 1.05], (5, 1)))
    pairs = nearest_pairs(scaling, np.stack([np.linspace(0.27, 0.31, 5), np.full(5, 1.06)], axis=1))
    run = full_batch_pass(get_model("laminar_flow"), all_frames(source), 1, loss=Loss("soft_l1", 2.0))
    at = linearize_robust(run(theta, pairs), scaling, source.sigma)
    joint = np.hstack([at.theta_jacobian, at.scaling_jacobian])
    target = (at.sums.factors[:, :, -1] / source.sigma[:, None]).reshape(-1)
    size = np.linalg.norm(joint, axis=0)
    expected = np.linalg.lstsq(joint / size, target, rcond=None)[0] / size
    own = np.linalg.norm(at.jacobian, axis=0)
    step = np.linalg.lstsq(at.jacobian / own, at.residual, rcond=None)[0] / own
    np.testing.assert_allclose(step, expected[:7], rtol=1e-7)
    moved = at.following.after(step, 0.0) - pairs
    np.testing.assert_allclose(moved, np.einsum("kib,b->ki", scaling.basis, expected[7:]), atol=1e-9)
    left = target - joint @ expected
    decrease = at.jacobian @ step @ (at.residual - 0.5 * at.jacobian @ step) + at.following.damped_decrease(0.0)
    assert decrease == pytest.approx(0.5 * (target @ target - left @ left), rel=1e-9)
    # another scaling, tried without a pass
    chi2, found, _ = freed(at, make_scaling("individual", source.phi), source.sigma)
    drop = 0.0
    for k in range(5):
        a, b = at.sums.factors[k, :, :2] / source.sigma[k], target.reshape(5, -1)[k]
        beta = np.linalg.lstsq(a, b, rcond=None)[0]
        np.testing.assert_allclose(found[k], pairs[k] + beta, rtol=1e-9)
        drop += b @ b - np.sum((b - a @ beta) ** 2)
    assert (at.chi2 - chi2).sum() == pytest.approx(drop, rel=1e-9)


def test_spoiled_pairs_lose_their_influence():
    """What outliers do to least squares, and not to the others; independent noise, so errors of iid are right."""
    truth = np.array(list(FLOW.values()))[FREE]
    away = {}
    for loss in ("linear", "soft_l1", "cauchy"):
        fit = fitted("individual", loss)
        values, stderr = (np.array([x[n] for n in FLOW])[FREE] for x in (fit.theta, fit.stderr))
        away[loss] = np.abs(values - truth), stderr
    for loss in ("soft_l1", "cauchy"):
        assert np.all(away[loss][0] < 3.5 * away[loss][1])
        assert np.all(away[loss][1] < 0.5 * away["linear"][1])


def test_the_record_names_the_loss_and_the_pairs_set_aside():
    fit = fitted("individual", "soft_l1")
    assert fit.provenance["options"]["loss"] == "soft_l1"
    assert fit.provenance["loss"] == {"name": "soft_l1", "scale": 2.0, "unit": pytest.approx(1.1, abs=0.3)}
    (sentence,) = [text for text in fit.findings if text.startswith("Loss soft_l1, 2 sigma")]
    share = float(sentence.split(":")[1].split("%")[0])
    assert 2.0 < share < 3.5
    linear = fitted("individual", "linear")
    assert "loss" not in linear.provenance
    assert not [text for text in linear.findings if text.startswith("Loss")]


def test_single_precision_first_ends_at_the_same_optimum():
    single = uniform_fit(
        spoiled(), strategy="hybrid_streaming", start=FLOW, fixed=FIXED, covariance="iid",
        options=options("soft_l1", precision="float32", xtol=1e-4),
    )  # fmt: skip
    assert single.converged
    double = fitted("individual", "soft_l1")
    for name in np.array(list(FLOW))[FREE]:
        assert abs(single.theta[name] - double.theta[name]) < 0.02 * double.stderr[name]


def test_profile_of_a_robust_fit_is_that_of_its_error():
    fit = fitted("individual", "soft_l1")
    profile = homodyne.profile(spoiled(), fit, "phi0")
    low, high = profile.intervals[0.6827]
    assert high - fit.theta["phi0"] == pytest.approx(fit.stderr["phi0"], rel=0.1)
    assert fit.theta["phi0"] - low == pytest.approx(fit.stderr["phi0"], rel=0.1)


class Killed(Exception):
    """In place of kill -9: nothing in the package catches it."""


class Watched(Arrays):
    """Counts reads in ``reads``; at read number ``at`` it raises."""

    reads: list
    at: int

    def read_block(self, k, rows, cols):
        self.reads.append(k)
        if len(self.reads) == self.at:
            raise Killed
        return self.c2[k, rows, cols]


def watched(at=10**9):
    arrays = spoiled()
    source = Watched(arrays.c2, arrays.phi, arrays.t, arrays.sigma)
    object.__setattr__(source, "reads", [])
    object.__setattr__(source, "at", at)
    return source


def test_a_killed_robust_fit_goes_on_and_one_of_another_loss_begins_anew(tmp_path):
    def fit(source, loss="cauchy"):
        return uniform_fit(
            source, strategy="hybrid_streaming", start=FLOW, fixed=FIXED, covariance="iid", checkpoint=tmp_path,
            options=options(loss),
        )  # fmt: skip

    counting = watched()
    whole = fit(counting)
    with pytest.raises(Killed):
        fit(watched(at=len(counting.reads) - 7))
    assert fit(spoiled(), "soft_l1").history["from_checkpoint"].values.sum() == 0
    resumed = fit(spoiled())
    assert resumed.history["from_checkpoint"].values.sum() >= 2
    assert resumed.theta == whole.theta
    np.testing.assert_array_equal(resumed.contrast, whole.contrast)


@pytest.mark.parametrize(
    ("field", "value"), [("loss", "arctan"), ("loss_scale", 0.0), ("loss_scale", float("inf")), ("loss_scale", -1.0)]
)
def test_refused_settings(field, value):
    with pytest.raises(InputError, match=field):
        NLSQOptions(**{field: value})


def test_fits_of_different_losses_are_not_compared():
    fits = [fitted("individual", loss) for loss in ("soft_l1", "cauchy")]
    with pytest.raises(InputError, match="another loss"):
        homodyne.compare([dataclasses.replace(fit) for fit in fits])
