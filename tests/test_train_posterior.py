"""``strategy=nuts`` and ``cmc`` in the command: what is left when sampling ends well, badly, or not at all."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from homodyne.errors import InputError
from homodyne.result import FitResult, Status
from homodyne.result.posterior import Posterior
from tests.factories import make_fit_result, make_maps, make_posterior
from tests.test_train import Ended, command, only_run, recorded_runs  # noqa: F401

TINY = ["+experiment=posterior_demo", "dataset.n_phi=4", "dataset.n_t=30"]
QUIET = [*TINY, "tracking=none", "plots=false"]


@pytest.fixture
def sampler(monkeypatch):
    """A finished fit, and in place of the sampler whatever a test wants; returns the arguments it got."""
    asked: list[dict] = []

    def replace(answer, status=Status.CONVERGED) -> list[dict]:
        def sample(dataset, model, **arguments):
            asked.append(arguments)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        sample.__signature__ = real  # settings read their defaults from it
        monkeypatch.setattr("homodyne.fitting.fit", lambda *given, **rest: make_fit_result(status=status))
        monkeypatch.setattr("homodyne.fitting.fit_maps", lambda *given: make_maps(n_phi=1, n_t=20))
        monkeypatch.setattr("homodyne.sampling.sample", sample)
        return asked

    import inspect

    from homodyne import sampling

    real = inspect.signature(sampling.sample)
    return replace


def test_a_posterior_from_settings_to_the_record(command, tmp_path):  # noqa: F811
    """Nothing replaced: data, fit, chains, figures, MLflow."""
    ended: Ended = command(
        *TINY, "strategy.n_samples=300", "strategy.n_warmup=300", "model.priors.D_offset.kind=uniform"
    )
    assert ended.code == 0, ended.err + ended.out
    assert ended.err == ""
    folder = only_run(tmp_path)
    result, posterior = FitResult.load(folder / "result.nc"), Posterior.load(folder / "posterior.nc")
    assert posterior.converged
    for name in ("D0", "alpha", "D_offset"):
        assert abs(posterior.mean[name] - result.theta[name]) < 0.5 * result.stderr[name]
        assert posterior.sd[name] == pytest.approx(result.stderr[name], rel=0.25)
    assert "[INFO] Posterior by nuts, honest likelihood:" in ended.out
    assert "[INFO] Posterior: converged. R-hat at most" in ended.out
    assert "arviz" not in ended.out
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert {"posterior_corner.png", "posterior_chains.png", "posterior_predictive.png", "curves.png"} <= drawn
    (run,) = recorded_runs(tmp_path)
    assert run.data.tags["posterior"] == "converged"
    assert run.data.metrics["posterior.mean.D0"] == pytest.approx(posterior.mean["D0"])
    assert run.data.params["strategy.n_samples"] == "300"


def test_draws_that_did_not_converge_are_saved_and_exit_with_2(command, sampler, tmp_path):  # noqa: F811
    asked = sampler(make_posterior(rhat={"D0": 1.4, "alpha": 1.0, "D_offset": 1.0}, warnings=("12 draws diverged",)))
    ended = command(*QUIET, "strategy=cmc", "strategy.shards=2", "strategy.seed=3")
    assert ended.code == 2
    assert "[WARNING] Posterior: NOT CONVERGED (not_mixed). The chains do not agree: R-hat of D0 is 1.400" in ended.out
    assert "[WARNING] 12 draws diverged" in ended.out
    assert Posterior.load(only_run(tmp_path) / "posterior.nc").status == "not_mixed"
    assert asked[0]["fit"].converged
    assert {k: asked[0][k] for k in ("method", "shards", "seed", "folder")} == {
        "method": "cmc", "shards": 2, "seed": 3, "folder": None,
    }  # fmt: skip


def test_ctrl_c_while_sampling_leaves_the_fit_recorded(command, sampler, tmp_path):  # noqa: F811
    sampler(KeyboardInterrupt())
    ended = command(*TINY, "plots=false", "strategy=cmc", "optimization.checkpoint=true")
    assert ended.code == 2
    assert (
        "[WARNING] Interrupted while sampling: the fit is complete, its posterior is not; shards that are" in ended.out
    )
    folder = only_run(tmp_path)
    assert not (folder / "posterior.nc").exists()
    (run,) = recorded_runs(tmp_path)
    assert run.data.metrics["theta.D0"] == FitResult.load(folder / "result.nc").theta["D0"]
    assert "posterior" not in run.data.tags
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_interruption_while_sampling_ends_a_sweep(command, sampler, tmp_path):  # noqa: F811
    sampler(KeyboardInterrupt())
    ended = command("-m", *QUIET, "strategy.seed=1,2")
    assert ended.code == 2
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/*/result.nc"))) == 1
    assert "The sweep ends here" in ended.err


def test_what_stops_the_sampler_does_not_take_the_fit_along(command, sampler, tmp_path):  # noqa: F811
    sampler(InputError("n_workers", "Shard 1 of 2", "died 3 times; its last words are in x", "use fewer workers"))
    ended = command(*QUIET)
    assert ended.code == 1
    assert ended.err == ("[ERROR] n_workers='Shard 1 of 2' died 3 times; its last words are in x; use fewer workers\n")
    assert FitResult.load(only_run(tmp_path) / "result.nc").converged


def test_an_interrupted_fit_is_not_sampled(command, sampler):  # noqa: F811
    asked = sampler(make_posterior(), status=Status.INTERRUPTED)
    ended = command(*QUIET)
    assert ended.code == 2
    assert not asked
    assert "[WARNING] The fit was interrupted: its posterior is not sampled" in ended.out


def test_shards_are_kept_until_they_are_combined(command, sampler, tmp_path):  # noqa: F811
    chosen = [*QUIET, "strategy=cmc", "optimization.checkpoint=true"]
    place = tmp_path / "outputs" / "checkpoints"
    folder = sampler(KeyboardInterrupt())
    command(*chosen)
    kept: Path = folder[0]["folder"]
    assert kept.parent == place
    kept.mkdir(parents=True)
    (kept / "draws_000.npz").write_bytes(b"done")
    asked = sampler(make_posterior())
    assert command(*chosen).code == 0
    assert asked[-1]["folder"] == kept
    assert not kept.exists()


def test_too_many_shards_are_refused_before_the_fit(command, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr("homodyne.fitting.fit", lambda *given, **rest: pytest.fail("a fit was started"))
    ended = command(*QUIET, "strategy=cmc", "strategy.shards=3")
    assert ended.code == 1
    assert "[ERROR] shards=3 makes 3 shards of 4 sectors" in ended.err
    assert not list(tmp_path.glob("outputs/**/result.nc"))


def test_a_folder_used_again_keeps_no_earlier_posterior(command, sampler, tmp_path):  # noqa: F811
    sampler(make_posterior())
    again = [*QUIET, "hydra.run.dir=here"]
    assert command(*again).code == 0
    assert (tmp_path / "here" / "posterior.nc").is_file()
    sampler(KeyboardInterrupt())
    assert command(*again).code == 2
    assert not (tmp_path / "here" / "posterior.nc").exists()


def test_a_plan_says_chains_shards_and_memory(command, monkeypatch):  # noqa: F811
    monkeypatch.setattr("homodyne.fitting.fit", lambda *given, **rest: pytest.fail("a fit was started"))
    ended = command(*QUIET, "strategy=cmc", "strategy.n_workers=2", "strategy.n_samples=1000", "mode=plan")
    assert ended.code == 0, ended.err
    assert "Posterior: cmc, 2 shards of up to 2 sectors, 4 chains of 500 + 1000 draws in each" in ended.out
    # 2 shards x 4 chains x 1000 draws x 5 parameters x 8 bytes = 0.0003 GB
    assert "2 workers" in ended.out
    assert "draws 0.0003" in ended.out
    nuts = command(*QUIET, "mode=plan")
    assert "Posterior: nuts, 4 chains of 500 + 1500 draws, all data at once" in nuts.out
