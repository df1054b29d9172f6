"""Composition as the command does it, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from homodyne.config import schema
from homodyne.config.paths import conf_dir


@pytest.fixture
def composed() -> Iterator[Callable[..., DictConfig]]:
    """Compose config.yaml of the checkout with overrides."""
    schema.register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield lambda *overrides: compose("config", overrides=list(overrides))
