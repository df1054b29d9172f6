"""Roots of gram matrices: exact, also where columns depend on each other."""

import numpy as np
import pytest

from homodyne.optimization.normal import factors_from_moments, invertible


def columns(rng, n=400, q=6):
    """Columns of very different length; the fourth is a combination of the first two, the last one zero."""
    x = rng.normal(size=(n, q)) * np.logspace(-6, 6, q)
    x[:, 3] = 2e-3 * x[:, 0] - 5.0 * x[:, 1]
    x[:, -1] = 0.0
    return x


def test_the_root_of_a_gram_matrix_is_a_triangle_with_the_same_gram_matrix():
    rng = np.random.default_rng(0)
    gram = np.stack([x.T @ x for x in (columns(rng), columns(rng))])
    f = factors_from_moments(gram)
    scale = np.sqrt(np.einsum("kii->ki", gram))
    error = np.swapaxes(f, 1, 2) @ f - gram
    assert np.abs(error / np.maximum(scale[:, :, None] * scale[:, None, :], 1e-300)).max() < 4e-15
    assert np.all(np.tril(f, -1) == 0)
    # dependent and absent columns have no row of their own
    assert np.all(f[:, 3] == 0)
    assert np.all(f[:, 5] == 0)


def test_sums_that_are_not_finite_give_nan():
    gram = np.stack([np.eye(3), np.full((3, 3), np.inf)])
    assert np.isnan(factors_from_moments(gram)).all()


@pytest.mark.parametrize("angle", [1e-3, 1e-6])
def test_a_second_root_restores_the_digits_that_the_first_one_lost(angle):
    """CholeskyQR2 against LAPACK: the part of a column that is orthogonal to another, nearly parallel one."""
    rng = np.random.default_rng(1)
    a, b = np.linalg.qr(rng.normal(size=(1000, 2)))[0].T
    x = np.column_stack([a, np.cos(angle) * a + np.sin(angle) * b])
    exact = np.linalg.qr(x, mode="r")
    first = invertible(factors_from_moments((x.T @ x)[None]))
    y = x @ np.linalg.inv(first[0])
    second = factors_from_moments((y.T @ y)[None]) @ first
    relative = abs(abs(second[0, 1, 1] / exact[1, 1]) - 1)
    assert relative < 1e-15 / angle
    lost = abs(abs(first[0, 1, 1] / exact[1, 1]) - 1)
    assert relative <= lost


def test_invertible_changes_zeros_on_the_diagonal_only():
    f = factors_from_moments((columns(np.random.default_rng(2)).T @ columns(np.random.default_rng(2)))[None])
    g = invertible(f)
    changed = np.argwhere(f != g)
    assert [tuple(at) for at in changed] == [(0, 3, 3), (0, 5, 5)]
    assert np.all(np.einsum("kii->ki", g) > 0)
    assert 0 < g[0, 3, 3] < 1e-7 * np.linalg.norm(f[0, :, 3])
