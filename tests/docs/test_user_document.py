"""The calls that users of large data were promised: names, units, what prints, and the YAML fragments."""

import os
import re

import numpy as np
import psutil
import pytest

from homodyne.optimization.nlsq import (
    detect_total_system_memory,
    estimate_peak_memory_gb,
    fit_nlsq_jax,
    get_adaptive_memory_threshold,
    select_nlsq_strategy,
)

FRAGMENTS = {
    "fraction": "optimization:\n  nlsq:\n    memory_fraction: 0.75    # share of the memory\n    # memory_threshold_gb: 48\n",
    "threshold": "optimization:\n  nlsq:\n    memory_threshold_gb: 48\n",
    "shared node": "optimization:\n  nlsq:\n    memory_fraction: 0.60   # leave room for others\n",
    "shared scaling": 'optimization:\n  nlsq:\n    anti_degeneracy:\n      per_angle_mode: "auto"   # one pair\n',
}


@pytest.fixture(scope="module")
def data():
    """A small static measurement as the mapping of fit_nlsq_jax: same contrast and offset at every angle."""
    rng = np.random.default_rng(3)
    phi, t, q, sigma = np.array([0.0, 60.0, 120.0]), 0.1 * np.arange(60), 0.0054, 0.004
    rate = 1.7e4 * np.maximum(t, 0.05) ** -0.5 + 500.0
    path = np.concatenate([[0.0], np.cumsum(0.05 * (rate[1:] + rate[:-1]))])
    c2 = 1.001 + 0.2 * np.exp(-(q**2) * np.abs(path[:, None] - path[None, :]))
    noise = np.triu(rng.normal(0.0, sigma, (3, 60, 60)), 1)
    return {
        "phi_angles_list": phi,
        "c2_exp": c2 + noise + noise.transpose(0, 2, 1),
        "t1": t,
        "t2": t,
        "wavevector_q_list": np.array([q]),
        "sigma": np.full((3, 60, 60), sigma),
        "L": 2e6,
        "dt": 0.1,
    }


def test_memory_calls_return_gigabytes_that_print():
    total = detect_total_system_memory()
    threshold = get_adaptive_memory_threshold(memory_fraction=0.75)
    assert 0.1 < total < 1e5
    assert 0.0 < threshold <= 0.75 * psutil.virtual_memory().total / 2**30 * 1.001
    assert f"{total:.1f} GB, {threshold:.1f} GB"


def test_strategy_of_a_count_of_points():
    n_points, n_params = 5_000_000, 9
    peak = estimate_peak_memory_gb(n_points, n_params)
    decision = select_nlsq_strategy(n_points, n_params)
    assert f"{peak:.1f}"
    assert f"{decision.strategy}" in ("stratified_ls", "hybrid_streaming")
    fits = peak < get_adaptive_memory_threshold(memory_fraction=0.75)
    assert (decision.strategy == "stratified_ls") == fits
    assert select_nlsq_strategy(15_000_000, n_params).strategy == "hybrid_streaming"


def test_memory_around_a_fit(data):
    def rss_gb():
        return psutil.Process(os.getpid()).memory_info().rss / (1024**3)

    print(f"Before fit: {rss_gb():.2f} GB")
    result = fit_nlsq_jax(data, {"analysis_mode": "static"})
    print(f"After fit:  {rss_gb():.2f} GB")
    assert result.converged
    assert abs(result.theta["D0"] - 1.7e4) < 4.5 * result.stderr["D0"]


@pytest.mark.parametrize("name", FRAGMENTS)
def test_yaml_fragment_is_a_configuration(name, data, tmp_path):
    path = tmp_path / "fragment.yaml"
    path.write_text("analysis_mode: static\n" + FRAGMENTS[name])
    result = fit_nlsq_jax(data, path)
    assert result.converged
    assert result.scaling == ("auto" if name == "shared scaling" else "individual")
    if name == "threshold":
        assert result.decision.threshold_gb == pytest.approx(48.0)


def test_decision_is_logged_in_the_promised_form(data, caplog):
    with caplog.at_level("INFO", logger="homodyne"):
        result = fit_nlsq_jax(data, {"analysis_mode": "static"})
    assert any(line.startswith("Strategy: stratified_ls (n=") for line in result.decision.log_lines)
    for line in result.decision.log_lines:
        assert line in caplog.text
    streamed = select_nlsq_strategy(15_000_000, 9, memory_threshold_gb=0.6).log_lines
    assert re.fullmatch(
        r"Strategy: hybrid_streaming \(n=15M pts, est\. peak=\d+\.\d GB > threshold 0\.6 GB\)", streamed[0]
    )
    assert re.fullmatch(r"Streaming block size: [\d.]+[KM] points", streamed[1])
