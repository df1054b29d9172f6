"""Nonlinear least squares: strategies, their choice by memory, and the document's entry points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homodyne.optimization.nlsq.memory import (
    detect_total_system_memory,
    estimate_peak_memory_gb,
    get_adaptive_memory_threshold,
)
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.select import select_nlsq_strategy

if TYPE_CHECKING:
    from homodyne.fit_nlsq_jax import fit_nlsq_jax

__all__ = [
    "NLSQOptions",
    "detect_total_system_memory",
    "estimate_peak_memory_gb",
    "fit_nlsq_jax",
    "get_adaptive_memory_threshold",
    "select_nlsq_strategy",
]


def __getattr__(name: str) -> Any:
    # fit_nlsq_jax reads data and so sits above this room; it is offered here because users know it under this name
    if name != "fit_nlsq_jax":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from homodyne.fit_nlsq_jax import fit_nlsq_jax

    return fit_nlsq_jax
