"""The default: when local fits are enough, and when CMA-ES joins in."""

import dataclasses

import pytest

from homodyne.errors import InputError
from homodyne.optimization.search import SCALE_RATIO, STRATEGIES, Auto, get_strategy, scale_ratio, search
from tests.optimization.search.landscapes import landscape, parameter


def plane(width):
    """Two parameters whose widths differ by width / 2."""
    return [
        parameter("x", 0.0, width, search=(0.1 * width, width), scale=width), parameter("y", -1.0, 1.0, search=(-1.0, 1.0))
    ]  # fmt: skip


WIDE, NARROW = plane(2.002e3), plane(1.998e3)  # scale ratios of 1001 and 999


def bowl(theta, parameters=WIDE):
    return 1 + (theta[0] / parameters[0].upper - 0.5) ** 2 + (theta[1] - 0.2) ** 2


def made(parameters, agree=True, **settings):
    """A bowl, and descents that end in it, or, where they shall disagree, go nowhere."""
    descend = None if agree else lambda theta: (theta, bowl(theta))
    return landscape(bowl, parameters, descend=descend, **settings)


@pytest.mark.parametrize(
    ("parameters", "agree", "force", "called"),
    [
        (WIDE, True, False, False),  # scales differ, but local fits agree
        (WIDE, False, False, True),
        (NARROW, False, False, False),  # local fits disagree, but scales do not differ
        (NARROW, True, False, False),
        (WIDE, True, True, True),  # the literal rule
        (NARROW, False, True, False),
    ],
)
def test_cmaes_joins_in_where_scales_differ_and_local_fits_disagree(parameters, agree, force, called, caplog):
    with caplog.at_level("INFO", logger="homodyne"):
        state = search(Auto(force=force), made(parameters, agree))
    assert any(o.origin.startswith("CMA-ES") for o in state.found) == called
    assert (state.agreeing == 16) == agree
    first = caplog.records[0].getMessage()
    ratio = scale_ratio(parameters)
    assert (ratio > SCALE_RATIO) == (parameters is WIDE)
    verdict = "CMA-ES looks for a better one" if called else "CMA-ES is not needed"
    text = f"{state.agreeing} of 16 descents from different points end in the best optimum; scale ratio {ratio:.1e}: {verdict}"
    assert first.startswith(f"Search: {text} (1024 points compared, ")
    assert len(caplog.records) >= (3 if called else 1)  # a line for every run
    assert state.best.cost == pytest.approx(1.0)


def test_the_ratio_is_that_of_what_is_free():
    """With the wide parameter fixed there is nothing to scale."""
    state = search(Auto(force=True), made(WIDE, fixed={"x": 1e3}))
    assert not any(o.origin.startswith("CMA-ES") for o in state.found)


def hole(theta):
    """The bowl, and a hole in it that no point of a search falls into."""
    return min(bowl(theta), 0.5 + 1e6 * ((theta[0] / WIDE[0].upper - 0.9) ** 2 + (theta[1] + 0.7) ** 2))


def test_the_users_start_competes_and_wins_where_it_is_better():
    given = {"x": 0.9 * WIDE[0].upper, "y": -0.7}
    state = search(Auto(), landscape(hole, WIDE, start=given))
    assert state.best.origin == "given by the user"
    assert state.best.cost == pytest.approx(0.5)
    assert {o.origin for o in state.found} == {"given by the user", "found from the data"}


def test_the_users_start_is_no_trap():
    """A start beside the hole stays on its slope; descents from other points do not."""

    def two(theta):
        return min(bowl(theta), 1.5 + 1e2 * ((theta[0] / WIDE[0].upper - 0.9) ** 2 + (theta[1] + 0.7) ** 2))

    state = search(Auto(), landscape(two, WIDE, start={"x": 0.9 * WIDE[0].upper, "y": -0.7}))
    assert state.found[0].origin == "given by the user"
    assert state.best.cost == pytest.approx(1.0)


def test_where_nothing_has_a_search_range_the_start_is_followed():
    plain = [dataclasses.replace(p, search=None) for p in WIDE]
    state = search(Auto(), landscape(bowl, plain))
    assert [o.origin for o in state.found] == ["defaults of the model for x, y"]


def test_names_and_passes():
    assert {n: get_strategy(n).name for n in STRATEGIES} == {n: n for n in STRATEGIES}
    assert {n: get_strategy(n).passes for n in STRATEGIES} == {
        "auto": "auto", "cmaes_nlsq": "auto", "multistart": "auto",
        "stratified_ls": "stratified_ls", "hybrid_streaming": "hybrid_streaming",
        "distributed": "distributed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "cmaes",
            {},
            r"strategy='cmaes' is unknown; choose one of auto, stratified_ls, hybrid_streaming, distributed, cmaes_nlsq, multi",
        ),
        ("auto", {"starts": 3}, r"strategy\.starts=3 is not a setting of auto; leave it out; it has force"),
        (
            "stratified_ls",
            {"force": True},
            r"strategy\.force=True is not a setting of stratified_ls; .* it has no settings",
        ),
    ],
)
def test_unknown_names_and_settings(name, settings, message):
    with pytest.raises(InputError, match=message):
        get_strategy(name, **settings)
