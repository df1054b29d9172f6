"""Opening a dataset again in another process: from plain data, never from an open file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from homodyne.errors import InputError

if TYPE_CHECKING:
    from homodyne.data.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a dataset was made from files.

    Attributes:
        arguments: of ``Dataset.open``, with absolute paths.
        sectors: positions of the sectors that were picked from it, None for all. repetition: which one of several, None
            for their mean.
    """

    arguments: Mapping[str, Any]
    sectors: tuple[int, ...] | None = None
    repetition: int | None = None

    @classmethod
    def of(cls, path: Any, arguments: Mapping[str, Any]) -> Recipe:
        """The recipe of ``Dataset.open(path, **arguments)``."""
        several = not isinstance(path, str | os.PathLike)
        where = [os.path.abspath(p) for p in path] if several else os.path.abspath(path)
        return cls({**arguments, "path": where})

    def picked(self, sectors: Sequence[int]) -> Recipe:
        """The recipe of some sectors."""
        before = self.sectors
        return dataclasses.replace(self, sectors=tuple(k if before is None else before[k] for k in sectors))

    def make(self) -> Dataset:
        """Open the files, pick repetition and sectors."""
        from homodyne.data.dataset import Dataset

        dataset = Dataset.open(**self.arguments)
        if self.sectors is not None:
            dataset = dataset.sectors(self.sectors)
        return dataset


def opener(dataset: Dataset) -> Callable[[], Dataset]:
    """A function of no arguments that opens the same data in another process, which sees the same files.

    It holds plain data: the recipe, sigma, the frames without counts that are known by now, and a hash of the metadata, by
    which files that differ from those here are refused.

    Raises:
        InputError: the data are in memory.
    """
    if dataset.recipe is None:
        raise InputError(
            "dataset", dataset.engine, "is in the memory of this process, where no other one can read it",
            "write it with dataset.to_netcdf(FILE) and open FILE",
        )  # fmt: skip
    sigma = dataset.sigma_given if isinstance(dataset.sigma_given, np.ndarray) else None
    if dataset.sigma_given is None:
        sigma = np.asarray(dataset.sigma)
    dead = {int(k): frames.tolist() for k, frames in dataset.known_dead_frames.items()}
    return partial(_open_again, dataset.recipe, sigma, dead, dataset.fingerprint()["metadata_sha256"])


def _open_again(recipe: Recipe, sigma: np.ndarray | None, dead: Mapping[int, list[int]], expected: str) -> Dataset:
    dataset = recipe.make()
    if dataset.fingerprint()["metadata_sha256"] != expected:
        raise InputError(
            "dataset.path", str(dataset.path), "is another file here than where the fit was started",
            "let all workers see the same files under the same path",
        )  # fmt: skip
    if sigma is not None:
        dataset = dataclasses.replace(dataset, sigma_given=sigma)
    dataset.known_dead_frames.update({k: np.array(frames, dtype=int) for k, frames in dead.items()})
    if recipe.repetition is None:
        return dataset
    return dataset.repetitions()[recipe.repetition]
