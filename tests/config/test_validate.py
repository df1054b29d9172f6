"""What is wrong with a configuration is said before anything is read, naming key, value and remedy."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from homodyne.config.validate import check_overrides, check_targets, validate
from homodyne.errors import InputError

PATH = "dataset.path=/no/such/file.hdf"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"dataset\.path=None is missing; set dataset\.path=/path/to/file"),
        ([PATH, "+model.foo=3"], r"model\.foo=3 is not a known key; known: name, file"),
        ([PATH, "+model.scalng=auto"], r"model\.scalng='auto' is not a known key; did you mean scaling\?"),
        ([PATH, "+optimization.nlsq.memory_fracton=0.5"], "did you mean memory_fraction"),
        ([PATH, "+dataset.gap=1"], "did you mean gap_angstrom"),
        ([PATH, "+modle=3"], r"modle=3 is not a known key; did you mean model\?"),
        (
            [PATH, "model.scaling=individul"],
            r"model\.scaling='individul' is not one of the choices; did you mean individual\?",
        ),
        ([PATH, "model.convention=homodyne2"], "did you mean homodyne-2"),
        ([PATH, "optimization.nlsq.anti_degeneracy.per_angle_mode=al"], "per_angle_mode='al' is not one"),
        ([PATH, "dataset.q=-0.1"], r"dataset\.q=-0\.1 must be positive"),
        ([PATH, "dataset.q=nan"], r"dataset\.q=nan must be positive"),
        ([PATH, "dataset.q=abc"], r"dataset\.q='abc' must be positive; give one q in 1/angstrom, or a list"),
        ([PATH, "dataset.q=[]"], r"dataset\.q=\[\] must be positive"),
        ([PATH, "dataset.q=[0.0054,-1]"], r"dataset\.q=\[0\.0054, -1\] must be positive"),
        ([PATH, "dataset.dt=0"], r"dataset\.dt=0\.0 must be positive"),
        ([PATH, "dataset.gap_angstrom=-2e6"], r"dataset\.gap_angstrom=-2000000\.0 must be positive"),
        ([PATH, "optimization.nlsq.memory_fraction=1.5"], r"memory_fraction=1\.5 must not exceed 1"),
        ([PATH, "optimization.nlsq.memory_threshold_gb=0"], "memory_threshold_gb=0.0 must be positive"),
        ([PATH, "dataset.phi=[0,[1,2,3]]"], r"dataset\.phi=\[1, 2, 3\] is neither an angle nor"),
        (
            ["dataset.path=[]"],
            r"dataset\.path=\[\] is neither a path nor a list of paths; give dataset.path=/a.hdf, or",
        ),
        (["dataset.path=[/a.hdf,3]"], r"dataset\.path=\['/a\.hdf', 3\] is neither a path"),
        ([PATH, "dataset.frames=[10,5]"], r"dataset\.frames=\[10, 5\] is not \[first, last\]"),
        ([PATH, "dataset.sigma=[0.1,0]"], r"dataset\.sigma=.* must be positive"),
        ([PATH, "dataset.angle_merge=avg"], r"dataset\.angle_merge='avg' is not one of the choices"),
        (
            [PATH, "+dataset.extra={_target_: os.system}"],
            r"dataset\.extra\._target_='os\.system' is a target where none",
        ),
        ([PATH, "model._target_=os.system"], r"model\._target_='os\.system' is outside this package"),
    ],
)
def test_message(composed, overrides, message):
    with pytest.raises(InputError, match=message):
        validate(composed(*overrides))


def test_values_keep_their_types(composed):
    assert validate(composed("dataset.path=[/a.hdf,/b.hdf]"))["dataset"]["path"] == ["/a.hdf", "/b.hdf"]
    settings = validate(composed(PATH, "dataset.phi=[0,[80,-80]]", "dataset.frames=[1,100]", "model.start.D0=12"))
    assert settings["dataset"]["phi"] == [0, [80, -80]]
    assert settings["dataset"]["frames"] == [1, 100]
    assert settings["model"]["start"] == {"D0": 12.0}


def test_mappings_take_names_without_a_plus(composed):
    settings = validate(
        composed(PATH, "model.fixed={D_offset: 0}", "model.bounds.D0=[1,1e5]", "tracking.tags.sample=silica")
    )
    assert settings["model"]["fixed"] == {"D_offset": 0.0}
    assert settings["model"]["bounds"] == {"D0": [1.0, 1e5]}
    assert settings["tracking"]["tags"] == {"sample": "silica"}


@pytest.mark.parametrize(
    "override", ["tracking._target_=os.system", "hydra.sweeper._target_=os.system", "+model.start={_target_: x}"]
)
def test_the_command_line_may_not_name_targets(override):
    with pytest.raises(InputError, match="names a target, which the command line may not"):
        check_overrides(["+experiment=demo", override])


def test_targets_below_lists_are_found():
    with pytest.raises(InputError, match="is a target where none belongs"):
        check_targets({"dataset": {"phi": [{"_target_": "homodyne.data.Dataset.open"}]}})


def test_a_dataset_without_schema_is_checked_by_its_target(composed):
    cfg = composed(PATH)
    cfg.dataset = OmegaConf.create({"_target_": "homodyne.data.Dataset.open", "path": "x", "qq": 1})
    with pytest.raises(InputError, match=r"dataset\.qq=1 is not a known key; did you mean q"):
        validate(cfg)
