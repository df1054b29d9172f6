"""The checkpoint of a fit: a journal of its finished passes, from which a killed fit is resumed.

The loop that minimizes is deterministic: what it does next depends only on the sums that its passes returned. So the
journal holds no state of the loop, but the sums of every finished pass over all points, with the parameters they belong
to. A resumed fit runs the same loop from the same beginning and is given the stored sums instead of reading the data,
as long as it asks for exactly those parameters; then it reads on. It ends with the same bits as a fit without a break.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from homodyne.errors import InputError
from homodyne.files import write_whole
from homodyne.optimization.nlsq.progress import duration
from homodyne.optimization.normal import PassSums
from homodyne.optimization.search.base import Optimum
from homodyne.optimization.trust_region import Info

log = logging.getLogger("homodyne")

PassFunction = Callable[[np.ndarray, np.ndarray], PassSums]
# What reading a file raises that is cut off, damaged, or none of ours.
_DAMAGED = (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True)
class Contender:
    """An optimum of the subset from which passes over all points begin.

    Attributes:
        start: (p,), as the search found it or the user gave it. origin: how, in words.
        theta: (p,), where the warm-up ended. scaling: contrast and offset there, (n_phi, 2).
    """

    start: np.ndarray
    origin: str
    theta: np.ndarray
    scaling: np.ndarray


@dataclasses.dataclass(frozen=True)
class Beginning:
    """What the passes over all points begin with.

    Attributes:
        contenders: best first; more than one where the subset does not decide between optima.
        found: all local optima of the subset, for the record; points: of the subset that are valid.
        passes: the warm-up's own passes, for the record.
    """

    contenders: tuple[Contender, ...]
    found: tuple[Optimum, ...]
    points: int
    passes: tuple[Info, ...]


@dataclasses.dataclass(frozen=True)
class Pass:
    """A finished pass over all points: where, what it returned, and how long it took."""

    theta: np.ndarray
    sums: PassSums
    seconds: float


_CONTENDER, _FOUND = ("start", "origin", "theta", "scaling"), ("theta", "cost", "origin")


class Journal:
    """Finished passes of one fit, in memory and, with a ``path``, in a file.

    Args:
        path: the file, or None for a fit without a checkpoint.
        request: what the fit is, see ``identity``; a file of another one is not used.

    Raises:
        InputError: the file is damaged.
    """

    def __init__(self, path: Path | None = None, request: str = "") -> None:
        self._path, self._request = path, request
        self._beginning: Beginning | None = None
        self._passes: list[Pass] = []
        self._next = 0
        self.replayed: Pass | None = None  # the pass that was last asked for, where it was in the file
        if path is not None and path.exists():
            self._read(path)

    def begin(self, find: Callable[[], Beginning]) -> Beginning:
        """The stored beginning, or what ``find`` returns, which is then stored."""
        if self._beginning is None:
            self._beginning = find()
            self._write()
        return self._beginning

    def recorded(self, run_pass: PassFunction) -> PassFunction:
        """The same passes; those in the file are not run again, the others are stored as soon as they are finished."""

        def run(theta: np.ndarray, reference: np.ndarray) -> PassSums:
            self.replayed = self._find(theta, reference)
            if self.replayed is None:
                began = time.perf_counter()
                sums = run_pass(theta, reference)
                self._passes.append(Pass(theta.copy(), sums, time.perf_counter() - began))
                self._write()
            self._next += 1
            return self._passes[self._next - 1].sums

        return run

    def keep(self) -> None:
        """The fit was interrupted: say how to go on."""
        if self._path is None:
            log.warning(
                "Interrupted after pass %d; what follows is the best result so far. "
                "With optimization.checkpoint=true (homodyne.fit: checkpoint=FOLDER) a fit can be resumed", self._next,
            )  # fmt: skip
        else:
            log.warning(
                "Interrupted after pass %d; what follows is the best result so far. "
                "The same command with optimization.checkpoint=true goes on from there", self._next,
            )  # fmt: skip

    def remove(self) -> None:
        """The fit has its result: the file has done its duty."""
        try:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("Checkpoint: %s could not be deleted (%s)", self._path, error.strerror)

    def _find(self, theta: np.ndarray, reference: np.ndarray) -> Pass | None:
        """The next stored pass, if it is the one asked for, to the last bit; otherwise the stored rest is dropped."""
        if self._next == len(self._passes):
            return None
        stored = self._passes[self._next]
        if _same(stored.theta, theta) and _same(stored.sums.reference, reference):
            return stored
        log.warning(
            "Checkpoint: pass %d was taken at parameters that differ by up to %.1e of their value, as happens with "
            "another processor or library; passes from %d to %d are repeated",
            self._next + 1, _difference(stored.theta, theta), self._next + 1, len(self._passes),
        )  # fmt: skip
        del self._passes[self._next :]
        return None

    def _read(self, path: Path) -> None:
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            request, beginning, passes = str(arrays["request"]), _beginning(arrays), _passes(arrays)
        except _DAMAGED as error:
            raise InputError(
                "checkpoint", str(path), f"cannot be read ({error})", "delete this file; the fit then begins anew"
            ) from error
        if request != self._request:
            log.warning("Checkpoint: %s belongs to another fit; it is not used and will be replaced", path)
            return
        self._beginning, self._passes = beginning, passes
        log.info(
            "Checkpoint: %d finished pass%s found, %s of work",
            len(passes), "" if len(passes) == 1 else "es", duration(sum(p.seconds for p in passes)),
        )  # fmt: skip

    def _write(self) -> None:
        """A fit that cannot store a pass goes on: its result matters more."""
        if self._path is None or self._beginning is None:
            return
        content = io.BytesIO()
        np.savez(content, request=np.array(self._request), **_arrays(self._beginning, self._passes))
        try:
            write_whole(self._path, content.getvalue())
        except OSError as error:
            log.warning("Checkpoint: %s was not written (%s); the fit goes on", self._path, error.strerror)


def open_journal(folder: Path, request: str) -> Journal:
    """The journal of the fit ``request`` (see ``identity``) in ``folder``, found again or new; says which in the log.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / f"{hashlib.sha256(request.encode()).hexdigest()[:16]}.npz"
    log.info("Checkpoint: %s", path)
    others = len({*folder.glob("*.npz")} - {path})
    if others and not path.exists():
        log.info(
            "Checkpoint: none of this fit; the folder has %d of other data or settings, which are not used", others
        )
    return Journal(path, request)


def _arrays(beginning: Beginning, passes: list[Pass]) -> dict[str, Any]:
    return {
        **{f"contender_{n}": np.array([getattr(c, n) for c in beginning.contenders]) for n in _CONTENDER},
        **{f"found_{n}": np.array([getattr(o, n) for o in beginning.found]) for n in _FOUND},
        "subset_points": np.array(beginning.points),
        "warm_up_passes": np.array([dataclasses.astuple(info) for info in beginning.passes], dtype=float),
        "theta": np.array([p.theta for p in passes]),
        "factors": np.array([p.sums.factors for p in passes]),
        "counts": np.array([p.sums.counts for p in passes]),
        "reference": np.array([p.sums.reference for p in passes]),
        "terms": np.array([p.sums.terms for p in passes if p.sums.terms is not None]),
        "seconds": np.array([p.seconds for p in passes]),
    }


def _beginning(arrays: dict[str, np.ndarray]) -> Beginning:
    infos = tuple(
        Info(cost, gradient, step, radius, bool(accepted), int(points), seconds)
        for cost, gradient, step, radius, accepted, points, seconds in arrays["warm_up_passes"].tolist()
    )
    contenders = zip(*(arrays[f"contender_{n}"] for n in _CONTENDER), strict=True)
    found = zip(*(arrays[f"found_{n}"] for n in _FOUND), strict=True)
    return Beginning(
        tuple(Contender(start, str(origin), theta, scaling) for start, origin, theta, scaling in contenders),
        tuple(Optimum(theta, float(cost), str(origin)) for theta, cost, origin in found),
        int(arrays["subset_points"]),
        infos,
    )


def _passes(arrays: dict[str, np.ndarray]) -> list[Pass]:
    columns = (arrays[name] for name in ("theta", "factors", "counts", "reference", "seconds"))
    # none without a robust loss
    terms = list(arrays["terms"]) or [None] * len(arrays["theta"])
    return [
        Pass(theta, PassSums(factors, counts, reference, of_loss), float(seconds))
        for theta, factors, counts, reference, seconds, of_loss in zip(*columns, terms, strict=True)
    ]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    return float(np.max(np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300)))
