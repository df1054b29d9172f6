"""iid errors equal the inverse Fisher matrix of the joint problem; what the data leave open is infinite and named."""

import numpy as np
import pytest

from homodyne.optimization.normal import PassSums, linearize
from homodyne.optimization.scaling import make_scaling
from homodyne.optimization.uncertainty.design import make_design
from homodyne.optimization.uncertainty.iid import iid_errors
from tests.optimization.problems import problem
from tests.reference import jacobian

SOURCE, TRUTH, _ = problem(n_phi=5, noise=0.002)
THETA = np.array(list(TRUTH.values()))
N_PHI, SIGMA = 5, 0.002
FIXED = np.tile([0.28, 1.04], (N_PHI, 1))
ALL = np.ones(7, dtype=bool)


def angle_rows(edit=lambda k, s, ds: (s, ds)):
    """[s, ds/dtheta, y] of every angle, from the NumPy reference; ``edit`` may spoil them."""
    i, j = np.triu_indices(len(SOURCE.t), k=1)
    out = []
    for k, phi in enumerate(SOURCE.phi):
        s, ds = edit(k, *jacobian(THETA, SOURCE.t, phi))
        out.append((s, ds, SOURCE.c2[k][i, j]))
    return out


def errors(rows, mode="individual", moved=ALL, chi2_reduced=1.3, order=1):
    """What the package says, from the QR factors of the rows."""
    scaling = make_scaling(mode, SOURCE.phi, order, FIXED)
    stacked = [np.column_stack([s, np.ones_like(s), ds, y - 1.0 - 0.3 * s]) for s, ds, y in rows]
    factors = np.stack([np.linalg.qr(x, mode="r") for x in stacked])
    sums = PassSums(factors, np.array([float(len(x)) for x in stacked]), np.tile([0.3, 1.0], (N_PHI, 1)))
    at = linearize(sums, scaling, np.full(N_PHI, SIGMA))
    design = make_design(at, scaling, moved)
    return Found(iid_errors(design, chi2_reduced), design), at


class Found:
    """Covariance, variances of the scaling and what is left open, in one place."""

    def __init__(self, found, design):
        self.theta, self.scaling = found.covariance(design.undetermined), found.scaling
        self.undetermined, self.condition = design.undetermined, design.theta.condition


def joint(rows, mode, contrast, moved=ALL, chi2_reduced=1.3):
    """Covariance of theta and of (contrast, offset) per angle from the joint dense Jacobian of everything free."""
    x = np.deg2rad(SOURCE.phi)
    terms = {
        "individual": np.eye(N_PHI),
        "auto": np.ones((N_PHI, 1)),
        "fourier": np.stack([np.ones(N_PHI), np.cos(x), np.sin(x)], axis=1),
        "constant": np.zeros((N_PHI, 0)),
    }[mode]
    a = np.concatenate(
        [
            np.hstack([contrast[k] * ds[:, moved], np.outer(s, terms[k]), np.outer(np.ones_like(s), terms[k])])
            for k, (s, ds, _) in enumerate(rows)
        ]
    )
    scale = np.linalg.norm(a, axis=0)
    r = np.linalg.qr(a / scale, mode="r")
    half = np.linalg.inv(r) / scale[:, None]
    covariance = chi2_reduced * SIGMA**2 * half @ half.T
    p, b = moved.sum(), terms.shape[1]
    blocks = covariance[p : p + b, p : p + b], covariance[p + b :, p + b :]
    return covariance[:p, :p], np.stack([np.einsum("kb,bc,kc->k", terms, x, terms) for x in blocks], axis=1)


def correlation(covariance):
    d = np.sqrt(np.diag(covariance))
    return covariance / np.outer(d, d)


@pytest.mark.parametrize("mode", ["individual", "auto", "fourier", "constant"])
def test_equals_the_inverse_fisher_matrix_of_the_joint_problem(mode):
    rows = angle_rows()
    found, at = errors(rows, mode)
    theta, scaling = joint(rows, mode, at.scaling[:, 0])
    np.testing.assert_allclose(np.diag(found.theta), np.diag(theta), rtol=1e-7)
    np.testing.assert_allclose(correlation(found.theta), correlation(theta), atol=1e-7)
    np.testing.assert_allclose(found.scaling, scaling, rtol=1e-7, atol=0.0)
    assert found.undetermined == ()
    assert 1 < found.condition < 1e12


def test_fixed_parameters_have_no_error_and_lower_the_others():
    rows, moved = angle_rows(), np.array([True, True, False, True, True, False, True])
    found, at = errors(rows, moved=moved)
    theta, scaling = joint(rows, "individual", at.scaling[:, 0], moved)
    assert np.all(found.theta[~moved] == 0)
    assert np.all(found.theta[:, ~moved] == 0)
    np.testing.assert_allclose(np.diag(found.theta)[moved], np.diag(theta), rtol=1e-7)
    np.testing.assert_allclose(found.scaling, scaling, rtol=1e-7)
    assert np.all(np.diag(found.theta)[moved] < np.diag(errors(rows)[0].theta)[moved])


def test_nothing_moved():
    found, _ = errors(angle_rows(), moved=np.zeros(7, dtype=bool))
    assert np.all(found.theta == 0)
    assert found.undetermined == ()
    assert np.all((found.scaling > 0) & np.isfinite(found.scaling))


def test_units_of_the_parameters_do_not_matter():
    units = np.array([1e6, 1.0, 1e-9, 1e-3, 7.0, 1e5, 0.1])
    plain, _ = errors(angle_rows())
    scaled, _ = errors(angle_rows(lambda k, s, ds: (s, ds * units)))
    np.testing.assert_allclose(scaled.theta * np.outer(units, units), plain.theta, rtol=1e-8)
    np.testing.assert_allclose(scaled.scaling, plain.scaling, rtol=1e-8)
    assert scaled.condition == pytest.approx(plain.condition, rel=1e-8)


def assert_open(found, positions):
    assert found.undetermined == positions
    for m in range(7):
        assert np.isinf(found.theta[m, m]) == (m in positions)
    others = [m for m in range(7) if m not in positions]
    assert np.all(np.isfinite(found.theta[np.ix_(others, others)]))
    assert np.all(np.isnan(found.theta[np.ix_(others, list(positions))]))


def test_parameters_that_act_alike_are_undetermined_and_named():
    def alike(k, s, ds):
        ds[:, 5] = -2e3 * ds[:, 3]
        return s, ds

    found, _ = errors(angle_rows(alike))
    assert_open(found, (3, 5))
    assert np.isinf(found.condition) or found.condition > 1e14
    # the rest, and the scaling, are what a fit without one of the two would say
    without, _ = errors(angle_rows(alike), moved=np.arange(7) != 5)
    keep = [0, 1, 2, 4, 6]
    np.testing.assert_allclose(found.theta[np.ix_(keep, keep)], without.theta[np.ix_(keep, keep)], rtol=1e-5)
    np.testing.assert_allclose(found.scaling, without.scaling, rtol=1e-5)


def test_a_parameter_without_influence_is_undetermined():
    found, _ = errors(angle_rows(lambda k, s, ds: (s, ds * (np.arange(7) != 6))))
    assert_open(found, (6,))
    assert np.all(np.isfinite(found.scaling))


def test_all_parameters_without_influence_are_undetermined():
    found, _ = errors(angle_rows(lambda k, s, ds: (s, 0 * ds)))
    assert found.undetermined == tuple(range(7))


def test_a_factor_of_the_model_is_as_open_as_the_contrasts():
    """ds/dtheta_0 = 5 s at every angle: only the product of parameter and contrast is measured, never either."""

    def factor(k, s, ds):
        ds[:, 0] = 5.0 * s
        return s, ds

    found, _ = errors(angle_rows(factor))
    assert_open(found, (0,))
    assert np.all(np.isinf(found.scaling[:, 0]))
    assert np.all(np.isfinite(found.scaling[:, 1]))
    # with given contrasts the parameter is measured
    assert errors(angle_rows(factor), "constant")[0].undetermined == ()


def test_an_angle_without_decay_has_no_contrast_of_its_own():
    """s the same at all pairs of one angle: contrast and offset there are one number."""

    def flat(k, s, ds):
        return (np.full_like(s, 0.5), 0 * ds) if k == 2 else (s, ds)

    found, _ = errors(angle_rows(flat))
    others = [0, 1, 3, 4]
    assert np.all(np.isinf(found.scaling[2]))
    assert np.all(np.isfinite(found.scaling[others]))
    assert found.undetermined == ()
