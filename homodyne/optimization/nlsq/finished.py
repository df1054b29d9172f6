"""A finished fit taken up again: the request it was, and passes over all points at other parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from homodyne.models import Model
from homodyne.optimization.nlsq.engine import passes
from homodyne.optimization.nlsq.options import NLSQOptions
from homodyne.optimization.nlsq.problem import evaluator
from homodyne.optimization.nlsq.progress import Progress
from homodyne.optimization.nlsq.request import Request, check_request
from homodyne.optimization.normal import Linearization
from homodyne.optimization.scaling import Scaling, make_scaling
from homodyne.optimization.search import get_strategy
from homodyne.optimization.source import BlockSource, all_frames
from homodyne.optimization.trust_region import Tolerances
from homodyne.optimization.uncertainty.design import inverse_gram
from homodyne.optimization.whitened.loop import Loop, loop_of
from homodyne.parameters import pack
from homodyne.result import FitResult


def request_of(
    source: BlockSource, model: Model, result: FitResult, options: NLSQOptions, client: Any = None
) -> Request:
    """The request of a finished fit, with the memory settings of ``options`` and passes like its own.

    Args:
        client: of ``dask.distributed``, where the passes were distributed; without one they are streamed here.
    """
    bounds = {p.name: (p.lower, p.upper) for p in result.parameters}
    fitted = result.provenance.get("options", {})
    kept = {name: fitted.get(name, getattr(options, name)) for name in ("fourier_order", "loss", "loss_scale")}
    passes = result.decision.passes
    if client is not None or passes == "distributed":
        passes = "hybrid_streaming" if client is None else "distributed"
    return check_request(
        source, model, scaling=result.scaling, strategy=get_strategy(passes), client=client, warm_up=None, start={},
        fixed=result.fixed, bounds=bounds, covariance="iid", counts=None, pixels=None,
        min_lag=int(result.provenance.get("min_lag", 1)), options=dataclasses.replace(options, **kept),
    )  # fmt: skip


@dataclasses.dataclass
class Finished:
    """A finished fit and the passes it was made of.

    Attributes:
        request, scaling: of the fit. best: theta, (p,). evaluate: theta -> reduced problem, with the weights of the fit.
        at: that of the fit. result: its record. loop: the weights of a whitened fit, None of one with uniform weights.
        passes: made so far.
    """

    request: Request
    scaling: Scaling
    best: np.ndarray
    evaluate: Callable[..., Linearization]
    at: Linearization
    result: FitResult
    loop: Loop | None = None
    passes: int = 1

    @classmethod
    def of(cls, request: Request, result: FitResult, tolerances: Tolerances | None = None) -> Finished:
        """Everything ready, and one pass at the fit, so that chi2 there has the same sums as all others."""
        pairs = np.stack([result.contrast, result.offset], axis=1)
        scaling = make_scaling(
            request.scaling, request.source.phi, request.options.fourier_order, pairs, request.source.q
        )
        best, loop = pack(result.theta, result.parameters), None
        evaluate: Callable[..., Linearization]
        progress = Progress(request.n_points, tolerances or Tolerances())
        if result.weighting.name == "whitened":
            loop = loop_of(request, scaling, result, progress)
            evaluate = loop.evaluate
        else:
            run_pass = passes(request, all_frames(request.source), progress, "float64")
            evaluate = evaluator(request, run_pass, scaling, pairs)
        return cls(request, scaling, best, evaluate, evaluate(best), result, loop)

    @property
    def unit(self) -> float:
        """Variance of a row of the reduced problem, were its rows independent: by which twice the cost is divided."""
        return self.result.chi2_unit if self.loop is None else 1.0

    def covariance(self) -> np.ndarray:
        """Of the parameters, (p, p), were the rows of the reduced problem independent; 0 for those that did not move."""
        if self.loop is None:
            root = self.result.uncertainties["iid"].root
            return np.asarray(root @ root.T)
        at_bound = np.array([self.result.at_bound[p.name] for p in self.result.parameters])
        moved = np.flatnonzero(self.request.free & ~at_bound)
        out = np.zeros((len(at_bound),) * 2)
        whole = np.linalg.norm(self.at.theta_jacobian[:, moved], axis=0)
        out[np.ix_(moved, moved)] = inverse_gram(self.at.jacobian[:, moved], whole).inverse
        return out

    def hessian(self) -> np.ndarray:
        """H (f, f) of the free parameters, the Gauss-Newton matrix of chi2 / 2 with the scaling eliminated."""
        jacobian = self.at.jacobian[:, self.request.free]
        return np.asarray(jacobian.T @ jacobian)

    def change(self, theta: np.ndarray) -> float:
        """chi2(theta) - chi2(best), theta (p,), at the best contrast and offset of either."""
        self.passes += 1
        return 2.0 * float(self.evaluate(theta).cost - self.at.cost)
