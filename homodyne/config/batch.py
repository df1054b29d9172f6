"""Many files, one fit each: what ``+experiment=batch`` sweeps over, and which of them are done."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from homodyne.config.posterior import SAMPLERS
from homodyne.errors import InputError

#: Settings that change a result; a fit with others is another fit.
DECIDING = ("model", "dataset", "strategy", "optimization")


def swept_files(*, _root_: DictConfig) -> str:
    """The resolver ``batch_files``: values of ``dataset.path`` as the sweeper reads them, in the order of their names.

    Raises:
        InputError: no pattern, a pattern that finds nothing, ``dataset.path`` given beside it.
    """
    from homodyne.data.repetitions import files_of

    pattern = _root_.dataset.get("glob")
    if pattern is None:
        raise InputError("dataset.glob", None, "is missing", "set dataset.glob='/data/*.hdf'")
    given = _root_.dataset.get("path")
    if given is not None:
        raise InputError("dataset.path", given, "is what a batch chooses", "set dataset.glob only")
    files = [path.absolute() for path in files_of(pattern)]
    return ",".join(quoted(str(path)) for path in files)


def quoted(text: str) -> str:
    """``text`` as one value of Hydra's grammar, whatever it holds."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"


def batch_name(*, _root_: DictConfig) -> str:
    """The resolver ``batch_name``: folder of the batch below outputs/batch; by default after the pattern."""
    from homodyne.config.schema import folder_name

    chosen, pattern = _root_.batch.name, str(_root_.dataset.get("glob"))
    stem = folder_name(Path(pattern).name.replace("*", "_").replace("?", "_"), 40)
    return folder_name(chosen) if chosen else f"{stem}-{_short(str(Path(pattern).absolute()))}"


def file_folder(path: Any, overrides: str) -> str:
    """The resolver ``file_folder``: name of a file's folder in the batch, another one for other settings."""
    from homodyne.config.schema import folder_name

    return f"{folder_name(Path(str(path)).name, 60)}-{_short(f'{path} {overrides}')}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def is_batch(settings: Mapping[str, Any]) -> bool:
    """Whether this fit is one of a batch."""
    return settings["dataset"].get("glob") is not None


def require_batch(settings: Mapping[str, Any]) -> None:
    """``dataset.glob`` belongs to a batch.

    Raises:
        InputError: it is given to a single fit.
    """
    if is_batch(settings) and HydraConfig.get().mode is not RunMode.MULTIRUN:
        raise InputError(
            "dataset.glob", settings["dataset"]["glob"], "is for a batch of fits, one a file",
            "add +experiment=batch; for one fit of several files give dataset.path a pattern",
        )  # fmt: skip


def is_done(run_dir: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the folder holds a finished fit with these settings of the file as it is now."""
    result, stored = run_dir / "result.nc", run_dir / "config.yaml"
    if not (result.is_file() and stored.is_file()):
        return False
    if settings["strategy"]["name"] in SAMPLERS and not (run_dir / "posterior.nc").is_file():
        return False
    before = yaml.safe_load(stored.read_text(encoding="utf-8"))
    if any(before.get(group) != settings[group] for group in DECIDING):
        return False
    data = Path(settings["dataset"]["path"])
    return not data.exists() or data.stat().st_mtime <= result.stat().st_mtime
