"""Run folders as train leaves them, and the store of a test session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.factories import make_fit_result

SETTINGS = {
    "model": {"_target_": "homodyne.models.get_model", "name": "laminar_flow", "scaling": "individual", "start": {}},
    "dataset": {"path": "/data/run42_results.hdf", "q": 0.0054, "phi": [0, [80, -80]]},
    "tracking": {"_target_": "homodyne.tracking.MlflowTracker", "uri": None, "experiment_name": "shear"},
}


@pytest.fixture
def run_folder() -> Callable[..., Path]:
    """Make the folder of a finished run; keywords replace fields of the result."""

    def make(folder: Path, **replaced: Any) -> Path:
        (folder / "figures").mkdir(parents=True)
        make_fit_result(**replaced).save(folder / "result.nc")
        (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
        (folder / "fit.log").write_text("2026-11-24 03:00:00 [INFO] Strategy: stratified_ls\n")
        (folder / "figures" / "memory.png").write_bytes(b"\x89PNG")
        return folder

    return make
