"""Where a fit begins: strategies that look for the optimum on a few frames, before passes over all points make it exact."""

from __future__ import annotations

import dataclasses
from typing import Any

from homodyne.errors import InputError
from homodyne.optimization.search.auto import SCALE_RATIO, Auto
from homodyne.optimization.search.base import Info, Landscape, Optimum, State, Strategy, search
from homodyne.optimization.search.cmaes import CmaesNlsq
from homodyne.optimization.search.coordinates import scale_ratio
from homodyne.optimization.search.local import Distributed, HybridStreaming, StratifiedLS
from homodyne.optimization.search.multistart import Multistart
from homodyne.optimization.search.warm_up import WarmUp

__all__ = [
    "SCALE_RATIO",
    "STRATEGIES",
    "Auto",
    "CmaesNlsq",
    "Distributed",
    "HybridStreaming",
    "Info",
    "Landscape",
    "Multistart",
    "Optimum",
    "State",
    "Strategy",
    "StratifiedLS",
    "WarmUp",
    "get_strategy",
    "scale_ratio",
    "search",
]

#: By the name that users write; a new one is a file beside these, an entry here, and a YAML file in conf/strategy.
STRATEGIES: dict[str, type] = {
    "auto": Auto,
    "stratified_ls": StratifiedLS,
    "hybrid_streaming": HybridStreaming,
    "distributed": Distributed,
    "cmaes_nlsq": CmaesNlsq,
    "multistart": Multistart,
}


def get_strategy(name: str, **settings: Any) -> Strategy:
    """The strategy of that name.

    Raises:
        InputError: unknown name, or a setting that it does not have.
    """
    if name not in STRATEGIES:
        raise InputError("strategy", name, "is unknown", f"choose one of {', '.join(STRATEGIES)}")
    made = STRATEGIES[name]
    known = [f.name for f in dataclasses.fields(made) if f.init]
    for setting, value in settings.items():
        if setting not in known:
            has = f"it has {', '.join(known)}" if known else "it has no settings"
            raise InputError(f"strategy.{setting}", value, f"is not a setting of {name}", f"leave it out; {has}")
    return made(**settings)
