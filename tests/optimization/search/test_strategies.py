"""Strategies through ``homodyne.fit``: one answer whatever the way to it, and what the result and the log say."""

import dataclasses
import logging

import numpy as np
import pytest

from homodyne.errors import InputError
from homodyne.optimization.nlsq import NLSQOptions
from homodyne.optimization.scaling import MODES
from homodyne.optimization.search import Auto, CmaesNlsq, Info, Multistart, State, WarmUp
from homodyne.optimization.search.candidates import candidates
from tests.optimization.problems import problem, uniform_fit
from tests.reference import STATIC

# One set of shapes for all tests, so that few functions are compiled; no speckle errors, which take longest.
OPTIONS = NLSQOptions(xtol=1e-9, fourier_order=1, max_passes=60)
STRATEGIES = {
    "stratified_ls": "stratified_ls",
    "hybrid_streaming": "hybrid_streaming",
    "auto": "auto",
    "auto, forced": Auto(force=True),
    "cmaes_nlsq": CmaesNlsq(restarts=1),
    "multistart": Multistart(64, 4, "lhs"),
}


def fit(source, scaling="individual", strategy="auto", **settings):
    return uniform_fit(source, "static", scaling, strategy, covariance="iid", options=OPTIONS, **settings)


@pytest.fixture(scope="module")
def source():
    return problem("static", n_t=32, n_phi=4, noise=0.002, spread=0.0)[0]


@pytest.fixture(scope="module")
def fits(source):
    """Every strategy in every scaling mode, without a start; one that differs by its setting only in one mode."""
    asked = [(n, mode) for n in STRATEGIES for mode in MODES if n != "auto, forced" or mode == "individual"]
    return {(n, mode): fit(source, mode, STRATEGIES[n]) for n, mode in asked}


def vector(result):
    return np.array(list(result.theta.values()))


@pytest.mark.parametrize("scaling", MODES)
def test_the_answer_does_not_depend_on_the_strategy(fits, scaling):
    reference = fits["stratified_ls", scaling]
    for name in (n for n, mode in fits if mode == scaling):
        result = fits[name, scaling]
        assert result.converged, name
        np.testing.assert_allclose(vector(result), vector(reference), rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(result.contrast, reference.contrast, rtol=1e-6, err_msg=name)
        assert result.chi2_reduced == pytest.approx(reference.chi2_reduced, rel=1e-9)
    stderr = reference.stderr_by("iid")
    assert all(abs(reference.theta[n] - x) < 4.5 * stderr[n] for n, x in STATIC.items())


def test_the_record_says_what_ran(fits):
    ran = {n: fits[n, "individual"].strategy for n in STRATEGIES}
    assert ran == {
        "stratified_ls": "stratified_ls", "hybrid_streaming": "hybrid_streaming", "auto": "stratified_ls",
        "auto, forced": "cmaes_nlsq", "cmaes_nlsq": "cmaes_nlsq", "multistart": "multistart",
    }  # fmt: skip
    forced = fits["auto, forced", "individual"].decision
    assert forced.reason.startswith("scale ratio 2.5e+05 > 1000, n=1.98K pts, ")
    assert forced.reason.endswith(", passes by stratified_ls")
    for name in STRATEGIES:
        decision = fits[name, "individual"].decision
        assert decision.passes == ("hybrid_streaming" if name == "hybrid_streaming" else "stratified_ls")


def test_the_record_keeps_all_optima(fits):
    for (name, _), result in fits.items():
        found = result.optima
        assert found["theta"].dims == ("optimum", "parameter")
        assert found["parameter"].values.tolist() == list(STATIC)
        assert np.all(np.diff(found["chi2"].values) >= 0)
        origins = set(found["origin"].values.tolist())
        assert any(o.startswith("CMA-ES, run ") for o in origins) == (name in ("cmaes_nlsq", "auto, forced"))
        assert result.start_source in origins
        # the subset is all of these data: its optimum is the result, as far as the search goes
        np.testing.assert_allclose(found["chi2"].values[0], 1.0, atol=0.15)


def test_the_log_tells_the_search(source, caplog):
    with caplog.at_level(logging.INFO, logger="homodyne"):
        fit(source, strategy=Auto(force=True))
    lines = [r.getMessage() for r in caplog.records]
    assert lines[0].startswith("Strategy: cmaes_nlsq (scale ratio 2.5e+05 > 1000, n=1.98K pts, est. peak=")
    searched = [line for line in lines if line.startswith("Search: ")]
    assert "descents from different points end in the best optimum; scale ratio 2.5e+05: CMA-ES looks" in searched[0]
    assert searched[1].startswith("Search: CMA-ES run 1, ")
    (start,) = [line for line in lines if line.startswith("Start ")]
    assert ": D0=" in start
    assert "alpha=" in start


def test_a_complete_start_is_looked_for_no_further_by_a_local_strategy(source, caplog):
    with caplog.at_level(logging.INFO, logger="homodyne"):
        result = fit(source, strategy="stratified_ls", start=STATIC)
    assert result.start == STATIC
    assert result.start_source == "given by the user"
    assert result.optima.sizes["optimum"] == 1
    assert not [r for r in caplog.records if r.getMessage().startswith(("Search: ", "Start "))]


def test_a_bad_start_is_no_trap_for_a_global_strategy(source, fits):
    """A tenth of D0 with the opposite exponent: the other strategies are not told where it ends."""
    bad = {"D0": 20.0, "alpha": 1.5, "D_offset": 5e4}
    for strategy in ("auto", Multistart(64, 4), CmaesNlsq(restarts=1)):
        result = fit(source, strategy=strategy, start=bad)
        np.testing.assert_allclose(vector(result), vector(fits["stratified_ls", "individual"]), rtol=1e-6)


@pytest.mark.parametrize("warm_up", ["adam", ("sgd", {"learning_rate": 0.001}, 5)], ids=["name", "settings"])
def test_first_order_steps_change_the_way_not_the_answer(source, fits, warm_up):
    warm_up = warm_up if isinstance(warm_up, str) else WarmUp(*warm_up)
    result = fit(source, strategy="stratified_ls", start={"D0": 5e3, "alpha": -1.0, "D_offset": 50.0}, warm_up=warm_up)
    np.testing.assert_allclose(vector(result), vector(fits["stratified_ls", "individual"]), rtol=1e-6)
    assert result.start == {"D0": 5e3, "alpha": -1.0, "D_offset": 50.0}


def test_first_order_steps_leave_fixed_values(source):
    result = fit(
        source, strategy="stratified_ls", start={"D0": 5e3, "alpha": -1.0}, fixed={"D_offset": 3.0}, warm_up="adam"
    )
    assert result.theta["D_offset"] == 3.0
    assert result.converged


@dataclasses.dataclass(frozen=True)
class Own:
    """A strategy as a user writes one: two steps, a state of its own in between."""

    n: int = 40
    name: str = "own"
    passes: str = "auto"

    def step(self, landscape, state):
        if not state.found:
            points = candidates(landscape.parameters, landscape.fixed, self.n, "lhs")
            best = points[np.argmin(landscape.coarse(points))]
            return State((landscape.refine(landscape.descend(best)[0], "first step"),), memory=best), Info(
                "one", self.n
            )
        found = landscape.refine(state.memory, "second step")
        return dataclasses.replace(state, found=(*state.found, found), done=True), Info("two", 1)


@pytest.mark.parametrize("passes", ["auto", "stratified_ls", "hybrid_streaming"])
def test_a_strategy_of_ones_own(source, fits, caplog, passes):
    with caplog.at_level(logging.INFO, logger="homodyne"):
        result = fit(source, strategy=Own(passes=passes))
    np.testing.assert_allclose(vector(result), vector(fits["stratified_ls", "individual"]), rtol=1e-6)
    assert result.strategy == "own"
    assert result.decision.passes == ("stratified_ls" if passes == "auto" else passes)
    assert set(result.optima["origin"].values.tolist()) == {"first step", "second step"}
    lines = [r.getMessage() for r in caplog.records]
    assert lines[0].startswith("Strategy: own (n=1.98K pts, ")
    assert [line.split(" (")[0] for line in lines if line.startswith("Search: ")] == ["Search: one", "Search: two"]


class Plain:
    """Not a dataclass: a strategy needs no more than the three names."""

    name, passes = "plain", "auto"

    def __init__(self, depth=3):
        self.depth = depth

    def step(self, landscape, state):
        return Own().step(landscape, state)


def test_a_strategy_that_is_no_dataclass_and_a_checkpoint(source, fits, tmp_path):
    result = fit(source, strategy=Plain(), checkpoint=tmp_path)
    np.testing.assert_allclose(vector(result), vector(fits["stratified_ls", "individual"]), rtol=1e-6)
    assert not list(tmp_path.iterdir())
    assert result.provenance["strategy"] == {"name": "plain", "passes": "auto", "depth": 3}
    result.save(tmp_path / "result.nc")


def test_an_unknown_strategy_is_refused_before_data_are_read(source):
    with pytest.raises(InputError, match=r"strategy='cmaes' is unknown; choose one of auto, stratified_ls"):
        uniform_fit(source, "static", strategy="cmaes")
