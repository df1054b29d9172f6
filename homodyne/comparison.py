"""Which of several fits of the same data to believe, tested against the noise that speckle makes.

chi2, its drop from one model to a larger one, and AIC assume independent points. Pairs of c2 share frames, and a drop
that looks overwhelming for independent points may be what correlated noise does. Two calibrated tests replace them:

* Parameters that are held in one fit and free in another (beta = 0, say). For a drop D of chi2 / chi2_reduced the
  parameters' estimates are normal with the honest covariance V, so that D is a sum of chi2 variables weighted with the
  eigenvalues of V_iid^-1 V over those parameters: a matter of algebra. Where fits are whitened the drop is that between the
  larger fit and the same fit with these parameters held, both with the weights of the larger one: two fits to the data.
* No shear against shear. Without shear beta and phi0 mean nothing, no covariance describes them, and the test is a
  simulation: speckle of the smaller model with the noise found, fitted by both models with uniform weights as the data are.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import chdtrc

from homodyne.data import Dataset
from homodyne.errors import InputError
from homodyne.fitting import fit
from homodyne.models import get_model
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.restricted import rise
from homodyne.result import FitResult
from homodyne.simulate import speckle_maps

log = logging.getLogger("homodyne")

#: Probability below which a smaller model is refuted.
LEVEL = 0.01
# Frames and pixels of a simulation: pairs of more frames share most of their noise, and noise scales with pixels exactly.
_FRAMES, _PIXELS = 100, 500
_DRAWS = 200_000
# Models inside others: without shear, where a test needs simulations, and with q_exponent = 0.
_WITHOUT_SHEAR = (("static", "laminar_flow"), ("static_joint_q", "laminar_flow_joint_q"))
_SAME_AT_EVERY_Q = (("static", "static_joint_q"), ("laminar_flow", "laminar_flow_joint_q"))
# Simulations with a larger drop after which the answer is clear.
_ENOUGH = 10


@dataclasses.dataclass(frozen=True)
class Test:
    """One smaller fit against one larger.

    Attributes:
        small, large: positions in the list of fits. restricted: parameters free in the larger one only.
        drop: of chi2 / chi2_reduced, from small to large. p_value: probability of such a drop, or a larger one, by chance
            if the smaller model is true; naive_p_value: the same if points were independent.
        method: how ``p_value`` was found.
    """

    small: int
    large: int
    restricted: tuple[str, ...]
    drop: float
    p_value: float
    naive_p_value: float
    method: str

    @property
    def refuted(self) -> bool:
        """The smaller model is refuted at ``LEVEL``."""
        return self.p_value <= LEVEL


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Fits of the same data side by side, and every test between nested ones.

    Attributes:
        names: of the fits.
        results: the fits.
        tests: of every nested pair.
    """

    names: tuple[str, ...]
    results: tuple[FitResult, ...]
    tests: tuple[Test, ...]

    @property
    def best(self) -> int:
        """The smallest fit that no larger one refutes; position in the list."""
        standing = [i for i in range(len(self.results)) if not any(t.small == i and t.refuted for t in self.tests)]
        return min(standing, key=lambda i: (self.results[i].n_parameters, self.results[i].chi2_reduced))

    def sentences(self) -> Iterator[str]:
        """The outcome of every test, with a warning where chi2 and AIC would mislead."""
        for test in self.tests:
            small, large = self.names[test.small], self.names[test.large]
            verdict = f"refutes {small}" if test.refuted else f"{small} is enough"
            yield (
                f"{small} against {large}: free {', '.join(test.restricted)} lower chi2 by {test.drop:.4g}; speckle noise "
                f"does that or more with probability {test.p_value:.3g} ({test.method}): {verdict}"
            )
            aic = test.drop > 2 * len(test.restricted)
            if (test.naive_p_value < LEVEL or aic) and not test.refuted:
                yield (
                    f"chi2 and AIC mislead here: for independent points the probability would be {test.naive_p_value:.2g}, "
                    f"and AIC prefers {large} by {test.drop - 2 * len(test.restricted):.3g}"
                )

    def table(self) -> str:
        """Fits and tests as text."""
        rows = [f"{'fit':<34} {'parameters':>10} {'chi2/N':>10}  status"]
        for n, (name, result) in enumerate(zip(self.names, self.results, strict=True)):
            mark = "  <- smallest that stands" if n == self.best else ""
            rows.append(
                f"{name:<34} {result.n_parameters:>10} {result.chi2_reduced:>10.6f}  {result.status.value}{mark}"
            )
        return "\n".join([*rows, *self.sentences()])


def compare(results: Sequence[FitResult], *, dataset: Any = None, replicates: int = 99, seed: int = 0) -> Comparison:
    """Compare fits of the same data by tests that survive correlated noise.

    Args:
        results: two fits at least, of the same points with the same scaling; nested ones are tested in pairs: the same
            model with more parameters fixed, static inside laminar_flow, or one D for all q inside a model of joint q.
        dataset: the data, needed for static against laminar_flow, and for whitened fits, when the results were read from
            files.
        replicates: most simulated data sets of that test, about a second each; it ends early when ten of them have shown
            a larger drop than the data. p values are not below 1 / (replicates + 1).

    Raises:
        InputError: fewer than two fits, fits of different data or scaling, no speckle errors, data missing.
    """
    _check(results)
    names: list[str] = []
    seen: dict[str, int] = {}
    for result in results:
        name = _name(result)
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    tests = []
    for i, small in enumerate(results):
        for j, large in enumerate(results):
            restricted = _restricted(small, large)
            if restricted:
                tests.append(_test(i, j, small, large, restricted, dataset, replicates, seed))
    return Comparison(tuple(names), tuple(results), tuple(tests))


def _check(results: Sequence[FitResult]) -> None:
    if len(results) < 2:
        raise InputError("results", len(results), "is fewer than two fits", "give the fits to compare as a list")
    first = results[0]
    for n, other in enumerate(results[1:], start=1):
        same = (
            other.n_points == first.n_points
            and other.scaling == first.scaling
            and np.array_equal(other.phi, first.phi)
            and np.array_equal(other.q, first.q)
            and np.allclose(other.sigma, first.sigma)
            and _loss(other) == _loss(first)
        )
        if not same:
            raise InputError(
                f"results[{n}]", _name(other),
                "is a fit of other points, other noise, another scaling or another loss than the first",
                "fit the same dataset with the same scaling, min_lag and loss",
            )  # fmt: skip


def _name(result: FitResult) -> str:
    held = ", ".join(f"{n}={v:g}" for n, v in result.fixed.items())
    return result.model + (f" ({held})" if held else "")


def _restricted(small: FitResult, large: FitResult) -> tuple[str, ...]:
    """Parameters free in the larger fit only; empty unless the smaller one is nested in it."""
    ours, theirs = set(small.theta), set(large.theta)
    free_small, free_large = ours - set(small.fixed), theirs - set(large.fixed)
    if small.model != large.model and (small.model, large.model) not in (*_WITHOUT_SHEAR, *_SAME_AT_EVERY_Q):
        return ()
    if not free_small < free_large or any(small.theta[n] != v for n, v in large.fixed.items() if n in ours):
        return ()
    return tuple(p.name for p in large.parameters if p.name in free_large - free_small)


def _loss(result: FitResult) -> dict[str, Any]:
    """Loss and scale, as ``NLSQOptions`` takes them."""
    options = result.provenance.get("options", {})
    if options.get("loss", "linear") == "linear":
        return {"loss": "linear"}
    return {name: options[name] for name in ("loss", "loss_scale")}


def _chi2(result: FitResult) -> float:
    """Weighted sum of squared residuals, or of what a robust loss makes of them."""
    return result.chi2_reduced * max(1, result.n_points - result.n_parameters)


def _test(
    i: int, j: int, small: FitResult, large: FitResult, restricted: tuple[str, ...], dataset: Any, replicates: int, seed: int
) -> Test:  # fmt: skip
    if small.model == large.model or (small.model, large.model) in _SAME_AT_EVERY_Q:
        drop, covariance = _fall(small, large, restricted, dataset)
        p_value = _algebra(large, restricted, drop, covariance, seed)
        return Test(i, j, restricted, drop, p_value, float(chdtrc(len(restricted), drop)), "honest covariance")
    p_value, drop, n = _simulated(small, large, dataset, replicates, seed)
    return Test(i, j, restricted, drop, p_value, float(chdtrc(len(restricted), drop)), f"{n} simulations")


def _fall(
    small: FitResult, large: FitResult, restricted: tuple[str, ...], dataset: Any
) -> tuple[float, np.ndarray | None]:
    """Of chi2 / chi2_reduced from the smaller fit to the larger; and, of independent rows, the covariance behind it."""
    if "whitened" not in (small.weighting.name, large.weighting.name):
        return max(0.0, (_chi2(small) - _chi2(large)) / large.chi2_unit), None
    held = {n: small.theta.get(n, 0.0) for n in restricted}
    live, source = large.live, _source(small, large, dataset)
    model = get_model(large.model, large.convention) if live is None else live.model
    found = rise(source, model, large, held, small.theta, None if live is None else live.options)
    return found.value, found.covariance


def _source(small: FitResult, large: FitResult, dataset: Any) -> Any:
    """The data of the fits."""
    live = large.live or small.live
    if dataset is None and live is None:
        raise InputError("dataset", None, "is missing: the fits were read from files", "give compare(..., dataset=...)")
    return dataset if dataset is not None else live.dataset


def _algebra(
    large: FitResult, restricted: tuple[str, ...], drop: float, covariance: np.ndarray | None, seed: int
) -> float:
    if "speckle" not in large.uncertainties:
        raise InputError("results", _name(large), "has no speckle errors to test with", "fit with covariance=speckle")
    order = [p.name for p in large.parameters]
    rows = [order.index(n) for n in restricted]
    loose = [n for n in restricted if not large.stderr[n] > 0]
    if loose:
        raise InputError(
            "results", _name(large), f"has no error of {', '.join(loose)}, at a bound, to test with", "widen the bound"
        )
    honest = large.uncertainties["speckle"].root[rows]
    if covariance is None:
        root = large.uncertainties["iid"].root
        covariance = root @ root.T
    weights = np.linalg.eigvals(np.linalg.solve(covariance[np.ix_(rows, rows)], honest @ honest.T)).real
    drawn = np.random.default_rng(seed).chisquare(1, (_DRAWS, len(weights))) @ np.maximum(weights, 0.0)
    return float((1 + np.count_nonzero(drawn >= drop)) / (_DRAWS + 1))


def _simulated(
    small: FitResult, large: FitResult, dataset: Any, replicates: int, seed: int
) -> tuple[float, float, int]:
    """Probability, drop and number of simulations, on at most 100 frames of the data and of speckle that the smaller model makes."""
    source = _source(small, large, dataset)
    noise = small.diagnostics
    if "pixels" not in noise:
        raise InputError("results", _name(small), "has no speckle errors to test with", "fit with covariance=speckle")
    few, t = _thinned(source)
    observed, fitted = _drop(few, source, t, small, large)
    beaten = 0
    for n in range(1, replicates + 1):
        drawn = _speckle(fitted, source, t, noise, seed + n)
        beaten += _drop(drawn, source, t, small, large)[0] >= observed
        if n % 20 == 0 or n == replicates or beaten == _ENOUGH:
            log.info("Simulation %d of at most %d: %d with a larger drop of chi2 than the data", n, replicates, beaten)
        if beaten == _ENOUGH:  # Besag and Clifford 1991: then beaten / n is a valid p value
            return beaten / n, observed, n
    return (1 + beaten) / (replicates + 1), observed, replicates


def _thinned(source: Any) -> tuple[np.ndarray, np.ndarray]:
    """c2 on every k-th frame, (n_phi, m, m), and its times."""
    n = len(source.t)
    step = -(-n // _FRAMES)
    frames = np.arange(0, n, step)
    maps = np.array(
        [
            np.concatenate(
                [np.asarray(source.read_block(k, slice(f, f + 1), slice(0, n)))[:, frames] for f in frames.tolist()]
            )
            for k in range(len(source.phi))
        ],
        dtype=float,
    )
    upper = np.triu(maps)
    return upper + np.swapaxes(np.triu(maps, 1), 1, 2), np.asarray(source.t)[frames]


def _drop(c2: np.ndarray, source: Any, t: np.ndarray, small: FitResult, large: FitResult) -> tuple[float, FitResult]:
    """Fall of chi2 / chi2_reduced from the smaller to the larger model on these maps, and the smaller fit."""
    data = Dataset.from_arrays(c2, source.phi, t, source.q, source.gap, sigma=np.asarray(source.sigma))
    level = log.level
    log.setLevel(logging.ERROR)  # hundreds of fits need no lines of their own
    try:
        fits = [
            fit(
                data,
                r.model,
                scaling=r.scaling,
                convention=r.convention,
                fixed=r.fixed,
                covariance="iid",
                options=NLSQOptions(**_loss(r)),
            )
            for r in (small, large)
        ]
    finally:
        log.setLevel(level)
    return (_chi2(fits[0]) - _chi2(fits[1])) / fits[1].chi2_unit, fits[0]


def _speckle(fitted: FitResult, source: Any, t: np.ndarray, noise: Any, seed: int) -> np.ndarray:
    """Maps of the smaller model with the noise of the data: speckle of 500 pixels, its noise scaled to the pixels found."""
    contrast = np.clip(fitted.contrast / fitted.offset, 1e-3, 1.0)
    counts = np.asarray(noise["counts"].values)
    c2 = speckle_maps(
        fitted.model, fitted.theta, source.phi, t, source.q, source.gap,
        contrast=contrast, counts=np.minimum(counts, 1e6), pixels=_PIXELS, seed=seed,
    )  # fmt: skip
    exact = speckle_mean(fitted, source, t, contrast)
    scale = np.sqrt(_PIXELS / np.asarray(noise["pixels"].values))[:, None, None]
    return np.asarray(fitted.offset[:, None, None] * (exact + scale * (c2 - exact)))


def speckle_mean(fitted: FitResult, source: Any, t: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """1 + contrast s of the fitted model on these times, (n_phi, m, m)."""
    model = get_model(fitted.model, fitted.convention)
    s = [
        model.g1_squared(fitted.theta, t, float(phi), float(q), source.gap, q_ref=fitted.q_ref)
        for phi, q in zip(fitted.phi, fitted.q, strict=True)
    ]
    return 1.0 + contrast[:, None, None] * np.array(s)
