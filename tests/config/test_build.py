"""Settings become objects of this package, checked against the chosen model, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from homodyne.config.build import build_dataset, build_model, build_tracker, fit_arguments
from homodyne.config.validate import validate
from homodyne.data import Dataset
from homodyne.errors import InputError
from homodyne.optimization.search import Auto, CmaesNlsq, HybridStreaming, Multistart, StratifiedLS, WarmUp
from homodyne.tracking import MlflowTracker, NullTracker

PATH = "dataset.path=/no/such/file.hdf"
OUTPUTS = Path("outputs")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.start.D=1e4", r"model\.start\['D'\]=10000\.0 is not a parameter of this model; did you mean 'D0'"),
        ("model.fixed.phi=0", r"model\.fixed\['phi'\]=0\.0 is not a parameter"),
        ("model.bounds.gamma=[0,1]", r"model\.bounds\['gamma'\]"),
        ("model.start.D0=1e30", r"model\.start\['D0'\]=1e\+30 lies outside the bounds"),
        ("model.start.D0=nan", r"model\.start\['D0'\]=nan is not a finite number"),
        ("model.bounds.D0=[5,1]", "needs two finite numbers with lower < upper"),
        ("model.bounds.D0=[1,2,3]", "needs two finite numbers with lower < upper"),
    ],
)
def test_wrong_parameters_are_refused_before_data_are_opened(composed, override, message):
    with pytest.raises(InputError, match=message):
        build_model(validate(composed(PATH, override)))


def test_model(composed):
    model = build_model(validate(composed(PATH, "+experiment=homodyne2_convention")))
    assert (model.name, model.convention, len(model.parameters)) == ("laminar_flow", "homodyne-2", 7)
    static = build_model(validate(composed(PATH, "model=static", "model.bounds.D0=[1,1e5]", "model.start.D0=5e4")))
    assert [p.name for p in static.parameters] == ["D0", "alpha", "D_offset"]


def test_own_model_from_a_file(composed, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import dataclasses\nfrom homodyne.models import static\n\n"
        "def slow():\n    return dataclasses.replace(static(), name='slow')\n\ndef wrong():\n    return 3\n"
    )
    assert build_model(validate(composed(PATH, f"model.file={file}", "model.name=slow"))).name == "slow"
    with pytest.raises(InputError, match=r"model\.name='fast' is not a function in .*mine\.py; that file has: .*slow"):
        build_model(validate(composed(PATH, f"model.file={file}", "model.name=fast")))
    with pytest.raises(InputError, match=r"model\.name='wrong' returned int; return a homodyne\.models\.Model"):
        build_model(validate(composed(PATH, f"model.file={file}", "model.name=wrong")))
    with pytest.raises(InputError, match=r"model\.file='/none\.py' does not exist"):
        build_model(validate(composed(PATH, "model.file=/none.py", "model.name=slow")))


@pytest.mark.parametrize("target", ["homodyne.result.fit_result.os.system", "homodyne.result.storage.json.loads"])
def test_a_target_that_only_passes_through_the_package_is_refused(composed, target):
    settings = validate(composed(PATH))
    settings["dataset"]["_target_"] = target
    with pytest.raises(InputError, match="is defined outside this package"):
        build_dataset(settings)


def test_dataset_from_a_file(composed, tmp_path):
    rng = np.random.default_rng(1)
    c2 = 1.2 + 0.01 * rng.normal(size=(3, 12, 12))
    c2 = 0.5 * (c2 + c2.transpose(0, 2, 1))
    Dataset.from_arrays(c2, [-30.0, 0.0, 30.0], 0.5 * np.arange(12), 0.01, sigma=0.01).to_netcdf(tmp_path / "x.nc")
    settings = validate(
        composed(
            "dataset=netcdf", f"dataset.path={tmp_path / 'x.nc'}", "dataset.gap_angstrom=2e6", "dataset.phi=[[-5,40]]",
            "dataset.frames=[2,9]", "dataset.sigma=0.02", "dataset.min_lag=2",
        )
    )  # fmt: skip
    dataset = build_dataset(settings)
    assert (dataset.gap, dataset.n_t, dataset.dt, dataset.phi.tolist()) == (2e6, 8, 0.5, [0.0, 30.0])
    assert dataset.sigma.tolist() == [0.02, 0.02]
    assert fit_arguments(settings, OUTPUTS)["min_lag"] == 2


def test_synthetic_dataset(composed):
    dataset = build_dataset(
        validate(composed("dataset=synthetic", "dataset.n_phi=2", "dataset.n_t=20", "dataset.theta.D0=5e3"))
    )
    assert (dataset.n_phi, dataset.n_t, dataset.gap) == (2, 20, 2e6)
    with pytest.raises(InputError, match=r"dataset\.theta\['DO'\]"):
        build_dataset(validate(composed("dataset=synthetic", "dataset.theta.DO=5e3")))


def test_fit_arguments(composed):
    settings = validate(
        composed(
            PATH, "strategy=hybrid_streaming", "optimization.nlsq.memory_threshold_gb=48", "model.fixed.D_offset=0"
        )
    )
    arguments = fit_arguments(settings, OUTPUTS)
    assert arguments["strategy"] == HybridStreaming()
    assert arguments["weighting"] == "auto"
    assert fit_arguments(validate(composed(PATH, "strategy.weighting=whitened")), OUTPUTS)["weighting"] == "whitened"
    assert arguments["warm_up"] is None
    assert arguments["options"].memory_threshold_gb == 48.0
    assert arguments["fixed"] == {"D_offset": 0.0}
    assert arguments["scaling"] == "individual"


@pytest.mark.parametrize(
    ("overrides", "made"),
    [
        ([], Auto()),
        (["strategy.force=true"], Auto(force=True)),
        (["strategy=stratified_ls"], StratifiedLS()),
        (["strategy=hybrid_streaming"], HybridStreaming()),
        (["strategy=multistart"], Multistart()),
        (["strategy=multistart", "strategy.starts=256", "strategy.descents=8", "strategy.sampler=lhs"], Multistart(256, 8, "lhs")),
        (["strategy=cmaes_nlsq"], CmaesNlsq()),
        (["strategy=cmaes_nlsq", "strategy.population=20", "strategy.restarts=0", "strategy.seed=7"], CmaesNlsq(20, 0, 7)),
    ],
)  # fmt: skip
def test_strategies_are_built_with_their_settings(composed, overrides, made):
    """Null is the default of the strategy, whatever it is."""
    assert fit_arguments(validate(composed(PATH, *overrides)), OUTPUTS)["strategy"] == made


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strategy.starts=100"], r"strategy\.starts=100 is not a setting of auto; leave it out; it has force"),
        (["strategy=multistart", "strategy.restarts=2"], r"strategy\.restarts=2 is not a setting of multistart; .* it has starts"),
        (["strategy=cmaes_nlsq", "strategy.sampler=lhs"], r"strategy\.sampler='lhs' is not a setting of cmaes_nlsq"),
        (["strategy=cmaes_nlsq", "strategy.force=true"], r"strategy\.force=True is not a setting of cmaes_nlsq"),
        (["strategy=stratified_ls", "strategy.seed=1"], r"strategy\.seed=1 is not a setting of stratified_ls; .* no settings"),
        (["strategy=hybrid_streaming", "strategy.population=9"], r"strategy\.population=9 is not a setting of hybrid_streaming"),
    ],
)  # fmt: skip
def test_settings_of_another_strategy_are_refused(composed, overrides, message):
    with pytest.raises(InputError, match=message):
        fit_arguments(validate(composed(PATH, *overrides)), OUTPUTS)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("strategy.name=cmaes", r"strategy\.name='cmaes' is not one of the choices; did you mean cmaes_nlsq\?"),
        ("strategy.starts=0", r"strategy\.starts=0 must be"),
        ("strategy.population=1", r"strategy\.population=1 must be"),
        ("strategy.sampler=halton", r"strategy\.sampler='halton' is not one of the choices"),
        ("optimization.optimizer=adam", r"optimization\.optimizer='adam' is not one of the choices"),
        ("optimization.optax.steps=0", r"optimization\.optax\.steps=0 must be"),
        ("mode=dry", r"mode='dry' is not one of the choices"),
    ],
)
def test_strategy_settings_outside_their_range_are_refused(composed, override, message):
    with pytest.raises(InputError, match=message):
        validate(composed(PATH, override))


def test_steps_of_optax_precede_local_fits_on_demand(composed):
    chosen = "optimization.optimizer=optax"
    assert fit_arguments(validate(composed(PATH, chosen)), OUTPUTS)["warm_up"] == WarmUp()
    settings = validate(
        composed(
            PATH, chosen, "optimization.optax.name=sgd", "optimization.optax.steps=7",
            "optimization.optax.arguments.learning_rate=0.5", "optimization.optax.arguments.momentum=0.9",
        )
    )  # fmt: skip
    assert fit_arguments(settings, OUTPUTS)["warm_up"] == WarmUp("sgd", {"learning_rate": 0.5, "momentum": 0.9}, 7)
    with pytest.raises(
        InputError, match=r"optimization\.optax\.name='adamm' is not an optimizer of optax; choose one of"
    ):
        fit_arguments(validate(composed(PATH, chosen, "optimization.optax.name=adamm")), OUTPUTS)
    with pytest.raises(InputError, match=r"optimization\.optax\.arguments=.* does not fit adam: .*'rate'"):
        fit_arguments(validate(composed(PATH, chosen, "optimization.optax.arguments.rate=1")), OUTPUTS)


def test_per_angle_mode_replaces_scaling(composed):
    settings = validate(composed(PATH, "optimization.nlsq.anti_degeneracy.per_angle_mode=auto"))
    assert fit_arguments(settings, OUTPUTS)["scaling"] == "auto"


def test_checkpoints_lie_in_the_outputs_and_only_on_demand(composed):
    assert fit_arguments(validate(composed(PATH)), OUTPUTS)["checkpoint"] is None
    settings = validate(composed(PATH, "optimization.checkpoint=true"))
    assert fit_arguments(settings, OUTPUTS)["checkpoint"] == OUTPUTS / "checkpoints"


def test_trackers(composed, tmp_path):
    assert isinstance(build_tracker(validate(composed(PATH, "tracking=none")), tmp_path), NullTracker)
    tracker = build_tracker(validate(composed(PATH, "tracking.tags.sample=silica")), tmp_path)
    assert isinstance(tracker, MlflowTracker)
    assert tracker.store.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracker.store.artifacts == f"file://{tmp_path}/artifacts"
    assert tracker.tags == {"sample": "silica"}
