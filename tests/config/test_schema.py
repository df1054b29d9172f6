"""Every file below conf/ composes and passes the checks; the schema agrees with the code behind it."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
import yaml

from homodyne.config import schema
from homodyne.config.paths import conf_dir
from homodyne.config.posterior import SAMPLERS
from homodyne.config.validate import validate

CONF = Path(__file__).parents[2] / "conf"
GROUPS = {
    "model": {"static", "laminar_flow", "static_joint_q", "laminar_flow_joint_q", "heterodyne", "kww"},
    "dataset": {"auto", "aps_legacy", "apsu", "nxxpcs", "pychx", "netcdf", "npz", "zarr", "synthetic"},
    "strategy": {"auto", "stratified_ls", "hybrid_streaming", "distributed", "cmaes_nlsq", "multistart", "nuts", "cmc"},
    "cluster": {"local", "slurm", "address"},
    "optimization": {"default"},
    "tracking": {"mlflow", "none"},
    "xla": {"none", "auto", "cpu", "hpc", "gpu"},
}
EXPERIMENTS = (
    "demo",
    "static",
    "laminar_flow",
    "large",
    "homodyne2_convention",
    "window_scan",
    "batch",
    "posterior_demo",
)
SIMULATED = ("posterior_demo",)


def with_path(group: str, option: str) -> list[str]:
    scheduler = ["cluster.address=tcp://127.0.0.1:8786"] if option == "address" else []
    return scheduler if option == "synthetic" else ["dataset.path=/data/x.hdf", *scheduler]


def test_the_checkout_is_found_before_a_packaged_copy():
    assert conf_dir() == CONF


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_of_a_group_is_listed_here(group):
    assert {f.stem for f in (CONF / group).glob("*.yaml")} == GROUPS[group]


@pytest.mark.parametrize(("group", "option"), [(g, o) for g, options in GROUPS.items() for o in sorted(options)])
def test_every_choice_composes_and_is_valid(composed, group, option):
    settings = validate(composed(f"{group}={option}", *with_path(group, option)))
    name = settings[group].get("name")
    assert name in (None, option)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_is_valid(composed, name):
    path = [] if name in SIMULATED else ["dataset.path=/data/x.hdf"]
    settings = validate(composed(f"+experiment={name}", *path))
    assert settings["tracking"]["experiment_name"] == name


def test_experiments_hold_deltas_only_and_are_absent_from_the_defaults():
    assert {f.stem for f in (CONF / "experiment").glob("*.yaml")} == set(EXPERIMENTS)
    for name in EXPERIMENTS:
        text = (CONF / "experiment" / f"{name}.yaml").read_text()
        assert text.startswith("# @package _global_\n")
        assert all(key.startswith("override /") for entry in yaml.safe_load(text)["defaults"] for key in entry)
    assert "experiment" not in (CONF / "config.yaml").read_text().split("_self_")[0]


def test_the_command_of_the_documentation(composed):
    settings = validate(
        composed(
            "+experiment=laminar_flow", "dataset=apsu", "dataset.path=/data/run42_results.hdf", "dataset.q=0.0054",
            "dataset.gap_angstrom=2e6",
        )
    )  # fmt: skip
    assert settings["model"]["name"] == "laminar_flow"
    assert settings["dataset"] | {"engine": "apsu", "q": 0.0054, "gap_angstrom": 2e6} == settings["dataset"]
    assert settings["strategy"]["name"] == "auto"


def test_a_command_line_choice_wins_over_the_experiment(composed):
    assert validate(composed("+experiment=laminar_flow", "dataset=synthetic"))["dataset"]["n_phi"] == 10
    assert (
        validate(composed("+experiment=homodyne2_convention", "dataset.path=x"))["model"]["convention"] == "homodyne-2"
    )
    assert validate(composed("+experiment=large", "dataset.path=x", "strategy=auto"))["strategy"]["name"] == "auto"


def test_solver_settings_are_those_of_the_solver():
    from homodyne.optimization.nlsq.options import NLSQOptions

    ours = {f.name: f.default for f in dataclasses.fields(schema.NlsqConf) if f.name != "anti_degeneracy"}
    assert ours == {f.name: f.default for f in dataclasses.fields(NLSQOptions)}


def test_strategy_settings_are_those_of_the_strategies():
    from homodyne.optimization.nlsq.request import WEIGHTINGS
    from homodyne.optimization.search import STRATEGIES, WarmUp

    theirs = {f.name for made in STRATEGIES.values() for f in dataclasses.fields(made) if f.init}
    of_samplers = {key for keys in SAMPLERS.values() for key in keys}
    assert {f.name for f in dataclasses.fields(schema.StrategyConf)} == {"name", "weighting", *theirs, *of_samplers}
    assert set(dataclasses.fields(schema.StrategyConf)[1].metadata["choices"]) == set(WEIGHTINGS)
    assert set(dataclasses.fields(schema.StrategyConf)[0].metadata["choices"]) == {*STRATEGIES, *SAMPLERS}
    assert all(f.default is None for f in dataclasses.fields(schema.StrategyConf)[2:])
    optax, warm_up = schema.OptaxConf(), WarmUp()
    assert (optax.name, optax.arguments, optax.steps) == (warm_up.optimizer, warm_up.arguments, warm_up.steps)


@pytest.mark.parametrize("name", sorted(GROUPS["strategy"]))
def test_the_file_of_a_strategy_lists_its_settings_and_no_others(name):
    from homodyne.optimization.search import STRATEGIES

    own = SAMPLERS.get(name) or [f.name for f in dataclasses.fields(STRATEGIES[name]) if f.init]
    written = yaml.safe_load((CONF / "strategy" / f"{name}.yaml").read_text())
    assert written == {"name": name, **dict.fromkeys(own)}


def test_dataset_settings_are_the_arguments_of_open():
    from homodyne.config.build import FIT_SETTINGS, RENAMED
    from homodyne.data import Dataset

    fields = {f.name for f in dataclasses.fields(schema.FileDatasetConf)} - {"_target_", *FIT_SETTINGS}
    assert {RENAMED.get(f, f) for f in fields} == set(inspect.signature(Dataset.open).parameters)


@pytest.mark.parametrize("made", schema.CLUSTERS)
def test_cluster_settings_are_the_arguments_behind_them(made):
    from homodyne import cluster

    name = made._target_.rpartition(".")[2]
    fields = {f.name for f in dataclasses.fields(made)} - {"_target_"}
    assert fields == set(inspect.signature(getattr(cluster, name)).parameters)
    written = yaml.safe_load((CONF / "cluster" / f"{name}.yaml").read_text())
    assert set(written) - {"defaults"} == fields


def test_synthetic_settings_are_the_arguments_behind_them():
    from homodyne.config.build import FIT_SETTINGS, RENAMED
    from homodyne.simulate.synthetic import synthetic_dataset

    fields = {f.name for f in dataclasses.fields(schema.SyntheticDatasetConf)} - {"_target_", *FIT_SETTINGS}
    assert {RENAMED.get(f, f) for f in fields} == set(inspect.signature(synthetic_dataset).parameters)


DOCUMENT = {
    "fraction": (
        "optimization:\n  nlsq:\n    memory_fraction: 0.75    # Use streaming when data exceeds 75% of RAM\n"
        "    # memory_threshold_gb: 48  # Or set an explicit GB limit\n"
    ),
    "threshold": "optimization:\n  nlsq:\n    memory_threshold_gb: 48\n",
    "shared_node": "optimization:\n  nlsq:\n    memory_fraction: 0.60   # Leave 40% for OS and other processes\n",
    "per_angle": (
        'optimization:\n  nlsq:\n    anti_degeneracy:\n      per_angle_mode: "auto"   # +2 params, not +2*n_phi\n'
    ),
}


@pytest.mark.parametrize("name", DOCUMENT)
@pytest.mark.parametrize("header", [True, False])
def test_fragments_of_the_streaming_page_are_overlays(composed, tmp_path, name, header):
    """Verbatim, added as ``+overlay@_global_=NAME``; or with the package line as ``+overlay=NAME``."""
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "mine.yaml").write_text(("# @package _global_\n" if header else "") + DOCUMENT[name])
    override = "+overlay=mine" if header else "+overlay@_global_=mine"
    cfg = composed(f"hydra.searchpath=[file://{tmp_path}]", "+experiment=large", override, "dataset.path=x")
    nlsq = validate(cfg)["optimization"]["nlsq"]
    expected = yaml.safe_load(DOCUMENT[name])["optimization"]["nlsq"]
    assert nlsq | expected == nlsq or nlsq["anti_degeneracy"] == expected["anti_degeneracy"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model.scaling=auto", "model.scaling=auto"),
        ("dataset.path=/a/b c.hdf,x=[1,2]", "dataset.path=_a_b_c.hdf,x=_1,2"),
        ("", "default"),
    ],
)
def test_sweep_folders_are_one_path_component(text, expected):
    assert schema.folder_name(text) == expected
