"""The nearest valid name to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to ``name``; None when nothing is similar.

    A name that begins one of the known ones counts as most similar, ``gap`` is ``gap_angstrom``; then the same letters in another
    order, ``modle`` is ``model`` rather than ``mode``.
    """
    names, wanted = list(known), name.lower()
    begun = [n for n in names if wanted and n.lower().startswith(wanted)]
    if begun:
        return min(begun, key=len)
    for n in names:
        if sorted(n.lower()) == sorted(wanted):
            return n
    by_lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(wanted, list(by_lower), n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """As ``nearest`` for dotted keys: the same name in another group, a similar one in the same group, or anywhere."""
    keys = list(known)
    group, _, name = key.rpartition(".")
    by_last_name = {k.rpartition(".")[2]: k for k in reversed(keys)}
    if name in by_last_name:
        return by_last_name[name]
    siblings = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == group}
    close = nearest(name, siblings)
    return nearest(key, keys) if close is None else siblings[close]


def suggestion(name: str, known: Iterable[str]) -> str:
    """``did you mean X? known: A, B, C``, without the first part when nothing is similar."""
    names = list(known)
    close = nearest(name, names)
    listed = f"known: {', '.join(names)}"
    return f"did you mean {close}? {listed}" if close else listed
