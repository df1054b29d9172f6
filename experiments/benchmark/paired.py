"""Timings that are compared with each other take turns in one process: other work on the machine hits all alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from floors import full_pass, model_floor, reading_floor, setting, sums_only

import homodyne
from homodyne.optimization.nlsq import options as nlsq_options


def alternate(actions: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, list[float]]:
    """Seconds of every action, ``repeat`` times in turn, after one run of each that compiles; the order rotates."""
    names = list(actions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        actions[name]()
    for n in range(repeat):
        shift = n % len(names)
        for name in names[shift:] + names[:shift]:
            began = time.perf_counter()
            actions[name]()
            seconds[name].append(time.perf_counter() - began)
        print("  " + ", ".join(f"{x}: {seconds[x][-1]:.2f} s" for x in names), file=sys.stderr, flush=True)
    return seconds


def passes(dataset: homodyne.Dataset, repeat: int) -> dict[str, Any]:
    """A full pass and its two floors."""
    actions = {"pass": full_pass(dataset), "reading": reading_floor(dataset), "model": model_floor(dataset)}
    return {"points": dataset.n_points(), "seconds": alternate(actions, repeat)}


def precisions(dataset: homodyne.Dataset, repeat: int) -> dict[str, Any]:
    """Passes in double and single precision, with reading and without."""
    names = ("float64", "float32")
    found = {"points": dataset.n_points(), "seconds": alternate({n: full_pass(dataset, n) for n in names}, repeat)}
    return found | {"sums_s": alternate({n: sums_only(dataset, n) for n in names}, repeat)}


def scalings(dataset: homodyne.Dataset, repeat: int) -> dict[str, Any]:
    """What a fit does in one pass, for every scaling: the sums and their reduction."""
    from homodyne.optimization.normal import linearize
    from homodyne.optimization.scaling import MODES, make_scaling

    run_pass = full_pass(dataset)
    phi, sigma, pairs = np.asarray(dataset.phi), np.asarray(dataset.sigma, dtype=float), setting(dataset)[2]
    order = nlsq_options.NLSQOptions().fourier_order

    def action(mode: str) -> Callable[[], Any]:
        mapping = make_scaling(mode, phi, order, pairs)
        return lambda: linearize(run_pass(), mapping, sigma)

    return {"points": dataset.n_points(), "seconds": alternate({mode: action(mode) for mode in MODES}, repeat)}
