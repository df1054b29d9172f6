"""Checks of a composed configuration, before any data is read.

Hydra has checked names and types while composing, except where ``+key=value`` opened a node; so names are
checked again here, together with what the schema says about choices, limits and mandatory values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from homodyne.config.nearest import suggestion
from homodyne.config.schema import CLUSTERS, DATASETS, PriorConf, RootConf
from homodyne.errors import InputError

Settings = dict[str, Any]
TARGET = "_target_"
# Where the schema has a target; anywhere else one is refused.
TARGET_PATHS = ("model._target_", "dataset._target_", "tracking._target_", "cluster._target_")
REMEDIES = {
    "dataset.path": "set dataset.path=/path/to/file",
    "dataset": "choose dataset=apsu, aps_legacy, nxxpcs, pychx, netcdf, npz, zarr, auto or synthetic",
    "model.name": "choose model=static or model=laminar_flow",
}


def validate(cfg: DictConfig) -> Settings:
    """Plain settings (nested dictionaries) after every check that needs no data.

    Raises:
        InputError: unknown key, missing mandatory value, value not among its choices or out of its limits, or a
            target outside this package.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise InputError(missing[0], None, "is missing", REMEDIES.get(missing[0], f"set {missing[0]}=..."))
    settings = cast(Settings, OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    check_targets(settings)
    check_node(settings, RootConf, "")
    for group, schemas in (("dataset", DATASETS), ("cluster", CLUSTERS)):
        check_node(settings[group], _schema_of(cfg[group], settings[group], group, schemas), f"{group}.")
    _check_selection(settings["dataset"])
    _check_sampling(settings)
    return settings


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse command-line overrides that name a ``_target_``, ours or Hydra's own, before Hydra acts on them.

    Raises:
        InputError: an override holds a target.
    """
    for override in overrides:
        if TARGET in override:
            key, _, value = override.partition("=")
            raise InputError(
                key, value, "names a target, which the command line may not", "choose a group file instead"
            )


def check_targets(settings: Mapping[str, Any]) -> None:
    """Every target sits where the schema has one, and is in this package.

    Raises:
        InputError: a target elsewhere or outside ``homodyne.``.
    """
    for path, value in _walk(settings, ""):
        if path.rpartition(".")[2] != TARGET:
            continue
        if path not in TARGET_PATHS:
            raise InputError(path, value, "is a target where none belongs", "remove it")
        if not str(value).startswith("homodyne."):
            raise InputError(
                path, value, "is outside this package", "use a target of homodyne, or model.file for your own model"
            )


def known_keys() -> list[str]:
    """Every key of the schema as a dotted path, groups included."""
    keys = list(_schema_keys(RootConf, ""))
    for group, schemas in (("dataset", DATASETS), ("cluster", CLUSTERS)):
        for schema in schemas:
            keys += _schema_keys(schema, f"{group}.")
    return list(dict.fromkeys(k for k in keys if not k.endswith(TARGET)))


def _schema_keys(schema: type, prefix: str) -> Iterator[str]:
    for f in dataclasses.fields(schema):
        yield prefix + f.name
        nested = nested_schema(f)
        if nested is not None:
            yield from _schema_keys(nested, f"{prefix}{f.name}.")


def nested_schema(f: dataclasses.Field[Any]) -> type | None:
    """The dataclass that describes a nested group, None for a leaf."""
    factory = f.default_factory
    return factory if isinstance(factory, type) and dataclasses.is_dataclass(factory) else None


def _schema_of(node: DictConfig, given: Mapping[str, Any], group: str, schemas: Sequence[Any]) -> type:
    """The schema that the group file named; for a file without one, the schema with its target."""
    declared = OmegaConf.get_type(node)
    named = [schema for schema in schemas if schema is declared]
    for schema in [*named, *(schema for schema in schemas if given.get(TARGET) == schema._target_)]:
        return schema
    example = "file_dataset" if group == "dataset" else "local_cluster"
    raise InputError(
        f"{group}.{TARGET}",
        given.get(TARGET),
        "is no choice of this group",
        f"start the file with defaults: [/{example}_schema@_here_, _self_]",
    )


def check_node(node: Mapping[str, Any], schema: type, prefix: str) -> None:
    fields = {f.name: f for f in dataclasses.fields(schema)}
    for name, value in node.items():
        if name not in fields:
            known = [n for n in fields if n != TARGET]
            raise InputError(f"{prefix}{name}", value, "is not a known key", suggestion(str(name), known))
        f = fields[name]
        nested = nested_schema(f)
        if nested is not None:
            if not isinstance(value, Mapping):
                raise InputError(f"{prefix}{name}", value, "must be a group of keys", f"use {prefix}{name}.KEY=VALUE")
            check_node(value, nested, f"{prefix}{name}.")
        elif value is not None:
            _check_leaf(f"{prefix}{name}", value, f.metadata)


def _check_leaf(path: str, value: Any, rules: Mapping[str, Any]) -> None:
    choices = rules.get("choices")
    if choices and value not in choices:
        raise InputError(path, value, "is not one of the choices", suggestion(str(value), choices))
    above, below = rules.get("above"), rules.get("below")
    if above is None and below is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(path, value, "must be a finite number", f"set {path} to a number")
    if above is not None and value <= above:
        raise InputError(
            path,
            value,
            "must be positive" if above == 0 else f"must be above {above:g}",
            f"set {path} to such a number",
        )
    if below is not None and value > below:
        raise InputError(path, value, f"must not exceed {below:g}", f"set {path} to such a number")


def _check_selection(dataset: Mapping[str, Any]) -> None:
    """``q``, ``phi``, ``frames``, ``sigma``: shapes that the type system of Hydra cannot express."""
    path = dataset.get("path")
    if path == [] or not all(isinstance(text, str) for text in _listed(path)):
        raise InputError(
            "dataset.path",
            path,
            "is neither a path nor a list of paths",
            "give dataset.path=/a.hdf, or [/a.hdf,/b.hdf]",
        )
    q = dataset.get("q")
    if q == [] or not all(_is_number(x) and x > 0 for x in _listed(q)):
        raise InputError(
            "dataset.q", q, "must be positive", "give one q in 1/angstrom, or a list: dataset.q=[0.0054,0.0070]"
        )
    for item in dataset.get("phi") or ():
        pair = isinstance(item, list) and len(item) == 2 and all(_is_number(x) for x in item)
        if not (pair or _is_number(item)):
            raise InputError(
                "dataset.phi",
                item,
                "is neither an angle nor a [lo, hi] range",
                "give e.g. dataset.phi=[0,[80,100]] in degrees",
            )
    frames = dataset.get("frames")
    if frames is not None and (len(frames) != 2 or not 1 <= frames[0] < frames[1]):
        raise InputError(
            "dataset.frames",
            frames,
            "is not [first, last]",
            "give two numbers, inclusive, counted from 1, first < last",
        )
    sigma = dataset.get("sigma")
    if not all(_is_number(s) and s > 0 for s in _listed(sigma)):
        raise InputError(
            "dataset.sigma", sigma, "must be positive", "give one positive number, or one per selected angle"
        )


def _check_sampling(settings: Mapping[str, Any]) -> None:
    """Priors by parameter, and sizes that are a number or left to the sampler."""
    for name, prior in settings["model"]["priors"].items():
        if not isinstance(prior, Mapping):
            raise InputError(
                f"model.priors.{name}", prior, "must be a group of keys", f"use model.priors.{name}.kind=normal"
            )
        check_node(prior, PriorConf, f"model.priors.{name}.")
    for key in ("shards", "max_points_per_shard"):
        value = settings["strategy"][key]
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not (value in (None, "auto") or whole):
            raise InputError(
                f"strategy.{key}", value, "is neither auto nor a positive whole number", "leave it out for auto"
            )


def _listed(value: Any) -> list[Any]:
    """A setting that is one value, a list of them, or null."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        path = f"{prefix}{name}"
        yield path, value
        yield from _walk(value, f"{path}.")
