"""Settings of samplers and priors become arguments of ``homodyne.sample``, or are refused before anything runs."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

from homodyne.config import schema
from homodyne.config.batch import DECIDING, is_done
from homodyne.config.build import build_model, fit_arguments
from homodyne.config.posterior import SAMPLERS, sample_arguments
from homodyne.config.validate import validate
from homodyne.errors import InputError
from homodyne.fit_nlsq_jax import fit_nlsq_jax
from homodyne.optimization.posterior.consensus import COMBINERS
from homodyne.optimization.posterior.priors import KINDS, Prior
from homodyne.optimization.search import Auto
from homodyne.sampling import LIKELIHOODS, METHODS, sample

DEMO, OUTPUTS = "+experiment=posterior_demo", Path("outputs")


@pytest.fixture
def arguments(composed):
    """Those of ``homodyne.sample`` for overrides of the demo."""

    def made(*overrides: str):
        settings = validate(composed(DEMO, *overrides))
        return sample_arguments(settings, build_model(settings), OUTPUTS)

    return made


def test_keys_are_arguments_of_sample_with_its_choices():
    parameters = inspect.signature(sample).parameters
    assert set(SAMPLERS) == set(METHODS)
    assert {key for keys in SAMPLERS.values() for key in keys} <= set(parameters)
    fields = {name: f.metadata.get("choices") for name, f in schema.StrategyConf.__dataclass_fields__.items()}
    assert fields["likelihood"] == LIKELIHOODS
    assert fields["combiner"] == COMBINERS
    assert schema.PriorConf.__dataclass_fields__["kind"].metadata["choices"] == KINDS


def test_what_is_not_set_is_the_default_of_sample(arguments):
    found = arguments()
    usual = inspect.signature(sample).parameters
    assert found["method"] == "nuts"
    assert all(found[key] == usual[key].default for key in SAMPLERS["nuts"])
    assert {p.kind for p in found["priors"].values()} == {"uniform"}
    assert found["folder"] is None
    # everything but the data, the model, the fit and its own settings
    assert set(found) <= set(usual)


def test_settings_arrive(arguments):
    found = arguments(
        "strategy=cmc", "strategy.n_chains=3", "strategy.n_samples=200", "strategy.n_warmup=100", "strategy.seed=5",
        "strategy.likelihood=iid", "strategy.shards=2", "strategy.max_points_per_shard=20000", "strategy.n_workers=1",
        "strategy.combiner=gaussian", "optimization.nlsq.memory_threshold_gb=8",
        "model.priors.D0={kind: normal, mean: 8000, sd: 500}", "model.priors.D_offset.kind=log_uniform",
        "model.bounds.D_offset=[1,1e4]",
    )  # fmt: skip
    expected = {
        "method": "cmc", "n_chains": 3, "n_samples": 200, "n_warmup": 100, "seed": 5, "likelihood": "iid", "shards": 2,
        "max_points_per_shard": 20000, "n_workers": 1, "combiner": "gaussian", "folder": None,
    }  # fmt: skip
    assert found | expected == found
    assert found["options"].memory_threshold_gb == 8.0
    assert found["priors"]["D0"] == Prior("normal", 8000, 500)
    assert found["priors"]["D_offset"].kind == "log_uniform"


def test_auto_is_a_word_for_sizes(arguments):
    found = arguments("strategy=cmc", "strategy.shards=auto", "strategy.max_points_per_shard=auto")
    assert (found["shards"], found["max_points_per_shard"]) == ("auto", "auto")


def test_the_fit_before_is_that_of_auto(composed):
    settings = validate(composed(DEMO, "strategy=cmc", "strategy.shards=2"))
    assert fit_arguments(settings, OUTPUTS)["strategy"] == Auto()


def test_other_strategies_sample_nothing(arguments):
    assert arguments("strategy=auto") is None


def test_shards_are_kept_on_demand_in_a_folder_of_these_settings(arguments):
    chosen = ("strategy=cmc", "optimization.checkpoint=true")
    folder = arguments(*chosen)["folder"]
    assert folder.parent == OUTPUTS / "checkpoints"
    assert folder == arguments(*chosen, "tracking=none", "plots=false")["folder"]
    assert folder != arguments(*chosen, "strategy.seed=1")["folder"]
    assert folder != arguments(*chosen, "dataset.seed=1")["folder"]
    assert arguments("optimization.checkpoint=true")["folder"] is None  # nuts has no shards


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strategy.shards=2"], r"strategy\.shards=2 is not a setting of nuts; leave it out; it has n_chains"),
        (["strategy.restarts=2"], r"strategy\.restarts=2 is not a setting of nuts"),
        (["strategy=cmc", "strategy.force=true"], r"strategy\.force=True is not a setting of cmc"),
        (["strategy=auto", "strategy.n_chains=4"], r"strategy\.n_chains=4 is not a setting of auto"),
        (["strategy.n_chains=1"], r"strategy\.n_chains=1 must be above 1"),
        (["strategy.n_samples=10"], r"strategy\.n_samples=10 must be above 49"),
        (["strategy=cmc", "strategy.n_workers=0"], r"strategy\.n_workers=0 must be positive"),
        (["strategy.likelihood=honst"], r"strategy\.likelihood='honst' is not one of the choices; did you mean honest"),
        (["strategy=cmc", "strategy.combiner=mean"], r"strategy\.combiner='mean' is not one of the choices"),
        (["strategy=cmc", "strategy.shards=0.5"], r"strategy\.shards=0\.5 is neither auto nor a positive whole"),
        (["strategy=cmc", "strategy.shards=many"], r"strategy\.shards='many' is neither auto"),
        (["strategy=cmc", "strategy.max_points_per_shard=true"], r"max_points_per_shard=True is neither auto"),
        (["model.priors.D0.knd=normal"], r"model\.priors\.D0\.knd='normal' is not a known key; did you mean kind"),
        (["model.priors.D0=normal"], r"model\.priors\.D0='normal' must be a group of keys"),
        (["model.priors.D0.kind=gauss"], r"model\.priors\.D0\.kind='gauss' is not one of the choices"),
        (
            ["model.priors.D1.kind=normal"],
            r"model\.priors\['D1'\]=.* is not a parameter of this model; did you mean 'D0'",
        ),
        (
            ["model.priors.D0={kind: normal, mean: abc, sd: 1}"],
            r"model\.priors\.D0\.mean='abc' must be a finite number",
        ),
        (["model.priors.D0={kind: normal, mean: 1, sd: 0}"], r"model\.priors\.D0\.sd=0 must be positive"),
        (["model.priors.D0={kind: normal, mean: 8000}"], r"priors\['D0'\]=.* needs a mean and a positive sd"),
        (["model.priors.alpha.kind=log_uniform"], r"priors\['alpha'\]='log_uniform' needs a lower bound above zero"),
        (
            ["strategy=auto", "model.priors.D0.kind=log_uniform"],
            r"model\.priors=\['D0'\] are not used by strategy=auto",
        ),
        (["optimization.covariance=iid"], r"likelihood='honest' needs honest errors"),
        (["optimization.nlsq.loss=huber"], r"loss='huber' has no likelihood here"),
        (["strategy.weighting=whitened", "strategy.likelihood=iid"], r"likelihood='iid' counts pairs as independent"),
        (["strategy=cmc", "model.scaling=fourier"], r"scaling='fourier' ties all sectors together"),
        (
            ["strategy=cmc", "optimization.nlsq.anti_degeneracy.per_angle_mode=auto"],
            r"scaling='auto' ties all sectors together",
        ),
    ],
)
def test_what_cannot_be_is_said_before_data_are_opened(composed, overrides, message):
    with pytest.raises(InputError, match=message):  # noqa: PT012 - whichever check comes first
        settings = validate(composed(DEMO, *overrides))
        model = build_model(settings)
        fit_arguments(settings, OUTPUTS)
        sample_arguments(settings, model, OUTPUTS)


def test_a_file_of_a_batch_is_done_when_its_posterior_is(tmp_path):
    settings = {
        **dict.fromkeys(DECIDING),
        "strategy": {"name": "nuts"},
        "dataset": {"path": str(tmp_path / "gone.hdf")},
    }
    (tmp_path / "result.nc").write_bytes(b"")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert not is_done(tmp_path, settings)
    (tmp_path / "posterior.nc").write_bytes(b"")
    assert is_done(tmp_path, settings)


def test_iid_errors_do_for_the_iid_likelihood(arguments):
    assert arguments("optimization.covariance=iid", "strategy.likelihood=iid")["likelihood"] == "iid"


def test_the_old_call_fits_and_says_so():
    with pytest.raises(
        InputError, match=r"strategy\.name='nuts' samples a posterior, and this call fits; use homodyne"
    ):
        fit_nlsq_jax({}, {"analysis_mode": "static", "strategy": "nuts"})
