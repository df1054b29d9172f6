"""``fit_nlsq_jax(data, config)``: the call users of homodyne know, on top of ``homodyne.fit``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from homodyne.config.build import build_model, fit_arguments
from homodyne.config.nearest import suggestion
from homodyne.config.posterior import SAMPLERS
from homodyne.config.section import complete_section
from homodyne.data import Dataset, from_mapping
from homodyne.errors import InputError
from homodyne.fitting import fit
from homodyne.result import FitResult

_KEYS = ("analysis_mode", "convention", "scaling", "strategy", "start", "fixed", "bounds", "min_lag", "optimization")


def fit_nlsq_jax(data: Dataset | Mapping[str, Any], config: str | os.PathLike[str] | Mapping[str, Any]) -> FitResult:
    """Fit ``data`` as ``config`` says.

    Args:
        data: a Dataset, or a mapping with ``phi_angles_list`` [deg], ``c2_exp`` (n_phi, n_t, n_t), ``t1``, ``t2`` [s],
            ``wavevector_q_list`` [1/angstrom], and optionally ``sigma``, ``L`` (gap [angstrom]), ``dt`` [s].
        config: YAML file or mapping, either short, ``{"analysis_mode": "laminar_flow", "optimization": {"nlsq": ...}}``
            with optional convention, scaling, strategy, start, fixed, bounds, min_lag; or the configuration of a run
            (the config.yaml in its folder), whose ``dataset`` part is not used here except for ``min_lag``.

    Raises:
        InputError: unknown key (with the nearest known one), bad value, bad data.
    """
    given = _read(config)
    settings = _of_run(given) if "model" in given else _short(given)
    if settings["strategy"]["name"] in SAMPLERS:
        raise InputError(
            "strategy.name",
            settings["strategy"]["name"],
            "samples a posterior, and this call fits",
            "use homodyne.sample",
        )
    model = build_model(settings)
    dataset = data if isinstance(data, Dataset) else from_mapping(data)
    return fit(dataset, model, **fit_arguments(settings, Path.cwd() / "outputs"))


def _read(config: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    path = Path(config)
    if not path.is_file():
        raise InputError("config", str(path), "does not exist", "give the path of a YAML file, or a mapping")
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, Mapping):
        raise InputError("config", str(path), "holds no mapping", "write keys and values, as in docs/")
    return loaded


def _short(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run from the short form."""
    for key in given:
        if key not in _KEYS:
            raise InputError(f"config[{key!r}]", given[key], "is not a known key", suggestion(key, _KEYS))
    model = {
        "_target_": "homodyne.models.get_model",
        "name": given.get("analysis_mode", "laminar_flow"),
        **{k: given[k] for k in ("convention", "scaling", "start", "fixed", "bounds") if k in given},
    }
    return _of_run(
        {
            "model": model,
            "dataset": {"min_lag": given.get("min_lag", 1)},
            "strategy": {"name": given.get("strategy", "auto")},
            "optimization": given.get("optimization", {}),
        }
    )


def _of_run(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a run's settings that a fit needs, complete and checked against the schema."""
    parts = {name: complete_section(given.get(name, {}), name) for name in ("model", "strategy", "optimization")}
    return {**parts, "dataset": {"min_lag": given.get("dataset", {}).get("min_lag", 1)}}
