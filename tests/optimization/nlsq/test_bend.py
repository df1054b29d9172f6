"""Second-order steps: the shift of the parameters against explicit least squares, and what it does for a curved valley."""

import numpy as np

from homodyne.models import get_model
from homodyne.optimization.nlsq.bend import Frames
from homodyne.optimization.scaling import make_scaling
from homodyne.optimization.source import subset
from homodyne.simulate.synthetic import synthetic_dataset
from tests.optimization.problems import problem, uniform_fit
from tests.reference import STATIC

MODEL = get_model("static")
THETA = np.array(list(STATIC.values()))
PAIRS = np.tile([0.25, 1.0], (2, 1))


def frames(feasible=lambda theta: True):
    source, _, _ = problem("static", n_t=24, n_phi=2)
    return source, Frames(MODEL, subset(source, 24), make_scaling("individual", source.phi), feasible, 1)


def test_the_shift_takes_the_bend_back_as_explicit_least_squares_says():
    source, made = frames()
    v = np.array([300.0, -0.02, 40.0])
    found = made.bend(THETA, v, PAIRS)
    shift, *_ = np.linalg.lstsq(found.jacobian, found.residual, rcond=None)

    i, j = np.triu_indices(24, k=1)

    def signal(theta):
        return np.array([MODEL.g1_squared(theta, source.t, phi, source.q)[i, j] for phi in source.phi])

    h = 1e-3
    bend = (signal(THETA + h * v) - 2 * signal(THETA) + signal(THETA - h * v)) / h**2
    columns = []
    for m in range(3):
        e = np.zeros(3)
        e[m] = 1e-4 * THETA[m]
        columns.append(((signal(THETA + e) - signal(THETA - e)) / (2 * e[m])).ravel())
    for k in range(2):  # contrast and offset of every angle are free
        for values in (signal(THETA), np.ones_like(bend)):
            own = np.zeros_like(bend)
            own[k] = values[k]
            columns.append(own.ravel())
    weight = np.repeat(1 / np.asarray(source.sigma), len(i))
    expected, *_ = np.linalg.lstsq(weight[:, None] * np.array(columns).T, -weight * bend.ravel(), rcond=None)
    np.testing.assert_allclose(shift, expected[:3], rtol=0.02)


def test_no_second_order_beside_an_infeasible_point():
    _, made = frames(feasible=lambda theta: theta[0] < THETA[0])
    assert made.bend(THETA, np.array([1.0, 0.0, 0.0]), PAIRS) is None


def test_no_second_order_where_the_model_is_linear():
    _, made = frames()
    assert made.bend(THETA, np.zeros(3), PAIRS) is None


def test_a_curved_valley_takes_few_passes(monkeypatch):
    """alpha near 0 makes D0 and D_offset nearly one parameter: straight steps leave the valley at once."""
    truth = {"D0": 6e3, "alpha": 0.05, "D_offset": 3e3}
    dataset = synthetic_dataset("static", theta=truth, n_t=80, n_phi=4, noise=1e-3)
    start = {"D0": 2e3, "alpha": 0.15, "D_offset": 7e3}

    def fitted():
        fit = uniform_fit(dataset, "static", strategy="stratified_ls", start=start, covariance="iid")
        return fit, int(np.sum(fit.history["stage"].values == "full"))

    bent, passes = fitted()
    monkeypatch.setattr(Frames, "bend", lambda *_: None)
    straight, more = fitted()
    assert bent.converged
    assert passes <= min(25, more / 2)
    assert bent.chi2_reduced <= straight.chi2_reduced * (1 + 1e-9)
