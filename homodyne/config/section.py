"""One section of the settings, given as plain values instead of through Hydra: completed and checked all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from homodyne.config.schema import ModelConf, OptimizationConf, StrategyConf
from homodyne.config.validate import Settings, check_node
from homodyne.errors import InputError

SECTIONS: dict[str, type] = {"model": ModelConf, "strategy": StrategyConf, "optimization": OptimizationConf}


def complete_section(given: Mapping[str, Any], name: str) -> Settings:
    """The section ``name`` (model, strategy, optimization) with defaults filled in.

    Raises:
        InputError: unknown key, wrong type, value not among its choices or outside its limits, mandatory value missing.
    """
    check_node(given, SECTIONS[name], f"{name}.")
    defaults = OmegaConf.structured(SECTIONS[name])
    OmegaConf.set_struct(defaults, False)
    try:
        merged = OmegaConf.merge(defaults, OmegaConf.create(dict(given)))
    except OmegaConfBaseException as error:
        raise InputError(error.full_key or name, given, "cannot be used", str(error).splitlines()[0]) from error
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise InputError(f"{name}.{missing[0]}", None, "is missing", f"give {name}.{missing[0]}")
    return cast(Settings, OmegaConf.to_container(merged, resolve=True))
