"""Windows of frames, one fit each: what ``+experiment=window_scan`` sweeps over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from homodyne.config.build import build_dataset
from homodyne.config.validate import REMEDIES, check_targets
from homodyne.errors import InputError

#: Fewer frames hold no decay.
SHORTEST = 8


def frame_windows(first: int, last: int, count: int, overlap: float = 0.0) -> list[tuple[int, int]]:
    """``count`` windows [a, b] (inclusive, counted from 1) of one length, evenly from ``first`` to ``last``.

    N frames hold windows of L = N / (1 + (count - 1) (1 - overlap)) frames, rounded down; neighbors share the part
    ``overlap`` of a window, to a frame. Without overlap a few frames may lie between windows, none in two.

    Raises:
        InputError: an overlap outside [0, 1), a range that ends before it begins, or windows that are too short.
    """
    if not 0.0 <= overlap < 1.0:
        raise InputError("windows.overlap", overlap, "must be at least 0 and below 1", "set it to 0.5, say")
    if not 1 <= first < last:
        raise InputError("windows.first", first, f"does not lie below windows.last={last}", "frames count from 1")
    n = last - first + 1
    # tenths of a frame that floating point loses must not shorten the windows
    length = int(n / (1.0 + (count - 1) * (1.0 - overlap)) + 1e-9)
    if length < SHORTEST:
        raise InputError(
            "windows.count",
            count,
            f"leaves {length} of {n} frames to a window",
            f"choose windows of {SHORTEST} or more",
        )
    starts = [first + round(i * (n - length) / max(1, count - 1)) for i in range(count)]
    return [(start, start + length - 1) for start in starts]


def swept_frames(*, _root_: DictConfig) -> str:
    """The resolver ``frame_windows``: values of ``dataset.frames`` as the sweeper reads them, ``[1,300],[301,600]``.

    Without ``windows.last`` the number of frames is read from the file.

    Raises:
        InputError: see ``frame_windows``; ``dataset.frames`` is one range already; the file cannot be used.
    """
    chosen = _root_.windows
    if chosen.count is None:
        return "null"
    if _root_.dataset.get("frames") is not None:
        raise InputError(
            "dataset.frames", list(_root_.dataset.frames), "is what a window scan chooses",
            "set windows.first and windows.last for a part of the frames, or list windows: dataset.frames='[1,300],[301,600]'",
        )  # fmt: skip
    last = chosen.last if chosen.last is not None else _frames_in(_root_.dataset)
    first = 1 if chosen.first is None else chosen.first
    return ",".join(f"[{a},{b}]" for a, b in frame_windows(first, last, chosen.count, chosen.overlap))


def _frames_in(dataset: DictConfig) -> int:
    missing = sorted(OmegaConf.missing_keys(dataset))
    if missing:
        key = f"dataset.{missing[0].removeprefix('dataset.')}"
        raise InputError(key, None, "is missing", REMEDIES.get(key, f"set {key}=..."))
    settings = {"dataset": cast(dict[str, Any], OmegaConf.to_container(dataset, resolve=True))}
    check_targets(settings)
    return int(build_dataset(settings).n_t)


def require_window(settings: Mapping[str, Any]) -> None:
    """Nothing but the jobs of a sweep may be fits of a window scan.

    Raises:
        InputError: a scan that is no sweep, or without windows: it would be one fit of all frames.
    """
    count = settings["windows"]["count"]
    if count is None or (HydraConfig.get().mode is RunMode.MULTIRUN and settings["dataset"].get("frames") is not None):
        return
    raise InputError(
        "windows.count", count, "is a sweep of several fits",
        "start with -m: python -m homodyne.train -m +experiment=window_scan ...",
    )  # fmt: skip
