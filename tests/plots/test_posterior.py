"""Figures of a posterior: what is drawn is what the draws and the fit say."""

import dataclasses

import matplotlib
import matplotlib._pylab_helpers
import matplotlib.image
import numpy as np
import pytest
from scipy.stats import chi2

from homodyne.plots import chains_figure, corner_figure, predictive_figure, save_posterior_figures
from homodyne.plots.corner import _ellipse, _height, _limits
from homodyne.result.predictive import PredictiveCut
from tests.factories import make_posterior, with_log_weights
from tests.plots.reading import texts


def make_cut(phi: float = -30.0, t1: float = 2.0, q: float = 0.0054) -> PredictiveCut:
    lag = np.geomspace(0.1, 20.0, 30)
    median = 1.0 + 0.25 * np.exp(-lag)
    data = median + 0.005 * np.cos(7.0 * np.arange(30))
    data[4] = np.nan
    half = np.array([1e-3, 2e-3])
    bands = np.stack([[median - h, median + h] for h in half])
    wide = np.stack([[median - 5 * h, median + 5 * h] for h in half])
    return PredictiveCut(phi, q, t1, lag, data, median, (0.6827, 0.95), bands, wide)


def test_all_figures_are_written_and_nothing_else_is_left(tmp_path):
    before = dict(matplotlib.rcParams)
    cuts = [make_cut(phi, t1) for phi in (-30.0, 40.0) for t1 in (2.0, 10.0)]
    paths = save_posterior_figures(make_posterior(), cuts, tmp_path / "figures")
    assert [p.name for p in paths] == ["posterior_corner.png", "posterior_chains.png", "posterior_predictive.png"]
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == sorted(p.name for p in paths)
    for path in paths:
        height, width = matplotlib.image.imread(path).shape[:2]
        assert min(width, height) > 400
        assert max(width, height) < 2500
    assert dict(matplotlib.rcParams) == before
    assert matplotlib._pylab_helpers.Gcf.figs == {}
    assert len(save_posterior_figures(make_posterior(), [], tmp_path / "without")) == 2


def test_corner_shows_free_parameters_with_units_and_moments():
    posterior = make_posterior()
    figure = corner_figure(posterior)
    assert len(figure.axes) == 9
    assert sum(axis.axison for axis in figure.axes) == 6
    words = texts(figure)
    for part in ("$D_0$ [Å$^2$/s]", r"$\alpha$", "draws, nuts, honest likelihood", "fit and its errors"):
        assert part in words
    assert f"{posterior.mean['D0']:.4g} ± {posterior.sd['D0']:.2g}" in words
    assert "NOT CONVERGED" not in words
    bad = make_posterior(rhat={"D0": 1.3, "alpha": 1.0, "D_offset": 1.0})
    assert "NOT CONVERGED (not_mixed)" in texts(corner_figure(bad))


def test_ellipses_hold_their_part_of_the_fits_normal_distribution():
    posterior = make_posterior()
    inverse = np.linalg.inv(posterior.fit_covariance[np.ix_((0, 2), (0, 2))])
    for level in (0.6827, 0.95):
        curve = _ellipse(posterior, (0, 2), level)
        assert curve is not None
        d = np.stack(curve) - np.array([[posterior.fit_theta["D0"]], [posterior.fit_theta["D_offset"]]])
        np.testing.assert_allclose(np.einsum("in,ij,jn->n", d, inverse, d), chi2.ppf(level, 2), rtol=1e-6)


@pytest.mark.parametrize("error", [0.0, np.inf, np.nan])
def test_a_parameter_without_an_error_has_no_ellipse(error, tmp_path):
    """At a bound, or open: the draws are shown all the same."""
    covariance = make_posterior().fit_covariance.copy()
    covariance[1, :] = covariance[:, 1] = 0.0
    covariance[1, 1] = error
    posterior = make_posterior(fit_covariance=covariance)
    assert _ellipse(posterior, (0, 1), 0.95) is None
    assert _ellipse(posterior, (0, 2), 0.95) is not None
    corner_figure(posterior)


def test_contours_hold_their_part_of_a_density():
    x = np.linspace(-5, 5, 201)
    density = np.exp(-0.5 * (x[:, None] ** 2 + x[None, :] ** 2))
    for level in (0.5, 0.95):
        # of a round normal distribution the height at radius r is exp(-r**2 / 2), and exp(-r**2 / 2) lies outside
        assert _height(density, level) == pytest.approx(1 - level, rel=0.02)
    assert _height(np.zeros((4, 4)), 0.5) == 0.0


def test_weights_of_draws_count():
    posterior = make_posterior()
    values = posterior.draws("D0")
    only = np.where(values > np.median(values), 0.0, -1e3).reshape(4, -1)
    weighted = with_log_weights(posterior, only)
    low, _ = _limits(values, weighted.weights)
    assert low > _limits(values, posterior.weights)[0] + 20.0
    title = corner_figure(weighted).axes[0].get_title()
    assert title == f"{values[values > np.median(values)].mean():.4g} ± {weighted.sd['D0']:.2g}"


def test_one_parameter_alone_and_one_that_never_moved(tmp_path):
    posterior = make_posterior()
    one = dataclasses.replace(
        posterior, names=("D0",), units=("angstrom^2 s^-1",), fit_covariance=posterior.fit_covariance[:1, :1]
    )
    assert len(corner_figure(one).axes) == 1
    stuck = posterior.idata.copy()
    stuck.posterior["alpha"] = stuck.posterior["alpha"] * 0.0 - 0.4
    save_posterior_figures(dataclasses.replace(posterior, idata=stuck), [], tmp_path)


def test_chains_show_what_did_not_mix():
    posterior = make_posterior(rhat={"D0": 1.31, "alpha": 1.0, "D_offset": 1.0}, divergences=7)
    figure = chains_figure(posterior)
    words = texts(figure)
    for part in ("R-hat 1.310, ESS 610", "7 divergences", "not mixed", "draw after warm-up", "rank among all draws"):
        assert part in words
    bad = [t for t in figure.axes[0].texts if "R-hat" in t.get_text()]
    good = [t for t in figure.axes[2].texts if "R-hat" in t.get_text()]
    assert bad[0].get_color() != good[0].get_color()


def test_ranks_of_a_chain_apart_lie_at_one_end():
    posterior = make_posterior()
    apart = posterior.idata.copy()
    apart.posterior["D0"][0] = apart.posterior["D0"][0] + 1e4
    axis = chains_figure(dataclasses.replace(posterior, idata=apart)).axes[1]
    heights = [patch.get_data().values for patch in axis.patches if hasattr(patch, "get_data")]
    # one of four chains holds the highest quarter of all ranks, and nothing below: four times its share
    assert heights[0][:15].sum() == 0.0
    np.testing.assert_allclose(heights[0][15:], 4.0)
    assert axis.get_ylim()[1] > 4.0


def test_draws_of_a_consensus_say_whose_diagnostics_they_show():
    assert "worst of the shards' chains" in texts(chains_figure(make_posterior(method="cmc")))


def test_predictive_bands_in_their_places():
    cuts = [make_cut(phi, t1) for phi in (-30.0, 40.0, 80.0) for t1 in (2.0, 10.0)]
    figure = predictive_figure(cuts)
    assert len(figure.axes) == 6
    words = texts(figure)
    for part in (
        "φ = −30°",
        "at $t_1$ = 10 s",
        "lag $t_2 - t_1$ [s]",
        "68 % and (lighter) 95 % band",
        "noise of one point",
    ):
        assert part in words
    assert "q =" not in words
    assert "q = 0.007" in texts(predictive_figure([make_cut(), make_cut(q=0.007)]))


def test_an_outlier_does_not_flatten_the_bands():
    cut = make_cut()
    data = np.concatenate([cut.data, np.zeros(0)])
    data[10] = 1e6
    many = [make_cut(phi) for phi in range(0, 80, 2)]
    figure = predictive_figure([dataclasses.replace(cut, phi_deg=-30.0, data=data), *many][:8])
    assert figure.axes[0].get_ylim()[1] < 1e6
    empty = dataclasses.replace(cut, data=np.full(30, np.nan))
    low, high = predictive_figure([empty]).axes[0].get_ylim()
    assert low < cut.noisy.min() < cut.noisy.max() < high
