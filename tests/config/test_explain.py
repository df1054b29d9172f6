"""Errors of composition carry the key, the value and the nearest valid name."""

from __future__ import annotations

import pytest
import yaml

from homodyne.config.explain import COMPOSITION_ERRORS, explain
from homodyne.config.nearest import nearest, nearest_key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.scalng=auto", "model.scalng='auto' is not a known key; did you mean model.scaling?"),
        ("dataset.gap=2e6", "dataset.gap='2e6' is not a known key; did you mean dataset.gap_angstrom?"),
        ("optimization.nlsq.memory_fracton=1", "did you mean optimization.nlsq.memory_fraction?"),
        ("experiment=demo", "experiment='demo' needs a leading + (it adds settings); write +experiment=demo"),
        ("scaling=auto", "scaling='auto' is not a known key; did you mean model.scaling?"),
        ("modl.scaling=auto", "modl='auto' is not a known key; did you mean model?"),
        ("dataset.n_phi=3", "dataset.n_phi='3' is not a key of the chosen dataset"),
        ("dataset.q_tolerance=abc", "Value 'abc' of type 'str' could not be converted to Float"),
        ("model.start.D0=abc", "model.start.D0='abc' cannot be used"),
        ("dataset.frames=5", "dataset.frames='5' cannot be used"),
        ("plots=maybe", "plots='maybe' cannot be used"),
        ("model=statc", "model='statc' is not found; did you mean static?"),
        ("+experiment=laminar", "experiment='laminar' is not found; did you mean laminar_flow?"),
        ("model.bounds.D0=[1,2", "command line='model.bounds.D0=[1,2' cannot be read"),
    ],
)
def test_message(composed, override, message):
    with pytest.raises(COMPOSITION_ERRORS) as caught:
        composed(override)
    assert message in str(explain(caught.value, [override]))


def test_a_mistake_in_a_users_file_names_the_file(composed, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nmodel:\n  scalling: auto\n")
    with pytest.raises(COMPOSITION_ERRORS) as caught:
        composed(f"hydra.searchpath=[file://{tmp_path}]", "+experiment=mine")
    assert str(explain(caught.value)) == (
        "model.scalling='...' is not a known key (in experiment/mine); did you mean model.scaling?"
    )


def test_broken_yaml_names_file_and_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("model:\n  scaling: [auto\n")
    with pytest.raises(yaml.YAMLError) as caught, file.open() as stream:
        yaml.safe_load(stream)
    assert "is not valid YAML" in str(explain(caught.value))
    assert "mine.yaml" in str(explain(caught.value))


def test_nearest():
    assert nearest("gap", ["path", "gap_angstrom"]) == "gap_angstrom"
    assert nearest("d0", ["D0", "alpha"]) == "D0"
    assert nearest("xyz", ["D0", "alpha"]) is None
    assert nearest_key("model.memory_fraction", ["model.name", "optimization.nlsq.memory_fraction"]) == (
        "optimization.nlsq.memory_fraction"
    )
