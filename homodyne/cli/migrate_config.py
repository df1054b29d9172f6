"""``homodyne-migrate-config OLD -o NEW.yaml``: settings of this package from a configuration of homodyne 2.x or xpcsjax (YAML)
or of homodyne-analysis (JSON), and a report on every key: mapped, without counterpart, unknown, or in need of attention.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from homodyne.cli.migration import CONVENTIONS, Migration, migrate
from homodyne.cli.old_settings import Kind
from homodyne.errors import InputError
from homodyne.files import write_whole

_ORDER = (Kind.ATTENTION, Kind.UNKNOWN, Kind.MAPPED, Kind.DROPPED)
_TITLES = {
    Kind.ATTENTION: "Needs your attention",
    Kind.UNKNOWN: "Unknown keys, not converted",
    Kind.MAPPED: "Converted",
    Kind.DROPPED: "Without counterpart",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; exit code 1 and a message on stderr for a file that cannot be converted, nothing half-written."""
    args = _parser().parse_args(argv)
    old, new = Path(args.old), None if args.output is None else Path(args.output)
    try:
        if new is not None:
            _check_target(new, old, args.overwrite)
        migration = migrate(read(old), old.parent, args.convention)
        text = overlay(migration, old.name)
        validate_overlay(text)
        if new is not None:
            write_whole(new, text)
    except InputError as error:
        print(f"homodyne-migrate-config: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"homodyne-migrate-config: {new} could not be written: {error}", file=sys.stderr)
        return 1
    # without -o the settings are the output, so that they can be piped; the report then goes beside them
    print("\n".join(report(migration, old, new)), file=sys.stderr if new is None else sys.stdout)
    if new is None:
        print(text, end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="homodyne-migrate-config", description=__doc__)
    parser.add_argument("old", metavar="OLD", help="YAML or JSON file")
    parser.add_argument("-o", "--output", metavar="NEW.yaml", help="where the settings go; printed by default")
    parser.add_argument(
        "--convention",
        choices=CONVENTIONS,
        help="of the shear term; default: homodyne-2 for files of homodyne 2.x, so that shear rates stay comparable. "
        "physical converts start values, fixed values and bounds of shear rates",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace NEW.yaml if it exists")
    return parser


def read(path: Path) -> Mapping[str, Any]:
    """The older configuration as nested mappings.

    Raises:
        InputError: missing, unreadable, or no mapping.
    """
    if not path.is_file():
        raise InputError("OLD", str(path), "does not exist", "check the path and its spelling")
    try:
        text = path.read_text(encoding="utf-8")
        loaded = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError("OLD", str(path), f"cannot be read: {reason}", "correct the line it names") from error
    if not isinstance(loaded, Mapping):
        raise InputError("OLD", str(path), "holds no mapping", "give the configuration of a fit")
    return loaded


def _check_target(new: Path, old: Path, overwrite: bool) -> None:
    if new.suffix != ".yaml" or new.stem == "config":
        raise InputError("NEW", str(new), "is no name for settings", "end it in .yaml, and do not call it config.yaml")
    if not new.parent.is_dir():
        raise InputError("NEW", str(new), "lies in a folder that does not exist", f"create {new.parent}")
    if new.exists() and new.samefile(old):
        raise InputError("NEW", str(new), "is the older file", "give another name")
    if new.exists() and not overwrite:
        raise InputError("NEW", str(new), "exists", "give another name or --overwrite")


def overlay(migration: Migration, source: str) -> str:
    """The settings as YAML: config.yaml of this package with what differs from it."""
    lines = [f"# From {source}, by homodyne-migrate-config. Every key: homodyne/config/schema.py."]
    for note in migration.of(Kind.ATTENTION):
        lines += textwrap.wrap(f"{note.key}: {note.text}", 110, initial_indent="# ! ", subsequent_indent="#   ")
    defaults = ["config", *({f"override {group}": option} for group, option in migration.choices.items()), "_self_"]
    body = yaml.safe_dump({"defaults": defaults}, sort_keys=False, allow_unicode=True)
    settings = yaml.safe_dump(migration.settings, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return "\n".join(lines) + "\n" + body + "\n" + settings


def validate_overlay(text: str) -> None:
    """Compose the settings as the training command does, and check them, the names and bounds of parameters included.

    Raises:
        InputError: a value that cannot be used.
    """
    from hydra import compose, initialize_config_dir

    from homodyne.config import schema
    from homodyne.config.build import build_model
    from homodyne.config.explain import COMPOSITION_ERRORS, explain
    from homodyne.config.paths import conf_dir
    from homodyne.config.validate import validate

    schema.register()
    given = [] if "path" in (yaml.safe_load(text).get("dataset") or {}) else ["dataset.path=given_later"]
    with tempfile.TemporaryDirectory(prefix="homodyne-") as folder:
        (Path(folder) / "migrated.yaml").write_text(text, encoding="utf-8")
        try:
            with initialize_config_dir(folder, version_base="1.3"):
                composed = compose("migrated", [f"hydra.searchpath=[file://{conf_dir()}]", *given])
        except COMPOSITION_ERRORS as error:
            raise explain(error) from error
    build_model(validate(composed))


def report(migration: Migration, old: Path, new: Path | None) -> list[str]:
    """What became of every key, the most urgent first, and the command that uses the settings."""
    lines = [f"{old}: {', '.join(f'{len(migration.of(kind))} {kind.value}' for kind in _ORDER)}"]
    if migration.comments:
        lines[0] += f", {migration.comments} comments"
    for kind in _ORDER:
        if notes := migration.of(kind):
            lines += ["", _TITLES[kind]]
        keys: dict[str, list[str]] = {}
        for note in notes:
            keys.setdefault(note.text, []).append(note.key)
        for text, named in keys.items():
            lines += textwrap.wrap(
                f"{', '.join(named)}: {text}", 118, initial_indent="  ", subsequent_indent="      ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    if new is not None:
        folder = new.parent if str(new.parent) else Path(".")
        lines += ["", f"written: {new}", "next:"]
        lines.append(f"  python -m homodyne.train --config-dir {folder} --config-name {new.stem}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
