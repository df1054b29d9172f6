"""Bad requests end with an error that names field, value and remedy, before any data is read."""

import dataclasses

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.fitting import fit
from homodyne.models import get_model
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.request import check_counts, check_request
from homodyne.optimization.search import Auto, CmaesNlsq, HybridStreaming, Multistart, StratifiedLS
from tests.optimization.problems import Arrays
from tests.reference import FLOW, STATIC


class Unread(Arrays):
    """A source whose data must not be touched."""

    def read_block(self, k, rows, cols):
        raise AssertionError("data were read before the request was checked")


def source(n_t=40, n_phi=5, gap=2e6):
    empty = np.zeros((0, 0, 0))
    return Unread(empty, np.linspace(-70, 85, n_phi), 0.1 * np.arange(n_t), np.ones(n_phi), gap=gap)


NAN = float("nan")
BAD = {
    "NaN start": ({"start": {"D0": NAN}}, r"start\['D0'\]=nan is not a finite number; give a number"),
    "start below its bounds": ({"start": {"alpha": -3.0}}, r"start\['alpha'\]=-3\.0 lies outside the bounds \[-2, 2\]"),
    "start outside the user's bounds": (
        {"start": {"D0": 50.0}, "bounds": {"D0": (100.0, 1e5)}},
        r"start\['D0'\]=50\.0 lies outside the bounds \[100, 100000\]; .* widen bounds\['D0'\]",
    ),
    "fixed outside its bounds": ({"fixed": {"phi0": 200.0}}, r"fixed\['phi0'\]=200\.0 lies outside the bounds"),
    "NaN fixed": ({"fixed": {"phi0": NAN}}, r"fixed\['phi0'\]=nan is not a finite number"),
    "lower above upper": ({"bounds": {"D0": (5.0, 1.0)}}, r"bounds\['D0'\]=\(5\.0, 1\.0\) needs .* lower < upper"),
    "lower equal to upper": ({"bounds": {"D0": (5.0, 5.0)}}, r"bounds\['D0'\]=\(5\.0, 5\.0\) needs .* lower < upper"),
    "infinite bound": ({"bounds": {"D0": (0.0, float("inf"))}}, r"bounds\['D0'\]=.* needs two finite numbers"),
    "one bound": ({"bounds": {"D0": (5.0,)}}, r"bounds\['D0'\]=\(5\.0,\) needs two finite numbers"),
    "unknown start": ({"start": {"D_0": 1e4}}, r"start\['D_0'\]=10000\.0 is not a parameter .* did you mean 'D0'\?"),
    "unknown fixed": ({"fixed": {"gamma": 0.1}}, r"fixed\['gamma'\]=0\.1 is not a parameter .* known: D0, alpha"),
    "unknown bounds": ({"bounds": {"phi_0": (0, 1)}}, r"bounds\['phi_0'\].* did you mean 'phi0'\?"),
    "unknown scaling": ({"scaling": "per_angle"}, r"scaling='per_angle' is unknown; choose one of individual, auto"),
    "unknown strategy": ({"strategy": "fast"}, r"strategy='fast' is unknown; choose one of auto, stratified_ls"),
    "unknown covariance": ({"covariance": "magic"}, r"covariance='magic' is unknown; choose one of speckle, repetitions, jackknife, iid"),
    "unknown model": ({"model": "flow"}, r"model='flow' is unknown; choose one of static, laminar_flow"),
    "unknown convention": ({"convention": "old"}, r"model\.convention='old' is unknown"),
    "diagonal wanted": ({"min_lag": 0}, r"min_lag=0 must be at least 1: the diagonal is never fitted; set it to 1"),
    "series longer than the angles": (
        {"scaling": "fourier", "options": NLSQOptions(fourier_order=3)},
        r"fourier_order=3 needs 7 terms but there are 5 angles",
    ),
    "threshold below one block": (
        {"options": NLSQOptions(memory_threshold_gb=0.1)},
        r"memory_threshold_gb=0\.1 is less than one streamed block needs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_request(case):
    arguments, message = BAD[case]
    with pytest.raises(InputError, match=message):
        fit(source(), **arguments)


def test_missing_gap():
    with pytest.raises(InputError, match=r"gap=None is missing and laminar_flow needs it; give the rotor-stator dist"):
        fit(source(gap=None))


def test_fewer_points_than_parameters():
    """4 frames have 6 pairs; the static model with one angle has 5 free parameters, with min_lag 2 only 3 pairs."""
    with pytest.raises(InputError, match=r"n_points=3 is not more than the 5 free parameters; select more frames"):
        fit(source(n_t=4, n_phi=1), "static", min_lag=2)
    with pytest.raises(InputError, match=r"n_points=0 is not more than"):
        fit(source(n_t=4, n_phi=1), "static", min_lag=9)


def test_a_start_with_a_negative_rate():
    with pytest.raises(InputError, match=r"start=.*'D_offset': -900\.0.* makes a rate that must be positive, J\(t\)"):
        fit(_held(), "static", start={"D0": 10.0, "alpha": 0.0, "D_offset": -900.0})


def test_no_start_with_a_positive_rate():
    with pytest.raises(InputError, match=r"start=\{'D_offset': -100000\.0\} makes a rate that must be positive"):
        fit(_held(), "static", fixed={"D_offset": -1e5}, bounds={"D0": (1.0, 10.0)})


def _held():
    return Arrays(np.ones((5, 40, 40)), np.linspace(-70, 85, 5), 0.1 * np.arange(40), np.ones(5))


def request(model="static", **replaced):
    parts = {
        "scaling": "individual", "strategy": Auto(), "warm_up": None, "start": {}, "fixed": {}, "bounds": {}, "covariance": "iid",
        "counts": None, "pixels": None, "min_lag": 1, "options": NLSQOptions(),
    }  # fmt: skip
    return check_request(source(), get_model(model), **{**parts, **replaced})


def test_a_good_request_is_what_was_asked_for():
    made = request(
        "laminar_flow", start={"D0": 5}, fixed={"beta": 0}, bounds={"D0": (1, 10), "alpha": (-1, -0.6)}, min_lag=3
    )
    assert made.start == {"D0": 5.0}
    assert made.fixed == {"beta": 0.0}
    assert made.free.tolist() == [True, True, True, True, False, True, True]
    assert made.n_points == 5 * 37 * 38 // 2
    by_name = {p.name: p for p in made.parameters}
    assert (by_name["D0"].lower, by_name["D0"].upper) == (1.0, 10.0)
    assert by_name["alpha"].start == -0.6  # the default lies outside: its nearest edge
    assert (made.decision.n_points, made.decision.n_params) == (made.n_points, 9)


@pytest.mark.parametrize(
    ("strategy", "chosen", "passes"),
    [
        (
            Auto(),
            "stratified_ls",
            "stratified_ls",
        ),  # the ratio is 5e5, but whether CMA-ES is needed local fits must say
        (Auto(force=True), "cmaes_nlsq", "stratified_ls"),
        (StratifiedLS(), "stratified_ls", "stratified_ls"),
        (HybridStreaming(), "hybrid_streaming", "hybrid_streaming"),
        (Multistart(), "multistart", "stratified_ls"),
        (CmaesNlsq(), "cmaes_nlsq", "stratified_ls"),
    ],
)
def test_the_decision_is_that_of_the_strategy(strategy, chosen, passes):
    decision = request("laminar_flow", strategy=strategy).decision
    assert (decision.strategy, decision.passes) == (chosen, passes)
    assert decision.log_lines[0].startswith(f"Strategy: {chosen} (")


def test_the_literal_rule_looks_at_the_bounds_of_what_is_free():
    wide = {"gamma_dot_0": 1e-3, "gamma_dot_offset": 0.0, "D0": 1e4}
    for fixed, bounds, chosen in (
        ({}, {}, "cmaes_nlsq"),
        (wide, {"D_offset": (0.0, 3000.0)}, "stratified_ls"),  # 3000 beside 4, of alpha and beta
        (wide, {"D_offset": (0.0, 4001.0)}, "cmaes_nlsq"),
    ):
        made = request("laminar_flow", strategy=Auto(force=True), fixed=fixed, bounds=bounds)
        assert made.decision.strategy == chosen
        assert ("scale ratio" in made.decision.reason) == (chosen == "cmaes_nlsq")


def test_feasible_points_are_finite_and_of_positive_transport():
    made = request()
    points = np.array([list(STATIC.values()), [10.0, 0.0, -20.0], [np.nan, 0.0, 0.0], [np.inf, 0.0, 0.0]])
    np.testing.assert_array_equal(made.feasible(points), [True, False, False, False])
    assert made.is_feasible(points[0])
    # a shear rate may change its sign, a transport coefficient may not
    flow = np.array(list(FLOW.values()))
    assert request("laminar_flow").is_feasible(np.where(np.arange(7) == 5, -0.01, flow))


def test_an_angle_without_valid_points_is_named():
    with pytest.raises(InputError, match=r"phi=46\.25 has no valid point: .* leave this angle out"):
        check_counts(request(), 10, np.array([5.0, 5.0, 5.0, 0.0, 5.0]))


def test_too_few_valid_points():
    check_counts(request(), 10, np.array([3.0, 3.0, 3.0, 3.0, 2.0]))
    with pytest.raises(InputError, match=r"n_points=13 valid points are not more than the 13 free parameters"):
        check_counts(request(), 10, np.array([3.0, 3.0, 3.0, 3.0, 1.0]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_passes", 0),
        ("fourier_order", -1),
        ("subset_frames", 4),
        ("xtol", 0.0),
        ("memory_fraction", 2.0),
    ],
)
def test_options_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=rf"{field}={value} must be"):
        NLSQOptions(**{field: value})


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match=r"precision='float16' is unknown; choose one of float64, float32"):
        NLSQOptions(precision="float16")


def test_options_are_values():
    assert NLSQOptions() == NLSQOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        NLSQOptions().xtol = 1.0
