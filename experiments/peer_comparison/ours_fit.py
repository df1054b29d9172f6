#!/usr/bin/env python3
"""Fit one dataset written by make_data.py with homodyne and print one JSON line (same keys as the peer's script)."""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from flow import NAMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--strategy", default="auto")
    args = parser.parse_args()
    npz = np.load(args.data)

    from homodyne import Dataset, fit
    from homodyne.machine import peak_resident_gb

    dataset = Dataset.from_arrays(
        npz["c2"], phi=npz["phi"], t=npz["t"], q=float(npz["q"]), gap=float(npz["gap"]), sigma=float(npz["sigma"])
    )
    begin = time.perf_counter()
    result = fit(
        dataset,
        model="laminar_flow",
        convention="homodyne-2",
        scaling="individual",
        strategy=args.strategy,
        start=dict(zip(NAMES, map(float, npz["theta0"]), strict=True)),
        weighting="uniform",
    )
    seconds = time.perf_counter() - begin
    print(
        json.dumps(
            {
                "n_unordered": int(result.n_points),
                "fit_s": seconds,
                "peak_rss_gb": peak_resident_gb(),
                "success": bool(result.converged),
                "iterations": int(result.history.sizes["pass"]),
                "chi2_reduced": float(result.chi2_reduced),
                "theta": {name: float(result.theta[name]) for name in NAMES},
                "stderr": {name: float(result.stderr[name]) for name in NAMES},
                "strategy": result.decision.strategy,
            }
        )
    )


if __name__ == "__main__":
    main()
