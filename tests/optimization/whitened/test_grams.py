"""Whitened products of changes of the signal, against matrices over all pairs."""

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.optimization.nlsq.progress import Progress
from homodyne.optimization.scaling import make_scaling
from homodyne.optimization.trust_region import Tolerances
from homodyne.optimization.whitened.grams import whitened_grams
from homodyne.optimization.whitened.loop import Loop
from tests.optimization.whitened.test_passes import (
    CASES,
    PHI,
    REFERENCE,
    THETA,
    N,
    dense_columns,
    dense_weights,
    setting,
)
from tests.reference import g1_squared

SNAPSHOTS = np.array(THETA) * np.array([[1.05, 1.0, 1.0, 0.9, 1.0, 1.0, 1.0], [0.9, 1.1, 1.0, 1.0, 1.1, 1.0, 2.0]])
FREE = np.array([True, True, False, True, True, True, True])


def loop_of_setting(**settings):
    light, t = setting(free=FREE, **settings)
    progress = Progress(3 * N * (N - 1) // 2, Tolerances())
    return Loop(light, make_scaling("individual", PHI), np.array(THETA), REFERENCE, progress), t


@pytest.mark.parametrize("longest", [100, 5])
@pytest.mark.parametrize("frames", [np.arange(N), np.array([0, 2, 3, 5, 8, 9, 12])], ids=["all", "some"])
@pytest.mark.parametrize("case", CASES)
def test_products_are_those_of_all_pairs(case, frames, longest):
    loop, t = loop_of_setting(invalid=CASES[case], min_lag=2, longest=longest)
    theta = np.array(THETA) * 1.01
    found = whitened_grams(loop, theta, REFERENCE, SNAPSHOTS, frames, threshold_gb=1.0)
    for k, phi in enumerate(PHI):
        c2 = loop.light.source.c2[k]
        taken = np.isin(np.arange(N), frames)
        valid = np.isfinite(c2) & (np.arange(N)[None, :] - np.arange(N)[:, None] >= 2) & taken & taken[:, None]
        live = np.flatnonzero(valid.any(0) | valid.any(1))
        w, i, j = dense_weights(t, phi, live, valid, longest)
        columns = np.nan_to_num(dense_columns(theta, t, phi, c2, REFERENCE[k])[i, j])
        here, *there = (g1_squared(list(x), t, phi).real[i, j] for x in (theta, *SNAPSHOTS))
        changes = np.column_stack([s - here for s in there])
        x = np.column_stack([changes, columns[:, :2], columns[:, -1], columns[:, 2:-1][:, FREE]])
        expected = x.T @ w @ x
        scale = np.sqrt(np.diag(expected))
        np.testing.assert_allclose(found[k] / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-9)


def test_memory_that_is_not_there_is_said():
    loop, _ = loop_of_setting()
    with pytest.raises(InputError, match=r"frames=14 need .* GB to be sampled with whitened weights"):
        whitened_grams(loop, np.array(THETA), REFERENCE, SNAPSHOTS, np.arange(N), threshold_gb=1e-9)
