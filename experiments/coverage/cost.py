#!/usr/bin/env python3
"""What errors cost beside the fit.

    python experiments/coverage/cost.py 23x300 100x1415

Data of the given angles x frames with the noise of 2 counts per pixel as independent numbers (what the errors cost does not
depend on them); prints the wall time of the fit without errors and of each part of the errors.
"""

from __future__ import annotations

import argparse
import functools
import logging
import time
from collections import defaultdict

import numpy as np

import homodyne
from homodyne.models import get_model
from homodyne.optimization.uncertainty import assess

THETA = {
    "D0": 8e3, "alpha": -0.4, "D_offset": 300.0,
    "gamma_dot_0": 2e-3, "beta": -0.2, "gamma_dot_offset": 1e-4, "phi0": 2.0,
}  # fmt: skip
PARTS = (
    "estimate_noise",
    "draw_scores",
    "speckle_errors",
    "jackknife",
    "_disagreement",
    "rate_table",
    "bent",
    "same_light",
)


def data(n_phi: int, n_t: int) -> homodyne.Dataset:
    """Laminar flow with independent noise of 0.044, raw diagonal."""
    model, rng = get_model("laminar_flow"), np.random.default_rng(1)
    phi, t = np.linspace(-80.0, 88.0, n_phi), 0.1 * np.arange(n_t)
    c2 = np.empty((n_phi, n_t, n_t), dtype=np.float32)
    for k in range(n_phi):
        c2[k] = 1 + 0.33 * model.g1_squared(THETA, t, float(phi[k]), 0.0054, 2e6)
        noise = np.triu(rng.normal(0, 0.044, (n_t, n_t)), 1)
        c2[k] += noise + noise.T
        np.fill_diagonal(c2[k], 1.83)
    return homodyne.Dataset.from_arrays(c2, phi, t, 0.0054, 2e6)


def timed(spent: dict[str, float]) -> None:
    """Let every part of the errors add its wall time to ``spent``."""
    for name in PARTS:
        part = getattr(assess, name)

        @functools.wraps(part)
        def watched(*args, part=part, name=name, **given):
            start = time.perf_counter()
            out = part(*args, **given)
            out = list(out) if name == "_disagreement" else out  # a generator has done nothing yet
            spent[name] += time.perf_counter() - start
            return out

        setattr(assess, name, watched)


def main() -> int:
    """Time every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+", metavar="ANGLESxFRAMES")
    logging.getLogger("homodyne").setLevel(logging.ERROR)
    spent: dict[str, float] = defaultdict(float)
    timed(spent)
    for size in parser.parse_args().sizes:
        dataset = data(*map(int, size.split("x")))
        homodyne.fit(dataset, start=THETA, weighting="uniform")  # compiles
        start = time.perf_counter()
        homodyne.fit(dataset, covariance="iid")
        plain = time.perf_counter() - start
        spent.clear()
        start = time.perf_counter()
        result = homodyne.fit(dataset, weighting="uniform")
        whole = time.perf_counter() - start
        speckle = spent["estimate_noise"] + spent["draw_scores"] + spent["speckle_errors"]
        print(
            f"{size}: fit with all errors {whole:.2f} s, with iid and jackknife only {plain:.2f} s, {result.status.value}"
        )
        print(
            f"  speckle covariance {speckle:.2f} s, jackknife {1e3 * spent['jackknife']:.0f} ms = {100 * spent['jackknife'] / plain:.2f} % of the fit"
        )
        print("  " + ", ".join(f"{name} {1e3 * s:.0f} ms" for name, s in spent.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
