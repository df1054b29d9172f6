"""Several q in one dataset: every sector has its own q in sums, errors, figures and records; D(q) is recovered."""

import dataclasses

import numpy as np
import pytest

import homodyne
from homodyne.errors import InputError
from homodyne.fitting import fit_maps
from homodyne.models import get_model, reference_q
from homodyne.optimization.nlsq import NLSQOptions
from homodyne.optimization.nlsq.hybrid_streaming import streamed_pass
from homodyne.optimization.nlsq.stratified_ls import full_batch_pass
from homodyne.optimization.normal import linearize
from homodyne.optimization.scaling import make_scaling
from homodyne.optimization.source import all_frames, sector_geometries, sector_names, sector_q
from homodyne.optimization.uncertainty.residual_structure import same_light
from homodyne.plots import diagnostics_figure, map_figures
from homodyne.plots.maps import chi2_texts
from homodyne.result import FitResult
from homodyne.simulate import speckle_dataset
from tests.optimization.problems import Arrays, uniform_fit
from tests.reference import DT, FLOW, STATIC, Q, g1_squared, jacobian
from tests.result.comparison import assert_same_result

N_T, NOISE = 60, 0.002
RINGS = np.array([0.0042, 0.0054, 0.0070])
PHI, SECTOR_Q = np.tile([-70.0, -10.0, 50.0], 3), np.repeat(RINGS, 3)
EXPONENT = -0.5
REST = {"D0": 2e4, "alpha": -0.5, "D_offset": 0.0}
ROW, COL = np.triu_indices(N_T, 1)


def signal(theta, t, phi, q, gap, exponent=None):
    """s of the joint models, from the equation; ``theta`` ends with q_exponent, complex steps allowed."""
    power = np.exp(theta[-1] * np.log(q / reference_q(RINGS)))
    return g1_squared([theta[0] * power, theta[1], theta[2] * power, *theta[3:-1]], t, phi, q, gap)


def joint_data(theta, seed=0, missing=0.0):
    """Independent noise on the reference model, contrasts that differ."""
    rng = np.random.default_rng(seed)
    t = DT * np.arange(N_T)
    c2 = np.empty((len(PHI), N_T, N_T))
    for k, (phi, q) in enumerate(zip(PHI, SECTOR_Q, strict=True)):
        upper = np.triu(rng.normal(0, NOISE, (N_T, N_T)), 1)
        values = [*theta.values(), EXPONENT]
        c2[k] = 1.03 + 0.3 * (1 + 0.1 * np.cos(2.4 * k)) * signal(values, t, phi, q, 2e6).real + upper + upper.T
    if missing:
        c2[rng.random(c2.shape) < missing] = np.nan
    return Arrays(c2, PHI, t, np.full(len(PHI), NOISE), q=SECTOR_Q)


def reference_step(source, theta, mode):
    """Gauss-Newton step of all parameters together, by lstsq on the dense Jacobian of complex steps."""
    terms = make_scaling(mode, PHI, 1, q=SECTOR_Q).basis
    blocks, columns, y = [], [], []
    for k, (phi, q) in enumerate(zip(PHI, SECTOR_Q, strict=True)):
        s, ds = jacobian(theta, source.t, phi, q, source.gap, s=signal)
        ok = np.isfinite(source.c2[k][ROW, COL])
        blocks.append((np.stack([s, np.ones_like(s)], axis=1) @ terms[k])[ok])
        columns.append(ds[ok])
        y.append(source.c2[k][ROW, COL][ok])
    a = np.concatenate(blocks)
    beta = np.linalg.lstsq(a, np.concatenate(y), rcond=None)[0]
    contrast = terms[:, 0] @ beta
    jac = np.concatenate([c * d for c, d in zip(contrast, columns, strict=True)])
    scale = np.linalg.norm(jac, axis=0)
    joint = np.hstack([jac / scale, a])
    return np.linalg.lstsq(joint, np.concatenate(y) - a @ beta, rcond=None)[0][: len(theta)] / scale


@pytest.mark.parametrize("mode", ["individual", "auto", "fourier"])
@pytest.mark.parametrize("name", ["laminar_flow_joint_q", "static_joint_q"])
def test_full_batch_and_streamed_give_the_step_of_the_joint_dense_reference(name, mode):
    truth = FLOW if name.startswith("laminar") else REST
    source, model = joint_data(truth, missing=0.02), get_model(name)
    factors = np.array([1.25, 1.2, 0.8, 1.3, 1.2, 1.3, 1.2])[: len(truth)]
    theta = np.append(factors * np.array([*truth.values()]) + (np.arange(len(truth)) == 2) * 50.0, 0.4)
    expected, view = reference_step(source, theta, mode), all_frames(source)
    for run in (full_batch_pass(model, view, 1), streamed_pass(model, view, 1, 700)):
        scaling = make_scaling(mode, PHI, 1, q=SECTOR_Q)
        at = linearize(run(theta, np.tile([0.25, 1.0], (9, 1))), scaling, np.ones(9))
        scale = np.linalg.norm(at.jacobian, axis=0)
        step = np.linalg.lstsq(at.jacobian / scale, at.residual, rcond=None)[0] / scale
        np.testing.assert_allclose(step, expected, rtol=1e-10)


def test_sectors_have_their_own_geometry_and_names():
    source = joint_data(REST)
    some = sector_geometries(get_model("static_joint_q"), source, [0, 4])
    assert (some.phi.tolist(), some.q.tolist(), some.q_ref) == ([-70.0, -10.0], [0.0042, 0.0054], 0.00541)
    assert sector_names(source)[4] == "-10 (q = 0.0054)"
    one = dataclasses.replace(source, q=Q)
    assert (sector_names(one)[4], sector_q(one).tolist()) == ("-10", [Q] * 9)


@pytest.fixture(scope="module")
def speckle():
    """A sample at rest at three q as light makes it, and the fit of the joint model from a start found in the data."""
    truth = {**REST, "q_exponent": EXPONENT}
    data = speckle_dataset("static_joint_q", truth, PHI, DT * np.arange(N_T), SECTOR_Q, pixels=2000, seed=4)
    return data, uniform_fit(data, "static_joint_q", fixed={"D_offset": 0.0})


def test_q_exponent_is_recovered_with_honest_errors(speckle):
    _, fit = speckle
    assert fit.converged
    for name, value in {**REST, "q_exponent": EXPONENT}.items():
        assert abs(fit.theta[name] - value) <= 3.5 * fit.stderr[name]
    assert fit.stderr["q_exponent"] < 0.25
    assert fit.stderr["q_exponent"] > 1.5 * fit.stderr_by("iid")["q_exponent"]
    assert fit.stderr_by("jackknife")["q_exponent"] > 0  # it leaves out the nine sectors, one by one
    assert any("hold at q_ref = 0.00541 1/angstrom" in text for text in fit.findings)


def test_joint_errors_are_smaller_than_those_of_every_q_alone(speckle):
    data, fit = speckle
    for q, ring in data.split().items():
        assert ring.q == q
        alone = uniform_fit(ring, "static", fixed={"D_offset": 0.0}, start={"D0": 2e4, "alpha": -0.5})
        assert np.isnan(alone.q_ref)
        assert alone.stderr["D0"] / alone.theta["D0"] > fit.stderr["D0"] / fit.theta["D0"]


def test_the_record_tells_sectors_apart(speckle, tmp_path):
    data, fit = speckle
    again = FitResult.load(fit.save(tmp_path / "several.nc"))
    assert_same_result(again, fit)
    assert (again.q.tolist(), again.q_ref, again.q_values) == (SECTOR_Q.tolist(), 0.00541, tuple(RINGS))
    stored = fit.to_dataset()
    assert (stored["q"].dims, stored["q"].attrs["units"]) == (("phi",), "1/angstrom")
    rows = fit.sector_table().splitlines()
    assert len(rows) == 10
    assert rows[5].split()[:2] == ["0.0054", "-10"]
    maps = fit_maps(data, fit, angles=[1, 4])
    assert [m.q for m in maps] == [0.0042, 0.0054]
    titles = [axis.get_title() for axis in map_figures(maps, chi2_texts(fit))[0].axes]
    assert "q = 0.0054" in titles[1]
    assert f"{fit.chi2_per_angle[4]:.2f}" in titles[1]
    labels = [text.get_text() for text in diagnostics_figure(fit).axes[0].get_legend().get_texts()]
    assert [f"q = {q:.4g}" in "".join(labels) for q in RINGS] == [True] * 3
    # the model in the maps is that of each sector's q
    s = get_model("static_joint_q").g1_squared(fit.theta, data.t, -10.0, 0.0054, q_ref=0.00541)
    np.testing.assert_allclose(maps[1].model[ROW, COL], fit.offset[4] + fit.contrast[4] * s[ROW, COL], rtol=1e-12)


def test_one_diffusion_coefficient_for_all_q_is_nested_and_tested(speckle):
    data, fit = speckle
    plain = uniform_fit(data, "static", fixed={"D_offset": 0.0}, start={"D0": 2e4, "alpha": -0.5})
    held = uniform_fit(
        data, "static_joint_q", fixed={"D_offset": 0.0, "q_exponent": 0.0}, start={"D0": 2e4, "alpha": -0.5}
    )
    assert plain.theta["D0"] == pytest.approx(held.theta["D0"], rel=1e-5)
    assert plain.chi2_reduced == pytest.approx(held.chi2_reduced, rel=1e-9)
    assert any("static_joint_q tests that" in text for text in plain.findings)
    (test,) = homodyne.compare([plain, fit]).tests
    assert test.restricted == ("q_exponent",)
    # one parameter: the drop of chi2, in honest units, is the square of its distance from zero in errors
    assert test.p_value < 0.01
    assert test.refuted


def test_profile_of_q_exponent(speckle):
    _, fit = speckle
    low, high = fit.profile("q_exponent", levels=(0.6827,)).interval(0.6827)
    half = fit.stderr["q_exponent"]
    assert (fit.theta["q_exponent"] - low, high - fit.theta["q_exponent"]) == pytest.approx((half, half), rel=0.25)


def test_shear_is_common_to_all_q():
    theta = {**FLOW, "D_offset": 0.0, "gamma_dot_offset": 0.0}
    source = joint_data(theta)
    start = {**{n: 1.1 * v for n, v in theta.items() if not n.endswith("offset")}, "q_exponent": 0.0}
    options = NLSQOptions(xtol=1e-6)
    fixed = {"D_offset": 0.0, "gamma_dot_offset": 0.0}
    fits = [
        uniform_fit(
            source,
            "laminar_flow_joint_q",
            strategy=strategy,
            start=start,
            fixed=fixed,
            covariance="iid",
            options=options,
        )
        for strategy in ("stratified_ls", "hybrid_streaming")
    ]
    for name, value in {**theta, "q_exponent": EXPONENT}.items():
        assert abs(fits[0].theta[name] - value) <= 4.0 * fits[0].stderr[name]
        assert fits[1].theta[name] == pytest.approx(fits[0].theta[name], abs=1e-5 * fits[0].stderr[name] + 1e-300)


def test_one_q_is_refused_before_anything_is_read():
    source = dataclasses.replace(joint_data(REST), q=Q)
    with pytest.raises(InputError, match="static_joint_q needs several"):
        uniform_fit(source, "static_joint_q")


def test_sectors_of_different_q_at_one_azimuth_are_not_the_same_light():
    r = np.random.default_rng(1).normal(size=(6, 40, 40))
    assert same_light(r, np.arange(40)) == []
    r[3] = r[0]
    assert [(a, b) for a, b, _ in same_light(r, np.arange(40))] == [(0, 3)]


def test_static_rates_at_one_q_are_as_before():
    """A dataset whose sectors state the same q one by one is one of a single q."""
    t = DT * np.arange(N_T)
    one = homodyne.Dataset.from_arrays(np.ones((2, N_T, N_T)), [0.0, 30.0], t, q=[Q, Q])
    assert one.q == Q
    s = get_model("static").g1_squared(STATIC, t, 0.0, one.q)
    np.testing.assert_allclose(s, g1_squared(list(STATIC.values()), t, 0.0), atol=1e-14)
