"""A posterior in the record of its run."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from homodyne.result import Status
from homodyne.result.posterior import Posterior
from homodyne.tracking import MlflowTracker, flatten
from homodyne.tracking import posterior as sampled
from homodyne.tracking.import_run import main as import_main
from homodyne.tracking.run_folder import RunFolder
from tests.factories import make_fit_result, make_posterior
from tests.tracking.conftest import SETTINGS


def test_metrics_say_how_far_to_trust_the_draws_and_what_they_are():
    posterior = make_posterior(divergences=3, pareto_k=0.2, worker_gb=(0.6, 0.7), warnings=("one",))
    found = sampled.metrics(posterior)
    assert list(found)[:3] == ["posterior.converged", "posterior.rhat_max", "posterior.ess_min"]
    expected = {
        "posterior.converged": 1.0, "posterior.rhat_max": 1.002, "posterior.ess_min": 580.0, "posterior.divergences": 3.0,
        "posterior.summary_error": 0.01, "posterior.pareto_k": 0.2, "posterior.seconds": 12.0, "posterior.peak_gb": 0.9,
        "posterior.worker_gb_max": 0.7, "posterior.n_warnings": 1.0, "posterior.rhat.alpha": 1.002, "posterior.ess.D0": 610.0,
    }  # fmt: skip
    assert found | expected == found
    draws = posterior.idata.posterior["D_offset"].values
    assert found["posterior.mean.D_offset"] == pytest.approx(draws.mean())
    assert found["posterior.sd.D_offset"] == pytest.approx(draws.std())
    assert all(isinstance(value, float) for value in found.values())
    bad = sampled.metrics(make_posterior(rhat={"D0": np.nan, "alpha": 1.0, "D_offset": 1.0}))
    assert bad["posterior.converged"] == 0.0
    assert "posterior.worker_gb_max" not in bad


def test_parameters_hold_settings_shards_and_priors():
    settings = {"n_chains": 4, "n_samples": 150, "n_warmup": 100, "seed": 0, "n_workers": 2, "combiner": "importance"}
    posterior = make_posterior(method="cmc", settings=settings, shards=((-80.0, 28.0), (-26.0, 82.0)))
    found = sampled.parameters(posterior)
    assert found == {
        "posterior.method": "cmc", "posterior.likelihood": "honest", "posterior.n_chains": "4", "posterior.n_samples": "150",
        "posterior.n_warmup": "100", "posterior.seed": "0", "posterior.n_workers": "2", "posterior.combiner": "importance",
        "posterior.n_shards": "2", "posterior.shards_deg": "-80, 28; -26, 82", "posterior.prior.D0": "uniform in [1, 1e+07]",
        "posterior.prior.alpha": "uniform in [-2, 2]", "posterior.prior.D_offset": "uniform in [-100000, 100000]",
    }  # fmt: skip
    plain = sampled.parameters(make_posterior())
    assert plain["posterior.n_shards"] == "0"
    assert "posterior.combiner" not in plain


def test_the_note_begins_with_how_sampling_ended():
    result = make_fit_result(warnings=("chi2 is large",))
    note = flatten.note(result, make_posterior(warnings=("draws diverged",)))
    parts = note.split("\n\n")
    assert parts[0].startswith("Posterior: converged. R-hat at most 1.002")
    assert parts[1:3] == ["chi2 is large", "draws diverged"]
    assert parts[-1].startswith("Priors: ")
    assert flatten.note(result) == "\n\n".join((*result.warnings, *result.findings))


def test_a_posterior_arrives_with_its_run_also_when_imported_later(tmp_path, run_folder, capsys):
    outputs = tmp_path / "outputs"
    folder = run_folder(outputs / "runs" / "a", status=Status.CONVERGED)
    posterior = make_posterior(ess={"D0": 90.0, "alpha": 580.0, "D_offset": 599.0})
    posterior.save(folder / "posterior.nc")
    (folder / "config.yaml").write_text(yaml.safe_dump({**SETTINGS, "strategy": {"name": "nuts", "n_chains": 4}}))
    assert import_main([str(folder)]) == 0
    assert "experiment shear" in capsys.readouterr().out
    client = MlflowTracker(outputs, experiment_name="shear").store.client()
    run = client.get_run(RunFolder.read(folder).recorded()["run_id"])
    assert run.data.tags["posterior"] == "too_few_draws"
    assert run.data.tags["status"] == "converged"
    assert run.data.tags["mlflow.note.content"].startswith("Posterior: too_few_draws. The effective sample size of D0")
    assert run.data.metrics["posterior.ess_min"] == 90.0
    assert run.data.metrics["posterior.mean.D0"] == pytest.approx(posterior.mean["D0"])
    assert run.data.params["posterior.prior.alpha"] == "uniform in [-2, 2]"
    assert run.data.params["strategy.name"] == "nuts"
    artifacts = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"config.yaml", "result.nc", "posterior.nc", "fit.log", "figures"}
    # the run ended when sampling did
    fitted = flatten.fit_seconds(make_fit_result())
    assert run.info.end_time - run.info.start_time == pytest.approx(1000 * (fitted + posterior.seconds), abs=2)
    stored = client.download_artifacts(run.info.run_id, "posterior.nc", str(tmp_path))
    assert Posterior.load(stored).mean == pytest.approx(posterior.mean)


def test_a_run_without_a_posterior_has_none(tmp_path, run_folder):
    assert RunFolder.read(run_folder(tmp_path / "a")).posterior is None
