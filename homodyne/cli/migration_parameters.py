"""Start values, fixed values and bounds of an older configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from homodyne.cli.migration_rules import PARAMETER_NAMES, SHEAR_RATES
from homodyne.cli.old_settings import Kind, Old, finite
from homodyne.errors import InputError

#: Physical shear rate over that of homodyne 2.x, and over that of homodyne-analysis 1.x, for small shear (docs/physics.md).
FROM_HOMODYNE_2, FROM_FIRST_GENERATION = math.sqrt(2) / math.pi, math.sqrt(2)
_KEPT = "kept as it is, with model.convention=homodyne-2, so that numbers stay comparable"


def migrate_parameters(
    old: Old, model_name: str, first_generation: bool, convention: str, model: dict[str, Any]
) -> None:
    """Fill ``model`` (convention, start, fixed, bounds) and add notes.

    Raises:
        InputError: lists of different lengths, bounds without min or max, a value that is not a number.
    """
    from homodyne.models import get_model

    known = {p.name: p for p in get_model(model_name).parameters}
    flow = model_name == "laminar_flow"
    if flow:
        model["convention"] = convention
    values, fixed = _values(old)
    bounds = _bounds(old)
    foreign = [n for n in (*values, *fixed, *bounds) if n not in known and n not in ("contrast", "offset")]
    for name in dict.fromkeys(foreign):
        old.note(Kind.DROPPED, f"parameter {name}", f"is not a parameter of {model_name}")
    for group in (values, fixed, bounds):
        for name in [n for n in group if n not in known]:
            del group[name]
    if flow:
        _shear(old, convention, first_generation, (values, fixed, bounds))
    limits = {n: bounds.get(n, [p.lower, p.upper]) for n, p in known.items()}
    for name in [n for n, v in values.items() if not limits[n][0] <= v <= limits[n][1]]:
        text = (
            f"start {values.pop(name):g} lies outside the bounds {limits[name]}; it is left out and found from the data"
        )
        old.note(Kind.ATTENTION, f"initial_parameters.values: {name}", text)
    for name, value in fixed.items():
        if not limits[name][0] <= value <= limits[name][1]:
            bounds[name] = [min(limits[name][0], value), max(limits[name][1], value)]
            text = f"fixed at {value:g}, outside the bounds {limits[name]}, which were widened"
            old.note(Kind.ATTENTION, f"initial_parameters.fixed_parameters: {name}", text)
    model |= {k: v for k, v in (("start", values), ("fixed", fixed), ("bounds", bounds)) if v}


def _values(old: Old) -> tuple[dict[str, float], dict[str, float]]:
    """Start and fixed values by our names."""
    group = "initial_parameters"
    names_key, names = old.get(f"{group}.parameter_names")
    values_key, values = old.get(f"{group}.values")
    active_key, active = old.get(f"{group}.active_parameters")
    start: dict[str, float] = {}
    if values is not None:
        if names is None or len(names) < len(values):
            raise InputError(values_key, values, "has more values than parameter_names", "give one value per name")
        start = {_ours(n): finite(values_key, v) for n, v in zip(names, values, strict=False)}
        old.note(Kind.MAPPED, values_key, f"model.start: {_listed(start)}")
    elif f"{group}.values" in old.leaves:
        text = "none given: the start is found from the data, not from the middle of the bounds"
        old.note(Kind.MAPPED, f"{group}.values", text)
    if names_key:
        old.note(Kind.MAPPED, names_key, "values go by name")
    fixed = _fixed(old)
    if active is not None:
        held = [n for n in (_ours(m) for m in names or ()) if n not in {_ours(a) for a in active} and n not in fixed]
        old.note(Kind.MAPPED, active_key, "the others are fixed" if held else "all are fitted")
        for name in held:
            if name in start:
                fixed[name] = start[name]
                old.note(Kind.MAPPED, f"{active_key}: {name}", f"not listed: model.fixed.{name}={start[name]:g}")
            else:
                old.note(Kind.ATTENTION, f"{active_key}: {name}", "not listed and without a value: set model.fixed")
    return {n: v for n, v in start.items() if n not in fixed}, fixed


def _fixed(old: Old) -> dict[str, float]:
    prefix = "initial_parameters.fixed_parameters."
    old.get(prefix[:-1])
    fixed = {}
    for key in [k for k in old.leaves if k.startswith(prefix)]:
        _, value = old.get(key)
        if value is None:
            continue
        name = _ours(key.removeprefix(prefix))
        fixed[name] = finite(key, value)
        old.note(Kind.MAPPED, key, f"model.fixed.{name}={fixed[name]:g}")
    return fixed


def _bounds(old: Old) -> dict[str, list[float]]:
    key, listed = old.get("parameter_space.bounds")
    bounds: dict[str, list[float]] = {}
    sampled = False
    for entry in listed or ():
        if not isinstance(entry, Mapping) or not {"name", "min", "max"} <= set(entry):
            raise InputError(key, entry, "has no name, min and max", "correct it in the older file")
        sampled |= any(str(k).startswith("prior") for k in entry)
        bounds[_ours(str(entry["name"]))] = [finite(key, entry["min"]), finite(key, entry["max"])]
    if bounds:
        shown = ", ".join(f"{n} [{a:g}, {b:g}]" for n, (a, b) in bounds.items() if n not in ("contrast", "offset"))
        old.note(Kind.MAPPED, key, f"model.bounds: {shown}")
    if {"contrast", "offset"} & set(bounds):
        old.note(Kind.DROPPED, f"{key}: contrast, offset", "linear: computed at every step, without bounds")
    if sampled:
        old.note(Kind.DROPPED, f"{key}: type, prior_*", "there are no priors in a least-squares fit")
    return bounds


def _shear(old: Old, convention: str, first_generation: bool, groups: tuple[dict, dict, dict]) -> None:
    """Shear rates in the chosen convention, in place."""
    where = ", ".join(n for n in SHEAR_RATES if any(n in group for group in groups)) or "shear rates"
    if convention == "homodyne-2":
        text = _KEPT + "; physical rates are 2.2 to 2.3 times smaller"
        if first_generation:
            text = "homodyne-analysis evaluates another expression than homodyne 2.x: choose --convention physical"
        old.note(Kind.ATTENTION, where, text)
        return
    factor = FROM_FIRST_GENERATION if first_generation else FROM_HOMODYNE_2
    for group in groups:
        for name in [n for n in SHEAR_RATES if n in group]:
            value = group[name]
            group[name] = [factor * v for v in value] if isinstance(value, list) else factor * value
    source = "homodyne-analysis" if first_generation else "homodyne 2.x"
    text = f"multiplied by {factor:.4g}, as a shear rate of {source} is not the physical one (docs/physics.md); refit"
    old.note(Kind.ATTENTION, where, text)


def _ours(name: str) -> str:
    return PARAMETER_NAMES.get(name, name)


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{n}={v:g}" for n, v in values.items())
