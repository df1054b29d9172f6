"""The folder of one run, as every tracker reads it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from homodyne.errors import InputError
from homodyne.files import write_whole
from homodyne.result import FitResult
from homodyne.result.posterior import Posterior

RESULT, CONFIG, LOG, FIGURES, RECORDED = "result.nc", "config.yaml", "fit.log", "figures", "recorded.json"
# Where a sampler was chosen and ended.
POSTERIOR = "posterior.nc"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A finished run on disk.

    Attributes:
        path: the folder; settings: its config.yaml; result: its result.nc; posterior: its posterior.nc, None without one.
        sweep: the folder of the sweep that the run belongs to, or None.
    """

    path: Path
    settings: Mapping[str, Any]
    result: FitResult
    sweep: Path | None
    posterior: Posterior | None = None

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Read a run's folder.

        Raises:
            InputError: not the folder of a finished run.
        """
        for name in (RESULT, CONFIG):
            if not (path / name).is_file():
                raise InputError(
                    "run folder",
                    str(path),
                    f"holds no {name}",
                    "give the folder of a finished fit, e.g. outputs/runs/...",
                )
        settings = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
        # the sweeper leaves this file in the folder above its jobs
        sweep = path.parent if (path.parent / "multirun.yaml").is_file() else None
        posterior = Posterior.load(path / POSTERIOR) if (path / POSTERIOR).is_file() else None
        return cls(path, settings, FitResult.load(path / RESULT), sweep, posterior)

    def artifacts(self) -> list[tuple[Path, str | None]]:
        """Files to keep with the record, with their folder in the store."""
        top = [(self.path / name, None) for name in (CONFIG, RESULT, POSTERIOR, LOG) if (self.path / name).is_file()]
        return [*top, *((figure, FIGURES) for figure in sorted((self.path / FIGURES).glob("*.png")))]

    def overrides(self) -> list[str]:
        """The command-line overrides of the run."""
        target = self.path / ".hydra" / "overrides.yaml"
        return list(yaml.safe_load(target.read_text(encoding="utf-8")) or []) if target.is_file() else []

    def swept(self) -> list[str]:
        """The overrides that tell this job from the others of its sweep."""
        if self.sweep is None:
            return []
        whole = yaml.safe_load((self.sweep / "multirun.yaml").read_text(encoding="utf-8")) or {}
        given = whole.get("hydra", {}).get("overrides", {}).get("task", [])
        # a job's overrides are written anew, without spaces: {a: 1} of the command is {a:1} there, 1e4 is 10000.0
        known = {re.sub(r"\s", "", override) for override in given}
        single = {
            key for key, _, value in (override.partition("=") for override in given) if not re.search(r"[,(]", value)
        }
        return [
            override
            for override in self.overrides()
            if re.sub(r"\s", "", override) not in known and override.partition("=")[0] not in single
        ]

    def recorded(self) -> dict[str, str] | None:
        """Where the run was recorded before, None if nowhere."""
        target = self.path / RECORDED
        return json.loads(target.read_text(encoding="utf-8")) if target.is_file() else None

    def mark_recorded(self, uri: str, run_id: str) -> None:
        """Remember where the run was recorded."""
        write_whole(self.path / RECORDED, json.dumps({"uri": uri, "run_id": run_id}))
