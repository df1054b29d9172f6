"""The one door between configuration and objects: nothing else instantiates."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import get_method

from homodyne.config.posterior import SAMPLERS, sampler_settings
from homodyne.config.schema import LocalClusterConf
from homodyne.config.validate import TARGET, Settings
from homodyne.errors import InputError

if TYPE_CHECKING:
    from homodyne.data import Dataset
    from homodyne.models import Model
    from homodyne.tracking import Tracker

# Settings whose name at the door differs from the argument behind it.
RENAMED = {"gap_angstrom": "gap", "dt_s_override": "dt_override"}
# Settings of the dataset group that belong to the fit, or to a batch of fits.
FIT_SETTINGS = ("min_lag", "glob")


def build_model(settings: Settings) -> Model:
    """The model, with every name and number in start, fixed, bounds and priors checked against its parameters.

    Raises:
        InputError: unknown model, parameter or a value outside its bounds.
    """
    from homodyne.parameters import check_known, check_values, with_bounds

    chosen = settings["model"]
    if chosen["file"] is not None:
        model = own_model(Path(chosen["file"]), chosen["name"])
    else:
        model = _call(chosen[TARGET], {"name": chosen["name"], "convention": chosen["convention"]}, "model")
    for group in ("start", "fixed", "bounds", "priors"):
        check_known(chosen[group], model.parameters, f"model.{group}")
    bounded = with_bounds(model.parameters, chosen["bounds"])
    for group in ("start", "fixed"):
        check_values(chosen[group], bounded, f"model.{group}")
    return model


def build_dataset(settings: Settings) -> Dataset:
    """The dataset, opened lazily."""
    chosen = {k: v for k, v in settings["dataset"].items() if k != TARGET and k not in FIT_SETTINGS}
    arguments = {RENAMED.get(k, k): v for k, v in chosen.items()}
    return _call(settings["dataset"][TARGET], arguments, "dataset")


def build_tracker(settings: Settings, outputs: Path) -> Tracker:
    """The tracker; ``outputs`` is the absolute folder of its local database and artifacts."""
    chosen = {k: v for k, v in settings["tracking"].items() if k != TARGET}
    return _call(settings["tracking"][TARGET], {**chosen, "outputs": str(outputs)}, "tracking")


def fit_arguments(settings: Settings, outputs: Path) -> dict[str, Any]:
    """Keyword arguments of ``homodyne.fit``, the dataset and the model excepted; checkpoints go below ``outputs``."""
    from homodyne.optimization.nlsq.options import NLSQOptions
    from homodyne.optimization.search import WarmUp

    optax, chosen = settings["optimization"]["optax"], settings["optimization"]["optimizer"]
    nlsq = dict(settings["optimization"]["nlsq"])
    mode = nlsq.pop("anti_degeneracy")["per_angle_mode"]
    model = settings["model"]
    return {
        "scaling": mode or model["scaling"],
        "strategy": _strategy(settings),
        "weighting": _weighting(settings["strategy"]),
        "warm_up": WarmUp(optax["name"], optax["arguments"], optax["steps"]) if chosen == "optax" else None,
        "start": model["start"] or None,
        "fixed": model["fixed"] or None,
        "bounds": model["bounds"] or None,
        **{name: settings["optimization"][name] for name in ("covariance", "counts", "pixels")},
        "min_lag": settings["dataset"]["min_lag"],
        "options": NLSQOptions(**nlsq),
        "checkpoint": outputs / "checkpoints" if settings["optimization"]["checkpoint"] else None,
    }


def _weighting(chosen: Mapping[str, Any]) -> str:
    """As asked for; under ``auto`` a likelihood that counts pairs as independent has the weights that go with it."""
    of_independent = chosen["name"] in SAMPLERS and chosen["likelihood"] == "iid"
    return "uniform" if of_independent and chosen["weighting"] == "auto" else str(chosen["weighting"])


def _strategy(settings: Settings) -> Any:
    """How the optimum is found; a sampler begins with the search of ``auto``."""
    from homodyne.optimization.search import get_strategy

    chosen, priors = settings["strategy"], settings["model"]["priors"]
    if chosen["name"] in SAMPLERS:
        sampler_settings(chosen)
        return get_strategy("auto")
    if priors:
        raise InputError(
            "model.priors", sorted(priors), f"are not used by strategy={chosen['name']}", "set strategy=nuts, or leave them out"
        )  # fmt: skip
    return get_strategy(**{k: v for k, v in chosen.items() if v is not None and k != "weighting"})


@contextmanager
def open_client(settings: Settings) -> Iterator[Any]:
    """The client of Dask for ``strategy=distributed``, whose cluster ends with the context; None for other strategies.

    Raises:
        InputError: a cluster that no strategy uses, that cannot be started or does not answer.
    """
    chosen = settings["cluster"]
    if settings["strategy"]["name"] != "distributed":
        if chosen[TARGET] != LocalClusterConf._target_:
            name = chosen[TARGET].rpartition(".")[2]
            raise InputError(
                "cluster", name, "is for strategy=distributed", "set strategy=distributed, or leave it out"
            )
        yield None
        return
    with _call(chosen[TARGET], {k: v for k, v in chosen.items() if k != TARGET}, "cluster") as client:
        yield client


def own_model(file: Path, name: str) -> Model:
    """The model that the function ``name`` in the user's Python ``file`` returns.

    Raises:
        InputError: no such file or function, or something that is not a model.
    """
    from homodyne.models import Model

    if not file.is_file():
        raise InputError("model.file", str(file), "does not exist", "give the path of the Python file with your model")
    spec = importlib.util.spec_from_file_location(f"homodyne_own_{file.stem}", file.resolve())
    if spec is None or spec.loader is None:
        raise InputError("model.file", str(file), "is not a Python file", "give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
    if name not in functions:
        raise InputError("model.name", name, f"is not a function in {file}", f"that file has: {', '.join(functions)}")
    model = getattr(module, name)()
    if not isinstance(model, Model):
        raise InputError("model.name", name, f"returned {type(model).__name__}", "return a homodyne.models.Model")
    return model


def _call(target: str, arguments: Mapping[str, Any], group: str) -> Any:
    """Call a target of this package and nothing else.

    The name alone is no proof: ``homodyne.result.fit_result.os.system`` starts with the right prefix. The arguments are plain
    values (``validate`` converted all containers), and errors of the target pass through as they are, which
    ``hydra.utils.instantiate`` would wrap.
    """
    if not target.startswith("homodyne."):
        raise InputError(f"{group}.{TARGET}", target, "is outside this package", "use a target of homodyne")
    found = get_method(target)
    if not str(getattr(found, "__module__", "")).startswith("homodyne"):
        raise InputError(f"{group}.{TARGET}", target, "is defined outside this package", "use a target of homodyne")
    return found(**arguments)
