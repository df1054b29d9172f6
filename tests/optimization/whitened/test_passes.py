"""Sums of a whitened pass, and what noise does to them, against matrices over all pairs."""

import numpy as np
import pytest

from homodyne.models import get_model
from homodyne.optimization.uncertainty.noise import SpeckleNoise
from homodyne.optimization.whitened.passes import Light, noise_pass, whitened_pass
from tests.optimization.uncertainty import theory
from tests.optimization.whitened.test_weights import wishart
from tests.reference import DT, FLOW, GAP, Q, g1_squared, jacobian

THETA = list(FLOW.values())
PHI = np.array([-60.0, 5.0, 70.0])
CONTRAST, NU, PIXELS, OFFSET, RIDGE = 0.25, 0.4, 600.0, 1.02, 0.05
N = 14
REFERENCE = np.array([[0.24, 1.01], [0.26, 1.02], [0.25, 1.03]])


class Arrays:
    """c2 in memory as the optimizer sees it."""

    def __init__(self, c2, t):
        self.c2, self.phi, self.t, self.q, self.gap, self.dt = c2, PHI, t, Q, GAP, DT
        self.sigma = np.ones(len(c2))

    def read_block(self, k, rows, cols):
        return self.c2[k][rows, cols]

    def read_sigma(self, k, rows, cols):
        return None


def noise():
    each = np.ones(3)
    return SpeckleNoise(CONTRAST * each, NU * each, PIXELS * each, OFFSET * each, "given", "given")


def setting(seed=0, free=None, invalid=None, min_lag=1, longest=100):
    t = DT * np.arange(N)
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(0, 0.05, (3, N, N)), 1)
    c2 = OFFSET + CONTRAST * np.stack([g1_squared(THETA, t, p).real for p in PHI]) + upper + upper.transpose(0, 2, 1)
    if invalid is not None:
        c2[:, invalid] = np.nan
        c2[:, invalid.T] = np.nan
    free = np.ones(7, dtype=bool) if free is None else free
    return Light(Arrays(c2, t), get_model("laminar_flow"), min_lag, noise(), RIDGE, longest, free), t


def dense_weights(t, phi, live, valid, longest=100):
    """P / offset**2 times the inverse over the pairs of the live frames, rows and columns of invalid pairs set to zero.

    Live frames are cut into equal runs of at most ``longest``, the last one shorter, that share no noise.
    """
    s = g1_squared(THETA, t, phi).real
    sigma = (CONTRAST * s + (NU + RIDGE * CONTRAST) * np.eye(len(t)))[np.ix_(live, live)]
    run = np.arange(len(live)) // -(-len(live) // -(-len(live) // longest))
    sigma = sigma * (run[:, None] == run)
    i, j = np.triu_indices(len(live), 1)
    ok = valid[live[i], live[j]]
    w = np.linalg.inv(wishart(sigma)) * PIXELS / OFFSET**2
    return w * np.outer(ok, ok), live[i], live[j]


def dense_columns(theta, t, phi, c2, reference):
    s, ds = jacobian(theta, t, phi)
    i, j = np.triu_indices(len(t), 1)
    r = c2[i, j] - reference[1] - reference[0] * s.real
    whole = np.column_stack([s.real, np.ones(len(s)), ds, r])
    table = np.full((len(t), len(t), whole.shape[1]), np.nan)
    table[i, j] = whole
    return table


CASES = {"all": None, "frames": np.zeros((N, N), dtype=bool), "single pairs": np.zeros((N, N), dtype=bool)}
CASES["frames"][[3, 9]] = True
CASES["single pairs"][[2, 5], [7, 11]] = True


@pytest.mark.parametrize("longest", [100, 5])
@pytest.mark.parametrize("min_lag", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_sums_are_those_of_all_pairs(case, min_lag, longest):
    theta = np.array(THETA) * 1.03
    free = np.array([True, True, False, True, True, True, True])
    light, t = setting(free=free, invalid=CASES[case], min_lag=min_lag, longest=longest)
    sums = whitened_pass(light, np.array(THETA), theta, REFERENCE)
    for k, phi in enumerate(PHI):
        c2 = light.source.c2[k]
        valid = np.isfinite(c2) & (np.arange(N)[None, :] - np.arange(N)[:, None] >= min_lag)
        live = np.flatnonzero(valid.any(0) | valid.any(1))
        w, i, j = dense_weights(t, phi, live, valid, longest)
        x = np.nan_to_num(dense_columns(theta, t, phi, c2, REFERENCE[k])[i, j])
        x[:, 4] = 0.0  # a parameter that does not move
        expected = x.T @ w @ x
        found = sums.factors[k].T @ sums.factors[k]
        scale = np.sqrt(np.diag(expected)) + (np.diag(expected) == 0)
        np.testing.assert_allclose(found / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-7)
        assert sums.counts[k] == np.count_nonzero(valid)


@pytest.mark.parametrize("longest", [100, 5])
def test_scatter_of_the_scores_is_that_of_light(longest):
    """The covariance of pairs of frames that moments of light to the fourth order give, through the weights."""
    light, t = setting(longest=longest)
    at = (np.array(THETA), np.array(THETA), REFERENCE)
    sums, roots = whitened_pass(light, *at), [n.root for n in noise_pass(light, *at)]
    valid = np.triu(np.ones((N, N), dtype=bool), 1)
    for k, phi in enumerate(PHI):
        w, i, j = dense_weights(t, phi, np.arange(N), valid, longest)
        x = dense_columns(np.array(THETA), t, phi, light.source.c2[k], REFERENCE[k])[i, j][:, :-1]
        covariance = theory.covariance_of_pairs(theory.field(THETA, t, phi), round(1 / CONTRAST), NU)
        expected = x.T @ w @ covariance @ w @ x * OFFSET**2 / PIXELS
        found = roots[k].T @ roots[k]
        assert len(roots[k]) == 768
        off = np.abs(found - expected) / theory.kurtosis_limit(expected, len(roots[k]))
        assert off.max() < 1
        if longest < N:  # weights that take blocks for independent
            continue
        # white noise of as many pairs would scatter by the curvature itself: light with these counts nearly does
        curvature = (sums.factors[k].T @ sums.factors[k])[:-1, :-1]
        np.testing.assert_allclose(np.diag(expected) / np.diag(curvature), 1.0, atol=0.4)


def test_the_order_of_sectors_is_no_part_of_the_sums():
    light, t = setting()
    at = (np.array(THETA), np.array(THETA), REFERENCE)
    sums, roots = whitened_pass(light, *at), [n.root for n in noise_pass(light, *at)]
    order = np.array([2, 0, 1])
    turned = Arrays(light.source.c2[order], t)
    turned.phi = PHI[order]
    other = Light(turned, light.model, 1, light.noise, RIDGE, 100, light.free)
    at = (np.array(THETA), np.array(THETA), REFERENCE[order])
    sums2, roots2 = whitened_pass(other, *at), [n.root for n in noise_pass(other, *at)]
    for k, place in enumerate(order):
        np.testing.assert_allclose(np.abs(sums2.factors[k]), np.abs(sums.factors[place]), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(roots2[k], roots[place], rtol=1e-6, atol=1e-8 * np.abs(roots[place]).max())


@pytest.mark.filterwarnings("error")
def test_a_step_too_far_has_sums_that_are_not_finite_and_no_warning():
    light, _ = setting()
    far = np.array(THETA)
    far[1] = 4000.0  # t**alpha is beyond all numbers
    sums = whitened_pass(light, np.array(THETA), far, REFERENCE)
    assert not np.isfinite(sums.factors).all()
