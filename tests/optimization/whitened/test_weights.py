"""W against the inverse of the covariance of all pairs, written out as a matrix."""

import itertools

import numpy as np
import pytest

from homodyne.optimization.whitened.weights import blocks_of, frame_weights


def random_covariance(n, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 2 * n))
    return x @ x.T / (2 * n) + 0.1 * np.eye(n)


def wishart(sigma):
    """Cov(c_ij, c_kl) = Sigma_ik Sigma_jl + Sigma_il Sigma_jk over the pairs i < j."""
    i, j = np.triu_indices(len(sigma), 1)
    return sigma[np.ix_(i, i)] * sigma[np.ix_(j, j)] + sigma[np.ix_(i, j)] * sigma[np.ix_(j, i)]


def symmetric(values, n):
    x = np.zeros((n, n))
    x[np.triu_indices(n, 1)] = values
    return x + x.T


def applied(sigma, longest, matrix):
    """W X from its tiles."""
    blocks = blocks_of(len(sigma), longest)
    weights = frame_weights(blocks, (sigma[b, b] for b in blocks))
    out = np.full_like(matrix, np.nan)
    for b, c in weights.tiles():
        rows, cols = blocks[b], blocks[c]
        twice = np.stack([matrix[rows, cols], 2 * matrix[rows, cols]], axis=1)
        out[rows, cols], double = weights.apply(b, c, twice).swapaxes(0, 1)
        np.testing.assert_allclose(double, 2 * out[rows, cols], rtol=1e-12)
        out[cols, rows] = out[rows, cols].T
    return out


def test_is_the_inverse_of_the_covariance_of_all_pairs():
    n, sigma = 12, random_covariance(12)
    r = np.random.default_rng(1).normal(size=n * (n - 1) // 2)
    found = applied(sigma, 100, symmetric(r, n))
    np.testing.assert_allclose(found[np.triu_indices(n, 1)], np.linalg.solve(wishart(sigma), r), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found, found.T, atol=1e-9)
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-9)


@pytest.mark.parametrize("longest", [5, 6, 11])
def test_blocks_are_whitened_as_if_independent(longest):
    n, sigma = 12, random_covariance(12)
    edges = {5: [0, 4, 8, 12], 6: [0, 6, 12], 11: [0, 6, 12]}[longest]
    cut = np.zeros_like(sigma)
    for a, b in itertools.pairwise(edges):
        cut[a:b, a:b] = sigma[a:b, a:b]
    r = np.random.default_rng(2).normal(size=n * (n - 1) // 2)
    found = applied(sigma, longest, symmetric(r, n))
    np.testing.assert_allclose(found[np.triu_indices(n, 1)], np.linalg.solve(wishart(cut), r), rtol=1e-9, atol=1e-9)


def test_a_covariance_that_is_none_still_gives_positive_weights():
    """The positive root of a kernel need not be a correlation; W must stay symmetric and positive all the same."""
    sigma = random_covariance(10)
    values, vectors = np.linalg.eigh(sigma)
    values[:2] = -0.05
    lost = (vectors * values) @ vectors.T
    columns = np.array([applied(lost, 100, symmetric(e, 10))[np.triu_indices(10, 1)] for e in np.eye(45)])
    scale = np.abs(columns).max()
    np.testing.assert_allclose(columns / scale, columns.T / scale, atol=1e-6)
    assert np.linalg.eigvalsh((columns + columns.T) / scale).min() > -1e-6
