"""The page on errors: its snippets run, print what it shows, and its sentences of the log are those of the program."""

import re

import numpy as np
import pytest

from tests.docs.pages import ROOT, blocks, run

PAGE = "docs/errors.md"
# Numbers may change in their last digits from one processor to another.
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """All snippets, in order; the names they leave and what they print."""
    folder = tmp_path_factory.mktemp("errors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *parts, **_: printed.append(" ".join(str(p) for p in parts)))
        names = run(PAGE, blocks(PAGE, "python"))
    return names, "\n".join(printed), folder


def test_output_is_that_of_the_page(walked):
    _, printed, _ = walked
    (shown,) = blocks(PAGE, "text")
    for line in shown.splitlines():
        assert masked(line) in masked(printed)


def masked(text):
    """Without numbers and widths of columns."""
    return re.sub(r"[ \t]+", " ", NUMBER.sub("#", text)).strip()


def test_what_the_page_says_of_its_example(walked):
    names, printed, folder = walked
    free, truth, profile = (names[n] for n in ("free", "truth", "profile"))
    error, jackknife, iid = (free.stderr_by(m)["D0"] for m in ("speckle", "jackknife", "iid"))
    off = free.theta["D0"] - truth["D0"]
    assert 0.5 < off / error < 1.5  # one error off; by the jackknife three or four, by iid nine or ten
    assert 3 < off / jackknife < 4
    assert 9 < off / iid < 10
    low, high = profile.interval(0.95)
    assert low < truth["D0"] < high
    assert (high - profile.best) > 4 * (profile.best - low)
    assert "chi2 and AIC mislead here" in printed
    assert (folder / "profile_D0.png").stat().st_size > 0
    at = free.curves().sel(t=5.0, method="nearest")
    assert abs(float(at["J"]) - truth["D0"] * 5.0 ** truth["alpha"]) < 3 * float(at["J_stderr"])


def test_sentences_of_the_log_are_those_of_the_program():
    source = "\n".join(p.read_text(encoding="utf-8") for p in sorted((ROOT / "homodyne").rglob("*.py")))
    joined = re.sub(r'"\s*\n\s*(\+ )?f?\(?"', "", source)  # strings over several lines
    rows = [
        row.split("|")[1] for row in (ROOT / PAGE).read_text(encoding="utf-8").splitlines() if row.startswith("| `")
    ]
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row)]
    assert len(spans) > 10
    for piece in (p.strip() for span in spans for p in span.split("…")):
        assert piece in joined, piece


def test_options_and_links_exist():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((images/[^)]+|[a-z_]+\.md)\)", text):
        assert (ROOT / "docs" / link).exists(), link
    from homodyne.config.schema import OptimizationConf

    known = OptimizationConf()
    for name in re.findall(r"optimization\.(\w+)", text):
        assert hasattr(known, name), name


def test_noise_given_by_hand(walked):
    """``counts`` and ``pixels`` as on the page: the truth of the simulation gives nearly the errors that the data gave."""
    import homodyne

    names, *_ = walked
    given = homodyne.fit(names["ds"], model="laminar_flow", counts=2.0, pixels=2000, weighting="uniform")
    ratio = [given.stderr[n] / names["free"].stderr[n] for n in given.theta]
    assert np.allclose(ratio, 1.0, atol=0.15)
