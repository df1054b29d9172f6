"""homodyne: fits XPCS two-time correlations of any size with one exact objective.

The public names are loaded when first used, so that ``import homodyne`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from homodyne.comparison import compare
    from homodyne.data import Dataset
    from homodyne.errors import InputError
    from homodyne.fitting import fit, plan, profile
    from homodyne.models import Channel, Model, get_model
    from homodyne.optimization.nlsq.options import NLSQOptions
    from homodyne.optimization.posterior.memory import estimate_cmc_memory_gb
    from homodyne.optimization.posterior.priors import Prior
    from homodyne.parameters import Parameter
    from homodyne.result import FitResult, Status
    from homodyne.result.posterior import Posterior
    from homodyne.sampling import sample

__version__ = "0.1.0"

_HOMES = {
    "Channel": "homodyne.models",
    "Dataset": "homodyne.data",
    "FitResult": "homodyne.result",
    "InputError": "homodyne.errors",
    "Model": "homodyne.models",
    "NLSQOptions": "homodyne.optimization.nlsq.options",
    "Parameter": "homodyne.parameters",
    "Posterior": "homodyne.result.posterior",
    "Prior": "homodyne.optimization.posterior.priors",
    "Status": "homodyne.result",
    "compare": "homodyne.comparison",
    "estimate_cmc_memory_gb": "homodyne.optimization.posterior.memory",
    "fit": "homodyne.fitting",
    "get_model": "homodyne.models",
    "plan": "homodyne.fitting",
    "profile": "homodyne.fitting",
    "sample": "homodyne.sampling",
}

__all__ = [
    "Channel",
    "Dataset",
    "FitResult",
    "InputError",
    "Model",
    "NLSQOptions",
    "Parameter",
    "Posterior",
    "Prior",
    "Status",
    "compare",
    "estimate_cmc_memory_gb",
    "fit",
    "get_model",
    "plan",
    "profile",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'homodyne' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
