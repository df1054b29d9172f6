"""The complaints of Hydra, OmegaConf and YAML as the one message form of this package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from homodyne.config.nearest import nearest_key, suggestion
from homodyne.config.validate import known_keys
from homodyne.errors import InputError

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, YAMLError)
HELP = "python -m homodyne.train --help lists the keys"


def explain(error: Exception, overrides: Sequence[str] = ()) -> InputError:
    """The same error, naming the key, the value and the remedy.

    Args:
        error: one of ``COMPOSITION_ERRORS``.
        overrides: the command line, to quote the value that was given.
    """
    if isinstance(error, YAMLError):
        return InputError("config file", _one_line(str(error)), "is not valid YAML", "correct the line it names")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_file(error)
    if isinstance(error, OverrideParseException):
        return InputError(
            "command line", error.override, "cannot be read", "write key=value; quote lists and spaces for the shell"
        )
    of_resolver = _of_resolver(error)
    if of_resolver is not None:
        return of_resolver
    for cause in _causes(error):
        if isinstance(cause, OmegaConfBaseException) and (cause.full_key or cause.key):
            return _key(error, str(cause.full_key or cause.key), str(cause.msg or cause), overrides)
    named = re.search(r"full_key: (\S+)", str(error))
    return _key(error, named.group(1), str(error), overrides) if named else _other(str(error), overrides)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _of_resolver(error: BaseException | None) -> InputError | None:
    """What a resolver of this package found; OmegaConf raises its own error in its place."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def _missing_file(error: MissingConfigException) -> InputError:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if not error.options:
        return InputError("config", error.missing_cfg_file, "is not found", "check --config-dir and --config-name")
    return InputError(group or "config", option, "is not found", suggestion(option, error.options))


def _key(error: Exception, key: str, text: str, overrides: Sequence[str]) -> InputError:
    reason = next((line.strip() for line in text.splitlines() if "'" in line and "raised while" not in line), text)
    files = [f for c in _causes(error) for f in re.findall(r"In '([^']+)'", str(c)) if f != "config"]
    where = f" (in {files[0]})" if files else ""
    if re.search(r"not in '|not in struct", reason):
        return _unknown(key, _given(key, overrides), where)
    value = re.search(r"Value '(.*?)'", reason)
    given = value.group(1) if value else _given(key, overrides)
    return InputError(
        key, given, f"cannot be used{where}: {reason.rstrip('.')}", f"give {key} a value of the right type"
    )


def _unknown(key: str, given: str, where: str = "") -> InputError:
    known = known_keys()
    if key == "experiment":
        return InputError(key, given, "needs a leading + (it adds settings)", f"write +experiment={given}")
    if key in known:
        return InputError(
            key, given, f"is not a key of the chosen {key.partition('.')[0]}{where}", "leave it out, or choose another"
        )
    close = nearest_key(key, known)
    return InputError(key, given, f"is not a known key{where}", f"did you mean {close}?" if close else HELP)


def _given(key: str, overrides: Sequence[str]) -> str:
    """The value that the command line gives to ``key``; an ellipsis where it came from a file."""
    pairs = [override.lstrip("+~").partition("=")[::2] for override in overrides if "=" in override]
    exact = [value for name, value in pairs if name == key]
    inside = [
        value for name, value in pairs if name.startswith(f"{key}.") or (key.startswith(f"{name}.") and "{" in value)
    ]
    return next(iter(exact + inside), "...")


def _other(text: str, overrides: Sequence[str]) -> InputError:
    group = re.search(r"Could not override '([^'@]+)'", text)
    if group:
        return _unknown(group.group(1), _given(group.group(1), overrides))
    return InputError("config", _one_line(text), "cannot be composed", HELP)


def _one_line(text: str, lines: int = 4) -> str:
    return " ".join(line.strip() for line in text.splitlines()[:lines] if line.strip())
