"""An older configuration as settings of this package, with a note on every key: a pure function."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homodyne.cli.migration_parameters import migrate_parameters
from homodyne.cli.migration_rules import reason_for
from homodyne.cli.old_settings import Kind, Note, Old, finite
from homodyne.config.schema import SCALINGS, NlsqConf
from homodyne.errors import InputError

CONVENTIONS = ("homodyne-2", "physical")


@dataclasses.dataclass(frozen=True)
class Migration:
    """``choices``: option by Hydra group; ``settings``: nested deltas; ``notes``: what became of every key."""

    choices: dict[str, str]
    settings: dict[str, Any]
    notes: tuple[Note, ...]
    comments: int

    def of(self, kind: Kind) -> list[Note]:
        """The notes of one kind, in order."""
        return [note for note in self.notes if note.kind is kind]


def migrate(nested: Mapping[str, Any], folder: Path, convention: str | None = None) -> Migration:
    """Settings and notes.

    Args:
        nested: the older configuration. folder: where its file lies; relative data paths begin there.
        convention: of the shear term; by default ``homodyne-2`` for files of homodyne 2.x and xpcsjax, whose shear rates then
            stay comparable, and ``physical`` for older ones, whose expression is neither.

    Raises:
        InputError: a model that is not in this package, or a value that has no meaning.
    """
    old = Old.of(nested)
    if not old.leaves:
        raise InputError("config", list(nested), "holds no settings", "give the configuration of a fit")
    first_generation = old.below("optimization_config") or (
        old.below("analyzer_parameters.temporal") and "analysis_mode" not in old.leaves
    )
    chosen = convention or ("physical" if first_generation else "homodyne-2")
    settings: dict[str, Any] = {"model": {}, "dataset": {}, "optimization": {}}
    choices = {"model": _model(old)}
    _data(old, folder, settings["dataset"])
    _angles(old, settings["dataset"])
    migrate_parameters(old, choices["model"], first_generation, chosen, settings["model"])
    _solver(old, settings, choices)
    _rest(old)
    return Migration(choices, {k: v for k, v in settings.items() if v != {}}, tuple(old.notes), old.comments)


def _model(old: Old) -> str:
    key, mode = old.get("analysis_mode", "metadata.analysis_mode")
    static_key, static = old.get("analysis_settings.static_mode")
    if mode is None and static is not None:
        key, mode = static_key, "static" if static else "laminar_flow"
    if mode is None:
        raise InputError("analysis_mode", None, "is missing", "add analysis_mode: static or laminar_flow to the file")
    if mode not in ("static", "static_isotropic", "static_anisotropic", "laminar_flow"):
        raise InputError(
            key,
            mode,
            "has no model with the same parameters here",
            "model=heterodyne has a reference at rest and one fraction (docs/physics.md): give its parameters by hand",
        )
    name = "laminar_flow" if mode == "laminar_flow" else "static"
    old.note(Kind.MAPPED, key, f"model={name}")
    if mode == "static_isotropic":
        old.note(
            Kind.ATTENTION,
            key,
            "static_isotropic did not tell angles apart; here all selected angles are fitted together, each with its "
            "own contrast and offset: select with dataset.phi",
        )
    return name


def _data(old: Old, folder: Path, dataset: dict[str, Any]) -> None:
    key, path = old.get("experimental_data.file_path")
    name_key, name = old.get("experimental_data.data_file_name")
    place_key, place = old.get("experimental_data.data_folder_path")
    if path is None and name is not None:
        key, path = f"{place_key}, {name_key}" if place_key else name_key, str(Path(place or ".") / name)
    elif name_key or place_key:
        old.note(Kind.MAPPED, ", ".join(k for k in (place_key, name_key) if k), "file_path comes first")
    if path is None:
        old.note(Kind.ATTENTION, "experimental_data", "names no file: give dataset.path on the command line")
    elif "${" in (path := os.path.expandvars(path)):
        old.note(Kind.ATTENTION, key, f"{path} names a variable that is not set: give dataset.path on the command line")
    else:
        found = next((p for p in (Path(path), folder / path) if p.exists()), None)
        dataset["path"] = str(path if found is None else found)
        old.note(Kind.MAPPED, key, f"dataset.path={dataset['path']}")
        if found is None:
            old.note(Kind.ATTENTION, key, f"{path} is not found from here: set dataset.path")
    for target, unit, keys in (
        ("q", "1/angstrom", ("analyzer_parameters.scattering.wavevector_q", "analyzer_parameters.wavevector_q")),
        ("gap_angstrom", "angstrom", ("analyzer_parameters.geometry.stator_rotor_gap",)),
        ("dt", "s", ("analyzer_parameters.dt", "analyzer_parameters.temporal.dt")),
    ):
        key, value = old.get(*keys)
        if value is not None:
            dataset[target] = finite(key, value)
            old.note(Kind.MAPPED, key, f"dataset.{target}={dataset[target]:g} [{unit}]")
    if "dt" in dataset:
        old.note(
            Kind.ATTENTION, "dt", "the file's own dt counts here: one that differs is an error that names both values"
        )
    key, several = old.get("analyzer_parameters.scattering.wavevector_q_list")
    if several is not None:
        text = f"several q in one fit: dataset.q={list(several)}; with one q first, the fits can be compared"
        old.note(Kind.ATTENTION, key, text)
    _frames(old, dataset)


def _frames(old: Old, dataset: dict[str, Any]) -> None:
    first_key, first = old.get("analyzer_parameters.start_frame", "analyzer_parameters.temporal.start_frame")
    last_key, last = old.get("analyzer_parameters.end_frame", "analyzer_parameters.temporal.end_frame")
    step_key, step = old.get("analyzer_parameters.frame_step", "analyzer_parameters.temporal.frame_interval")
    unit_key, unit = old.get("analyzer_parameters.time_unit")
    if first is not None or last is not None:
        first = 1 if first is None else int(first)
        if last is not None and int(last) > 0:
            dataset["frames"] = [first, int(last)]
            old.note(Kind.MAPPED, f"{first_key or last_key}, {last_key}", f"dataset.frames=[{first}, {int(last)}]")
            old.note(
                Kind.ATTENTION,
                last_key,
                "frames are inclusive and counted from 1 in both; an end beyond the last frame of the file is an error "
                "here (homodyne-inspect tells how many there are)",
            )
        elif first == 1:
            old.note(Kind.MAPPED, last_key or first_key, "all frames are the default")
        else:
            text = f"frames from {first} to the last: set dataset.frames=[{first}, LAST] (homodyne-inspect tells LAST)"
            old.note(Kind.ATTENTION, first_key, text)
    if step not in (None, 1):
        text = "every frame is fitted here; for fewer, correlate with larger frame averages"
        old.note(Kind.ATTENTION, step_key, text)
    elif step_key:
        old.note(Kind.MAPPED, step_key, "every frame, as always here")
    if unit not in (None, "seconds", "s"):
        old.note(Kind.ATTENTION, unit_key, f"{unit}: dataset.dt is in seconds, convert it")
    elif unit_key:
        old.note(Kind.MAPPED, unit_key, "seconds, as always here")


def _angles(old: Old, dataset: dict[str, Any]) -> None:
    for group, name in (
        ("phi_filtering", "target_ranges"),
        ("optimization_config.angle_filtering", "target_ranges"),
        ("optimization.angle_filtering", "target_ranges"),
        ("optimization.angle_filtering", "target_angle_ranges"),
    ):
        switch, enabled = old.get(f"{group}.enabled")
        key, ranges = old.get(f"{group}.{name}")
        if ranges is None or (switch and not enabled):
            if switch and not any(n.key == switch for n in old.notes):
                old.note(Kind.MAPPED, switch, "all angles" if not enabled else "no ranges: all angles")
            if key:
                old.note(Kind.MAPPED, key, "switched off: all angles")
            continue
        if "phi" in dataset:
            old.note(Kind.ATTENTION, key, f"a second selection of angles; dataset.phi={dataset['phi']} was kept")
            continue
        dataset["phi"] = [[finite(key, r["min_angle"]), finite(key, r["max_angle"])] for r in ranges]
        old.note(Kind.MAPPED, key, f"dataset.phi={dataset['phi']} [degree]")
        if switch:
            old.note(Kind.MAPPED, switch, "dataset.phi is set")
        slack_key, slack = old.get(f"{group}.tolerance")
        old.note(
            Kind.ATTENTION,
            slack_key or key,
            f"ranges hold as written, without a slack of {slack or 0:g} degree at their edges, and each must match an angle",
        )


def _solver(old: Old, settings: dict[str, Any], choices: dict[str, str]) -> None:
    key, method = old.get("optimization.method")
    if method in ("nlsq", "auto"):
        old.note(Kind.MAPPED, key, "least squares, as always here")
    elif method in ("mcmc", "cmc"):
        choices["strategy"] = "nuts"
        old.note(
            Kind.MAPPED,
            key,
            "strategy=nuts: the posterior of all data, after the fit; strategy=cmc samples it by shards",
        )
    elif method is not None:
        old.note(Kind.ATTENTION, key, f"{method}: not known here, this is a least-squares fit")
    nlsq: dict[str, Any] = {}
    for name in ("memory_fraction", "memory_threshold_gb"):
        key, value = old.get(f"optimization.nlsq.{name}")
        if value is not None:
            nlsq[name] = finite(key, value)
            old.note(Kind.MAPPED, key, f"optimization.nlsq.{name}={value:g}")
    _scaling(old, settings["model"], nlsq)
    _search(old, choices)
    _loss(old, nlsq)
    key, kept = old.get("optimization.streaming.enable_checkpoints")
    if key:
        settings["optimization"]["checkpoint"] = bool(kept)
        old.note(Kind.MAPPED, key, f"optimization.checkpoint={str(bool(kept)).lower()}")
    key, drawn = old.get("plotting.save_plots")
    if key:
        settings["plots"] = drawn
        old.note(Kind.MAPPED, key, f"plots={str(bool(drawn)).lower()}")
    if nlsq:
        settings["optimization"]["nlsq"] = nlsq


def _loss(old: Old, nlsq: dict[str, Any]) -> None:
    key, loss = old.get("optimization.nlsq.loss")
    if loss is None:
        return
    known = [c for f in dataclasses.fields(NlsqConf) if f.name == "loss" for c in f.metadata["choices"]]
    if loss not in known:
        text = f"{loss} is not among {', '.join(known)}: plain least squares is fitted"
        old.note(Kind.ATTENTION, key, text)
        return
    nlsq["loss"] = loss
    old.note(Kind.MAPPED, key, f"optimization.nlsq.loss={loss}")
    if loss != "linear":
        text = (
            "at every size here, while homodyne 2.x applied it up to a million points only; residuals count less from "
            "optimization.nlsq.loss_scale on. Without outliers linear is better (docs/robust_loss.md)"
        )
        old.note(Kind.ATTENTION, key, text)


def _scaling(old: Old, model: dict[str, Any], nlsq: dict[str, Any]) -> None:
    group = "optimization.nlsq.anti_degeneracy"
    switch, enabled = old.get(f"{group}.enable")
    if switch:
        old.note(Kind.MAPPED, switch, "per_angle_mode holds" if enabled else "per_angle_mode does not hold")
    key, mode = old.get(f"{group}.per_angle_mode")
    if mode is not None and enabled is not False:
        scaling = {"averaged": "auto"}.get(mode, mode)
        if scaling not in SCALINGS:
            raise InputError(key, mode, "is no scaling of this package", f"choose one of {', '.join(SCALINGS)}")
        model["scaling"] = scaling
        old.note(Kind.MAPPED, key, f"model.scaling={scaling}")
        if scaling == "auto":
            old.note(
                Kind.ATTENTION,
                key,
                "one shared contrast and offset biases the parameters where sectors differ by 10 %; individual costs "
                "nothing here, and the log says when the data refute the shared pair",
            )
    elif old.below(group) or old.below("optimization.nlsq"):
        text = "model.scaling=individual, the default: each angle its own contrast and offset"
        old.note(Kind.MAPPED, key or f"{group}.per_angle_mode", text)
    key, order = old.get(f"{group}.fourier_order")
    if order is not None:
        nlsq["fourier_order"] = int(order)
        old.note(Kind.MAPPED, key, f"optimization.nlsq.fourier_order={int(order)}")
    key, least = old.get(f"{group}.constant_scaling_threshold")
    if least == 3:
        old.note(Kind.MAPPED, key, "3 angles, as here")
    elif least is not None:
        old.note(Kind.ATTENTION, key, f"auto shares one pair from 3 angles on here, not from {least}")


def _search(old: Old, choices: dict[str, str]) -> None:
    key, forced = old.get("performance.strategy_override")
    if forced == "streaming" and "strategy" not in choices:
        choices["strategy"] = "hybrid_streaming"
        old.note(Kind.MAPPED, key, "strategy=hybrid_streaming")
    elif forced is not None:
        old.note(Kind.ATTENTION, key, f"{forced}: strategy=auto chooses by points and memory, with the same result")
    for name, wanted in (("cmaes", "cmaes_nlsq"), ("multi_start", "multistart")):
        key, on = old.get(f"optimization.nlsq.{name}.enable")
        if on and choices.get("strategy") in (None, "hybrid_streaming"):
            choices["strategy"] = wanted
            old.note(Kind.MAPPED, key, f"strategy={wanted}; the default searches as well, and is faster")
        elif on:
            old.note(Kind.ATTENTION, key, f"a second search beside strategy={choices['strategy']}, which was kept")
        elif key:
            old.note(Kind.MAPPED, key, "off; without start values the start is searched for all the same")


def _rest(old: Old) -> None:
    """Whatever was not read: with a reason, by prefix; or unknown."""
    counted: dict[str, tuple[int, str]] = {}
    for key in (k for k in old.leaves if k not in old.read):
        found = reason_for(key)
        if found is None:
            value = old.leaves[key]
            old.note(Kind.UNKNOWN, key, f"{value!r}: no key of homodyne 2.x that is known here; not converted")
            continue
        prefix, reason = found
        counted[prefix] = (counted.get(prefix, (0, ""))[0] + 1, reason)
    for prefix, (n, reason) in counted.items():
        where = prefix if prefix in old.leaves else f"{prefix}.* ({n} key{'s' if n > 1 else ''})"
        old.note(Kind.DROPPED, where, reason)
