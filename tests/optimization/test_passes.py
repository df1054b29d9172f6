"""One exact objective: any cut, any order, streamed or dense, gives the Gauss-Newton step of the joint problem."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homodyne.models import get_model
from homodyne.optimization.moments import Moments, Panel, TileShape, accumulate, zero
from homodyne.optimization.nlsq import hybrid_streaming
from homodyne.optimization.nlsq.hybrid_streaming import streamed_pass
from homodyne.optimization.nlsq.stratified_ls import all_sides, full_batch_pass
from homodyne.optimization.normal import linearize
from homodyne.optimization.plan import make_plan
from homodyne.optimization.scaling import make_scaling
from homodyne.optimization.source import View, all_frames, subset
from tests.optimization.problems import problem
from tests.reference import STATIC, jacobian

MODES = ("individual", "auto", "constant", "fourier")
# 20-30 % off the truth, as a start would be
THETA = np.array([1e4, -0.5, 225.0, 2.6e-3, -0.25, 1.3e-4, 2.5])


def step_of(at):
    """Undamped Gauss-Newton step."""
    scale = np.linalg.norm(at.jacobian, axis=0)
    return np.linalg.lstsq(at.jacobian / scale, at.residual, rcond=None)[0] / scale


def reference_step(source, theta, mode, fixed=None):
    """Gauss-Newton step of the *joint* problem at the best scaling: dense Jacobian of all parameters, by lstsq.

    Independent of the package: complex-step derivatives of the NumPy model, one row a pair, all scaling columns.
    """
    i, j = np.triu_indices(len(source.t), k=1)
    n_phi = len(source.phi)
    s, ds, y = [], [], []
    for k, phi in enumerate(source.phi):
        sk, dk = jacobian(theta, source.t, phi)
        s.append(sk)
        ds.append(dk)
        y.append(source.c2[k][i, j])
    ok = [np.isfinite(v) for v in y]
    terms = {
        "individual": np.eye(n_phi),
        "auto": np.ones((n_phi, 1)),
        "fourier": np.stack([np.ones(n_phi), np.cos(np.deg2rad(source.phi)), np.sin(np.deg2rad(source.phi))], axis=1),
        "constant": np.zeros((n_phi, 0)),
    }[mode]
    a = np.concatenate(
        [np.hstack([np.outer(s[k], terms[k]), np.outer(np.ones_like(s[k]), terms[k])])[ok[k]] for k in range(n_phi)]
    )
    values = np.concatenate([y[k][ok[k]] for k in range(n_phi)])
    if mode == "constant":
        contrast, offset = fixed[:, 0], fixed[:, 1]
    else:
        beta = np.linalg.lstsq(a, values, rcond=None)[0]
        contrast, offset = terms @ beta[: terms.shape[1]], terms @ beta[terms.shape[1] :]
    r = np.concatenate([(y[k] - offset[k] - contrast[k] * s[k])[ok[k]] for k in range(n_phi)])
    columns = np.concatenate([(contrast[k] * ds[k])[ok[k]] for k in range(n_phi)])
    scale = np.linalg.norm(columns, axis=0)
    joint = np.hstack([columns / scale, a])
    return np.linalg.lstsq(joint, r, rcond=None)[0][: len(theta)] / scale, 0.5 * float(r @ r)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strategy", ["stratified_ls", "hybrid_streaming", "small blocks"])
def test_step_equals_the_joint_dense_reference(mode, strategy):
    source, _, _ = problem(n_phi=5, missing=0.02)
    model, view = get_model("laminar_flow"), all_frames(source)
    run = {
        "stratified_ls": lambda: full_batch_pass(model, view, 1),
        "hybrid_streaming": lambda: streamed_pass(model, view, 1, 10**6),
        "small blocks": lambda: streamed_pass(model, view, 1, 400),
    }[strategy]()
    fixed = np.stack([np.full(5, 0.28), np.full(5, 1.04)], axis=1)
    reference = np.tile([0.25, 1.0], (5, 1))
    at = linearize(run(THETA, reference), make_scaling(mode, source.phi, 1, fixed), np.ones(5))
    step, cost = reference_step(source, THETA, mode, fixed)
    np.testing.assert_allclose(step_of(at), step, rtol=1e-10)
    assert at.cost == pytest.approx(cost, rel=1e-12)
    assert at.counts.sum() == np.isfinite(source.c2[:, *np.triu_indices(40, 1)]).sum()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from([TileShape(8, 24), TileShape(16, 64)]),
    panel=st.sampled_from([None, 7]),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 5),
)
def test_any_plan_and_any_order_give_the_same_sums(shape, panel, order, seed):
    source, _, _ = problem(n_phi=1, seed=seed, missing=0.1)
    model, plan = get_model("laminar_flow"), make_plan(40, panel, shape)
    sides = all_sides(model, THETA, all_frames(source), plan.width)
    panels = list(plan.panels)
    order.shuffle(panels)
    total = zero(7)
    for row0, rows in panels:
        c2 = np.full((plan.height, plan.width), np.nan)
        c2[:rows, : plan.n] = source.c2[0, row0 : row0 + rows]
        total = total + accumulate(model, shape, Panel(0, row0, rows, 40, c2, None), sides, jnp.array([0.3, 1.0]), 1)
    s, ds = jacobian(THETA, source.t, source.phi[0])
    y = source.c2[0][np.triu_indices(40, 1)]
    rows = np.column_stack([s, np.ones_like(s), ds, y - 1.0 - 0.3 * s])[np.isfinite(y)]
    expected = rows.T @ rows
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(np.asarray(total.gram) / scale, expected / scale, atol=1e-12)
    assert float(total.count) == np.isfinite(y).sum()


def test_sums_form_a_commutative_monoid():
    rng = np.random.default_rng(0)
    a, b, c = (Moments(jnp.asarray(rng.integers(-9, 9, (6, 6)) * 1.0), jnp.asarray(float(k))) for k in range(3))
    for left, right in (((a + b) + c, a + (b + c)), (a + b, b + a), (a + zero(3), a)):
        np.testing.assert_array_equal(left.gram, right.gram)
        assert left.count == right.count


@pytest.mark.parametrize("strategy", ["stratified_ls", "hybrid_streaming"])
def test_sigma_per_point_weights_and_masks(strategy):
    source, _, _ = problem("static", n_phi=2)
    rng = np.random.default_rng(1)
    sigma = rng.uniform(0.5, 2.0, source.c2.shape)
    sigma[:, 3, 17] = 0.0  # no weight, not a division by zero
    weighted = type(source)(source.c2, source.phi, source.t, np.ones(2), sigma_points=sigma)
    model, theta = get_model("static"), np.array([1.5e4, -1.4, 10.0])
    make = full_batch_pass if strategy == "stratified_ls" else lambda *a: streamed_pass(*a, 500)
    sums = make(model, all_frames(weighted), 1)(theta, np.tile([0.3, 1.0], (2, 1)))
    i, j = np.triu_indices(40, 1)
    for k in range(2):
        s, ds = jacobian(theta, source.t, source.phi[k])
        rows = np.column_stack([s, np.ones_like(s), ds, source.c2[k][i, j] - 1.0 - 0.3 * s])
        keep = sigma[k][i, j] > 0
        rows = rows[keep] / sigma[k][i, j][keep, None]
        gram, got = rows.T @ rows, sums.factors[k].T @ sums.factors[k]
        scale = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
        np.testing.assert_allclose(got / scale, gram / scale, atol=1e-12)
        assert sums.counts[k] == keep.sum()


@pytest.mark.parametrize("mode", MODES)
def test_gradient_against_finite_differences(mode):
    """d cost / d theta with contrast and offset at their optimum, central differences of the cost itself."""
    source, _, _ = problem(n_phi=5)
    model = get_model("laminar_flow")
    scaling = make_scaling(mode, source.phi, 1, np.tile([0.28, 1.04], (5, 1)))
    run = streamed_pass(model, all_frames(source), 1, 10**6)

    def at(theta):
        return linearize(run(theta, np.tile([0.3, 1.0], (5, 1))), scaling, source.sigma)

    here = at(THETA)
    gradient = -here.jacobian.T @ here.residual
    for m in range(7):
        h = 1e-5 * max(abs(THETA[m]), 1e-3)
        numeric = (at(THETA + h * np.eye(7)[m]).cost - at(THETA - h * np.eye(7)[m]).cost) / (2 * h)
        size = np.linalg.norm(here.jacobian[:, m]) * np.linalg.norm(here.residual)
        assert gradient[m] == pytest.approx(numeric, abs=1e-6 * size)


@pytest.mark.parametrize("strategy", ["stratified_ls", "hybrid_streaming"])
def test_min_lag_leaves_out_short_lags(strategy):
    source, _, _ = problem("static", n_phi=1)
    make = full_batch_pass if strategy == "stratified_ls" else lambda *a: streamed_pass(*a, 10**6)
    sums = make(get_model("static"), all_frames(source), 3)(np.array(list(STATIC.values())), np.array([[0.3, 1.0]]))
    assert sums.counts[0] == 37 * 38 / 2


def test_a_subset_is_the_same_objective_on_fewer_pairs():
    """Integrals run over all frames: at the truth of noise-free data the subset's residuals vanish."""
    source, theta, _ = problem(n_t=60, n_phi=2, noise=0.0)
    held = subset(source, 24)
    assert held.n_frames < 60
    assert held.held is not None
    truth = np.array(list(theta.values()))
    at = linearize(
        full_batch_pass(get_model("laminar_flow"), held, 1, precise=False)(truth, np.tile([0.3, 1.0], (2, 1))),
        make_scaling("individual", source.phi),
        source.sigma,
    )
    assert at.cost < 1e-15 * at.counts.sum() / source.sigma[0] ** 2
    i, j = np.triu_indices(held.n_frames, 1)
    np.testing.assert_array_equal(held.held[1][i, j], source.c2[1][np.ix_(held.frames, held.frames)][i, j])


def test_an_error_while_reading_reaches_the_caller():
    class Broken(type(problem()[0])):
        def read_block(self, k, rows, cols):
            if k > 0:  # in the thread that reads ahead
                raise OSError("disk gone")
            return self.c2[k, rows, cols]

    source = problem()[0]
    broken = Broken(source.c2, source.phi, source.t, source.sigma)
    run = streamed_pass(get_model("laminar_flow"), View(broken, np.arange(40)), 1, 10**6)
    with pytest.raises(OSError, match="disk gone"):
        run(THETA, np.tile([0.3, 1.0], (4, 1)))


def test_channels_of_few_angles_at_a_time_give_the_same_sums(monkeypatch):
    source, _, _ = problem(n_phi=5, missing=0.02)
    reference = np.tile([0.3, 1.0], (5, 1))
    whole = streamed_pass(get_model("laminar_flow"), all_frames(source), 1, 10**6)(THETA, reference)
    monkeypatch.setattr(
        hybrid_streaming, "BATCH_FRAMES", 150
    )  # two angles, and three batches: the last one is half full
    parts = streamed_pass(get_model("laminar_flow"), all_frames(source), 1, 10**6)(THETA, reference)
    np.testing.assert_allclose(parts.factors, whole.factors, rtol=1e-9, atol=1e-12 * np.abs(whole.factors).max())
    np.testing.assert_array_equal(parts.counts, whole.counts)


@pytest.mark.parametrize("stored", [np.float32, np.float64])
def test_single_precision_sums_are_right_to_single_precision(stored):
    source, _, _ = problem(n_phi=3, missing=0.02)
    source = dataclasses.replace(source, c2=source.c2.astype(stored))
    view, reference = all_frames(source), np.tile([0.3, 1.0], (3, 1))
    single = streamed_pass(get_model("laminar_flow"), view, 1, 10**6, precision="float32")(THETA, reference)
    # against the reference scaling that single precision can hold
    np.testing.assert_array_equal(single.reference, np.float32(reference).astype(float))
    for k, phi in enumerate(source.phi):
        s, ds = jacobian(THETA, source.t, phi)
        y = source.c2[k][np.triu_indices(40, 1)].astype(float)
        contrast, offset = single.reference[k]
        rows = np.column_stack([s, np.ones_like(s), ds, y - offset - contrast * s])[np.isfinite(y)]
        expected, found = rows.T @ rows, single.factors[k].T @ single.factors[k]
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        error = np.abs(found - expected) / scale
        assert 1e-12 < error.max() < 3e-6
    assert single.counts.sum() == np.isfinite(source.c2[:, *np.triu_indices(40, 1)]).sum()


def test_masked_pairs_leave_nothing_behind_in_weights():
    """Panels are read into buffers that are used again: NaN of one map's invalid pairs is no weight of the next."""
    source, _, _ = problem(n_phi=5, missing=0.1)
    sigma = np.random.default_rng(2).uniform(0.5, 2.0, source.c2.shape)
    view = all_frames(dataclasses.replace(source, sigma=np.ones(5), sigma_points=sigma))
    reference = np.tile([0.3, 1.0], (5, 1))
    whole = full_batch_pass(get_model("laminar_flow"), view, 1)(THETA, reference)
    for _ in range(5):
        parts = streamed_pass(get_model("laminar_flow"), view, 1, 100)(THETA, reference)
        squares = ((x.factors[:, :, [0, 1, -1]] ** 2).sum(1) for x in (parts, whole))
        np.testing.assert_allclose(*squares, rtol=1e-10)
