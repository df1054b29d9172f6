"""An older configuration as dotted keys, and notes on what became of them."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import math
from collections.abc import Iterator, Mapping
from typing import Any

from homodyne.errors import InputError


class Kind(enum.StrEnum):
    """What became of a key."""

    MAPPED = "mapped"
    ATTENTION = "needs attention"
    DROPPED = "no counterpart"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Note:
    """One line of the report: the older key (or keys below a prefix), and what became of it."""

    kind: Kind
    key: str
    text: str


@dataclasses.dataclass
class Old:
    """The older configuration as dotted keys; remembers which of them were read, and takes the notes."""

    leaves: dict[str, Any]
    comments: int
    read: set[str] = dataclasses.field(default_factory=set)
    notes: list[Note] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, nested: Mapping[str, Any]) -> Old:
        """Flatten; keys that begin with an underscore, and descriptions, are comments."""
        every = dict(_flat(nested, ""))
        leaves = {k: v for k, v in every.items() if not _is_comment(k)}
        return cls(leaves, len(every) - len(leaves))

    def get(self, *keys: str) -> tuple[str, Any]:
        """The first of the keys that has a value, and the value; ("", None) where none has one."""
        self.read.update(k for k in keys if k in self.leaves and self.leaves[k] in (None, []))
        found = next((k for k in keys if self.leaves.get(k) not in (None, [])), None)
        if found is None:
            return "", None
        self.read.add(found)
        return found, self.leaves[found]

    def below(self, prefix: str) -> bool:
        """Whether any key lies below the prefix."""
        return any(k.startswith(f"{prefix}.") for k in self.leaves)

    def note(self, kind: Kind, key: str, text: str) -> None:
        """Say what became of a key."""
        self.notes.append(Note(kind, key, text))


def _is_comment(key: str) -> bool:
    return any(part.startswith("_") for part in key.split(".")) or key.endswith("description")


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):  # an empty one holds nothing
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def finite(key: str, value: Any) -> float:
    """The value as a number; YAML reads ``1e-5``, without a point, as text.

    Raises:
        InputError: it is none, or not finite.
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(key, value, "is not a finite number", "correct it in the older file")
    return float(value)
