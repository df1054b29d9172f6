"""homodyne-migrate-config: every key of an older file is accounted for, and what is written composes and means the same."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir

from homodyne.cli.migrate_config import main, read
from homodyne.cli.migration import migrate
from homodyne.cli.migration_parameters import FROM_FIRST_GENERATION, FROM_HOMODYNE_2
from homodyne.cli.old_settings import Kind, Old
from homodyne.config import schema
from homodyne.config.build import build_model, fit_arguments
from homodyne.config.paths import conf_dir
from homodyne.config.validate import validate
from homodyne.errors import InputError

LAMINAR = Path(__file__).with_name("old_laminar.yaml")
#: homodyne-analysis 0.6 to 1.x; the keys are those of that program.
FIRST = {
    "metadata": {"_comment": "text", "config_version": "1.0"},
    "experimental_data": {"data_folder_path": ".", "data_file_name": "x.hdf", "file_format": "NPZ"},
    "analyzer_parameters": {
        "temporal": {"dt": 0.5, "dt_unit": "seconds", "start_frame": 400, "end_frame": 1000},
        "scattering": {"wavevector_q": 0.0237, "q_unit": "1/A"},
        "geometry": {"stator_rotor_gap": 2000000, "gap_in_microns": 200},
        "computational": {"num_threads": 8},
    },
    "initial_parameters": {
        "parameter_names": ["D0", "alpha", "D_offset", "gamma0", "beta", "gamma_offset", "phi0"],
        "values": [1.8e4, -1.59, 3.1, 0.001, 0.0, 0.0, 0.0],
    },
    "optimization_config": {
        "angle_filtering": {"enabled": False, "target_ranges": [{"min_angle": -10.0, "max_angle": 10.0}]},
        "classical_optimization": {"methods": ["Nelder-Mead"]},
    },
    "parameter_space": {"bounds": [{"name": "gamma0", "min": 1e-6, "max": 1.0}]},
    "analysis_settings": {"static_mode": False},
    "output_settings": {"results_directory": "x"},
}


def composed(path, *overrides):
    """Settings as ``python -m homodyne.train --config-dir FOLDER --config-name NAME`` gets them."""
    schema.register()
    with initialize_config_dir(str(path.parent), version_base="1.3"):
        return validate(compose(path.stem, [f"hydra.searchpath=[file://{conf_dir()}]", *overrides]))


def static(**changes):
    return {"analysis_mode": "static", "experimental_data": {"file_path": "x.hdf"}} | changes


def test_laminar_flow_keeps_its_numbers(tmp_path, capsys):
    new = tmp_path / "new.yaml"
    assert main([str(LAMINAR), "-o", str(new)]) == 0
    assert f"--config-dir {tmp_path} --config-name new" in capsys.readouterr().out
    settings = composed(new)
    data = settings["dataset"]
    assert (data["q"], data["gap_angstrom"], data["dt"]) == (0.0054, 2e6, 0.1)
    assert data["frames"] == [11, 400]
    assert data["phi"] == [[-10.0, 10.0], [85.0, 95.0]]
    assert data["path"] == "data/run42_results.hdf"
    model = settings["model"]
    assert (model["name"], model["convention"], model["scaling"]) == ("laminar_flow", "homodyne-2", "auto")
    assert model["start"] == {"D0": 9000.0, "alpha": -0.5, "D_offset": 200.0, "gamma_dot_0": 0.004}
    assert model["fixed"] == {"beta": 0.0, "gamma_dot_offset": 0.0}  # the second is not among the active ones
    assert model["bounds"] == {"D0": [100.0, 1e5], "gamma_dot_0": [1e-6, 0.5], "phi0": [-10.0, 10.0]}
    assert settings["strategy"]["name"] == "cmaes_nlsq"
    assert settings["optimization"]["nlsq"]["memory_fraction"] == 0.6
    assert settings["optimization"]["nlsq"]["loss"] == "soft_l1"
    assert settings["optimization"]["checkpoint"] is True
    assert settings["plots"] is False
    assert fit_arguments(settings, tmp_path)["scaling"] == "auto"
    assert build_model(settings).convention == "homodyne-2"


def test_no_key_is_dropped_silently(capsys):
    old = yaml.safe_load(LAMINAR.read_text(encoding="utf-8"))
    assert main([str(LAMINAR)]) == 0
    told = capsys.readouterr().err
    migration = migrate(old, LAMINAR.parent)
    for key, value in Old.of(old).leaves.items():
        parts = key.split(".")
        prefixes = [key, *(".".join(parts[:n]) + ".* (" for n in range(1, len(parts)))]
        assert value is None or any(p in note.key for note in migration.notes for p in prefixes), key
    assert [note.key for note in migration.of(Kind.UNKNOWN)] == ["my_own_section.threshold"]
    assert "Unknown keys, not converted\n  my_own_section.threshold: 3" in told
    assert "start 50 lies outside the bounds" in told


def test_settings_are_the_output_without_a_file(capsys):
    assert main([str(LAMINAR)]) == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out)["defaults"] == [
        "config",
        {"override model": "laminar_flow"},
        {"override strategy": "cmaes_nlsq"},
        "_self_",
    ]
    assert "# ! " in out  # what needs attention stays with the settings


def test_first_generation_becomes_physical(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(FIRST))
    assert main([str(tmp_path / "old.json"), "-o", str(tmp_path / "new.yaml")]) == 0
    settings = composed(tmp_path / "new.yaml")
    assert settings["model"]["convention"] == "physical"
    assert settings["model"]["start"]["gamma_dot_0"] == pytest.approx(0.001 * math.sqrt(2))
    assert settings["model"]["bounds"]["gamma_dot_0"] == pytest.approx([1e-6 * math.sqrt(2), math.sqrt(2)])
    assert settings["dataset"]["frames"] == [400, 1000]
    assert settings["dataset"]["phi"] is None  # the filter was switched off


def test_factors_make_the_expressions_equal_for_small_shear():
    x = 1e-3

    def sinc(y):
        return math.sin(y) / y

    physical = 1 - sinc(x) ** 2
    assert 1 - sinc(x / FROM_HOMODYNE_2 / math.pi) ** 4 == pytest.approx(physical, rel=1e-5)
    assert 1 - sinc(x / FROM_FIRST_GENERATION) ** 4 == pytest.approx(physical, rel=1e-5)


def test_physical_on_demand_describes_the_same_data(tmp_path):
    """The old model at the old rate and the physical one at the converted rate agree while the decay is small."""
    from homodyne.models import get_model

    old = yaml.safe_load(LAMINAR.read_text(encoding="utf-8"))
    start = migrate(old, tmp_path, "physical").settings["model"]["start"]
    names = ("D0", "alpha", "D_offset", "gamma_dot_0", "beta", "gamma_dot_offset", "phi0")
    t = 0.1 * np.arange(6)
    decays = []
    for convention, rate in (("homodyne-2", 0.004), ("physical", start["gamma_dot_0"])):
        theta = np.array([0.0, 0.0, 0.0, rate, 0.0, 0.0, 0.0])
        assert len(theta) == len(names)
        s = get_model("laminar_flow", convention).g1_squared(theta, t, 0.0, 0.0054, 2e4, np.arange(6))
        decays.append(1 - np.asarray(s)[0, 1:])
    assert decays[1] == pytest.approx(decays[0], rel=1e-3)


def test_files_lie_beside_the_older_configuration(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.hdf").touch()
    old = static(experimental_data={"data_folder_path": "./data", "data_file_name": "x.hdf"})
    assert migrate(old, tmp_path).settings["dataset"]["path"] == str(tmp_path / "data" / "x.hdf")


@pytest.mark.parametrize(
    ("changes", "expected", "attention"),
    [
        ({"analyzer_parameters": {"start_frame": 1, "end_frame": -1}}, None, ""),
        ({"analyzer_parameters": {"start_frame": 5, "end_frame": -1}}, None, "dataset.frames=[5, LAST]"),
        ({"analyzer_parameters": {"end_frame": 90}}, [1, 90], "inclusive"),
    ],
)
def test_frames(tmp_path, changes, expected, attention):
    migration = migrate(static(**changes), tmp_path)
    assert migration.settings["dataset"].get("frames") == expected
    assert attention in " ".join(note.text for note in migration.of(Kind.ATTENTION))


def test_both_places_of_times_and_numbers_without_a_point(tmp_path):
    """Some files of homodyne 2.1 hold dt and frames twice; ``1e-5`` is text to YAML."""
    text = """
analysis_mode: laminar_flow
experimental_data: {file_path: x.hdf}
analyzer_parameters:
  dt: 1e-1
  temporal: {dt: 0.1, frame_interval: 2}
  scattering: {wavevector_q: 0.0054, wavevector_q_list: [0.0054, 0.0108]}
parameter_space: {bounds: [{name: gamma_dot_t0, min: 1e-5, max: 1.0}]}
"""
    (tmp_path / "old.yaml").write_text(text)
    migration = migrate(read(tmp_path / "old.yaml"), tmp_path)
    assert migration.settings["dataset"]["dt"] == 0.1
    assert migration.settings["model"]["convention"] == "homodyne-2"  # of the second generation all the same
    assert migration.settings["model"]["bounds"]["gamma_dot_0"] == [1e-5, 1.0]
    assert migration.of(Kind.UNKNOWN) == []
    told = {note.key: note.text for note in migration.of(Kind.ATTENTION)}
    assert "larger frame averages" in told["analyzer_parameters.temporal.frame_interval"]
    assert "several q" in told["analyzer_parameters.scattering.wavevector_q_list"]


def test_what_a_value_means(tmp_path):
    old = static(
        analysis_mode="static_isotropic",
        experimental_data={},
        initial_parameters={
            "parameter_names": ["D0", "alpha", "D_offset"],
            "values": None,
            "fixed_parameters": {"D0": 5e6},
        },
        parameter_space={"bounds": [{"name": "phi0", "min": -1.0, "max": 1.0}]},
        optimization={
            "method": "vi",
            "nlsq": {"loss": "arctan", "anti_degeneracy": {"enable": False, "per_angle_mode": "constant"}},
        },
        performance={"strategy_override": "streaming"},
    )
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    assert main([str(tmp_path / "old.yaml"), "-o", str(tmp_path / "new.yaml")]) == 0
    settings = composed(tmp_path / "new.yaml", "dataset.path=/data/x.hdf")
    assert settings["strategy"]["name"] == "hybrid_streaming"
    assert settings["model"]["scaling"] == "individual"  # the mode is switched off
    assert settings["model"]["bounds"] == {"D0": [1.0, 5e6]}  # widened for the fixed value
    texts = {note.key: note.text for note in migrate(old, tmp_path).notes}
    assert "is not a parameter of static" in texts["parameter phi0"]
    assert "did not tell angles apart" in texts["analysis_mode"]
    assert "least-squares fit" in texts["optimization.method"]
    assert "give dataset.path" in texts["experimental_data"]
    assert "plain least squares" in texts["optimization.nlsq.loss"]


@pytest.mark.parametrize("method", ["mcmc", "cmc"])
def test_sampling_becomes_the_posterior_after_the_fit(tmp_path, method):
    old = static(
        optimization={"method": method, "cmc": {"sharding": {"num_shards": 4}}}, performance={"strategy_override": "streaming"}
    )  # fmt: skip
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    assert main([str(tmp_path / "old.yaml"), "-o", str(tmp_path / "new.yaml")]) == 0
    assert composed(tmp_path / "new.yaml", "dataset.path=/data/x.hdf")["strategy"]["name"] == "nuts"
    kinds = {note.key: note.kind for note in migrate(old, tmp_path).notes}
    assert kinds["optimization.method"] is Kind.MAPPED
    assert kinds["performance.strategy_override"] is Kind.ATTENTION


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ({"analysis_mode": "two_component"}, "analysis_mode='two_component' has no model"),
        ({"experimental_data": {"file_path": "x"}}, "analysis_mode=None is missing"),
        (static(analyzer_parameters={"dt": "fast"}), "analyzer_parameters.dt='fast' is not a finite number"),
        (static(analyzer_parameters={"dt": -1.0}), "dataset.dt=-1.0 must be positive"),
        (static(parameter_space={"bounds": [{"name": "D0"}]}), "has no name, min and max"),
        (
            static(optimization={"nlsq": {"anti_degeneracy": {"per_angle_mode": "odd"}}}),
            "per_angle_mode='odd' is no scaling of this package",
        ),
        (
            static(initial_parameters={"parameter_names": ["D0"], "values": [1.0, 2.0]}),
            "has more values than parameter_names",
        ),
        ({}, "holds no settings"),
        ([1], "holds no mapping"),
    ],
)
def test_what_cannot_be_converted_leaves_nothing(tmp_path, capsys, old, message):
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    assert main([str(tmp_path / "old.yaml"), "-o", str(tmp_path / "new.yaml")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new.yaml").exists()


def test_targets_that_are_refused(tmp_path, capsys):
    old = tmp_path / "old.yaml"
    old.write_text(yaml.safe_dump(static()))
    for target, problem in (
        (old, "is the older file"),
        (tmp_path / "config.yaml", "is no name for settings"),
        (tmp_path / "no" / "new.yaml", "lies in a folder that does not exist"),
    ):
        assert main([str(old), "-o", str(target)]) == 1
        assert problem in capsys.readouterr().err
    (tmp_path / "new.yaml").touch()
    assert main([str(old), "-o", str(tmp_path / "new.yaml")]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([str(old), "-o", str(tmp_path / "new.yaml"), "--overwrite"]) == 0
    assert main([str(tmp_path / "none.yaml")]) == 1
    old.write_text("a: [")
    with pytest.raises(InputError, match="cannot be read"):
        read(old)
