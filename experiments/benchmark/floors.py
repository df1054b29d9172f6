"""One pass over all points, and the two things it cannot be faster than: reading the bytes, and evaluating the model.

Both floors walk over the panels of the pass. They use internals of the package; when those change, this is the only
module of the benchmark to change with them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import homodyne
from homodyne.models import Model, get_model
from homodyne.optimization.channels import angle, can_factor, kernel_fields, seen_from, take
from homodyne.optimization.nlsq.hybrid_streaming import plan_for, streamed_pass
from homodyne.optimization.nlsq.select import select_nlsq_strategy
from homodyne.optimization.nlsq.stratified_ls import all_sides
from homodyne.optimization.source import all_frames
from homodyne.simulate.synthetic import THETA


def setting(dataset: homodyne.Dataset) -> tuple[Model, np.ndarray, np.ndarray, int]:
    """Model, true parameters, reference scaling (n_phi, 2), and the block size a fit of these data takes."""
    model = get_model("laminar_flow")
    theta = np.array([THETA[p.name] for p in model.parameters])
    decision = select_nlsq_strategy(dataset.n_points(), len(theta) + 2, strategy="hybrid_streaming")
    return model, theta, np.tile([0.25, 1.0], (dataset.n_phi, 1)), decision.block_points


def full_pass(dataset: homodyne.Dataset, precision: str = "float64") -> Callable[[], Any]:
    """One pass as the streaming strategy takes it; returns the sums."""
    _, theta, reference, _ = setting(dataset)
    evaluate = full_pass_at(dataset, precision)
    return lambda: evaluate(theta, reference)


def full_pass_at(dataset: homodyne.Dataset, precision: str = "float64") -> Callable[[np.ndarray, np.ndarray], Any]:
    """The same at any parameters and reference scaling."""
    model, _, _, block = setting(dataset)
    return streamed_pass(model, all_frames(dataset), 1, block, precision=precision)


def sums_only(dataset: homodyne.Dataset, precision: str) -> Callable[[], Any]:
    """The same pass over the panels of the first angle, read once, as often as there are angles: nothing but arithmetic."""
    first = dataset.phi[:1]
    one = _Repeated(dataset, np.resize(first, dataset.n_phi))
    model, theta, reference, block = setting(dataset)
    evaluate = streamed_pass(model, all_frames(one), 1, block, precision=precision)
    return lambda: evaluate(theta, reference)


class _Repeated:
    """The first angle of a dataset again and again, in memory."""

    def __init__(self, dataset: homodyne.Dataset, phi: np.ndarray) -> None:
        self.phi, self.t, self.q, self.gap, self.dt = phi, dataset.t, dataset.q, dataset.gap, dataset.dt
        self.sigma = np.resize(dataset.sigma[:1], len(phi))
        whole = slice(0, dataset.n_t)
        self._c2 = dataset.read_block(0, whole, whole)

    def read_block(self, k: int, rows: slice, cols: slice) -> np.ndarray:
        return self._c2[rows, cols]

    def read_sigma(self, k: int, rows: slice, cols: slice) -> None:
        return None


def agreement(dataset: homodyne.Dataset) -> dict[str, Any]:
    """Gauss-Newton step, streamed and full batch, at the truth and 30 % off: largest difference relative to the element."""
    from homodyne.optimization.nlsq.stratified_ls import full_batch_pass
    from homodyne.optimization.normal import linearize
    from homodyne.optimization.scaling import make_scaling

    model, truth, reference, _ = setting(dataset)
    runs = (full_batch_pass(model, all_frames(dataset), 1), full_pass_at(dataset))
    scaling, sigma = make_scaling("individual", np.asarray(dataset.phi)), np.asarray(dataset.sigma)
    apart = []
    for theta in (truth, 1.3 * truth):
        steps = []
        for run in runs:
            at = linearize(run(theta, reference), scaling, sigma)
            column = np.linalg.norm(at.jacobian, axis=0)
            steps.append(np.linalg.lstsq(at.jacobian / column, at.residual, rcond=None)[0] / column)
        apart.append(float(np.max(np.abs(steps[1] / steps[0] - 1))))
    return {"points": dataset.n_points(), "apart": apart}


def reading_floor(dataset: homodyne.Dataset) -> Callable[[], None]:
    """Every panel of a pass read by one thread, into nothing."""
    plan = plan_for(all_frames(dataset), setting(dataset)[3])

    def read() -> None:
        for k in range(dataset.n_phi):
            for row0, rows in plan.panels:
                dataset.read_block(k, slice(row0, row0 + rows), slice(row0, plan.n))

    return read


def model_floor(dataset: homodyne.Dataset) -> Callable[[], float]:
    """The model and its fields at every pair, added to one number: no data, no moments; a thread a processor."""
    model, theta, _, block = setting(dataset)
    view = all_frames(dataset)
    plan = plan_for(view, block)
    jobs = [(k, row0, rows) for k in range(dataset.n_phi) for row0, rows in plan.panels]

    def evaluate() -> float:
        sides = jax.block_until_ready(all_sides(model, theta, view, plan.width))
        factor = bool(can_factor(model, sides, plan.shape.rows))
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            parts = pool.map(lambda job: float(_panel_sum(model, plan.shape, factor, sides, *job, plan.n)), jobs)
            return sum(parts)

    return evaluate


@partial(jax.jit, static_argnames=("model", "shape", "factor"))
def _panel_sum(
    model: Model, shape: Any, factor: bool, sides: Any, k: Any, row0: Any, n_rows: Any, n_cols: Any
) -> jax.Array:
    """The loops of ``moments.accumulate`` with nothing but the fields in them."""
    side = angle(sides, k)

    def strip(b: jax.Array, total: jax.Array) -> jax.Array:
        first = row0 + b * shape.rows
        middle = [take(f, first + shape.rows // 2, 1) for f in side.late]
        here = seen_from(model, tuple(take(f, first, shape.rows) for f in side.early), middle, 1, factor, "float64")
        there = seen_from(model, side.late, middle, -1, factor, "float64")

        def tile(width: int, start: jax.Array, m: jax.Array, total: jax.Array) -> jax.Array:
            late = tuple(take(f, start + m * width, width) for f in there)
            # slices are copied out first, as in the pass
            s, fields = kernel_fields(model, *jax.lax.optimization_barrier((here, late)))
            return total + sum((f.sum() for f in fields if f is not None), s.sum())

        n_wide = (n_cols - first) // shape.cols
        rest = first + n_wide * shape.cols
        total = jax.lax.fori_loop(0, n_wide, partial(tile, shape.cols, first), total)
        return jax.lax.fori_loop(0, -(-(n_cols - rest) // shape.narrow), partial(tile, shape.narrow, rest), total)

    return jax.lax.fori_loop(0, -(-n_rows // shape.rows), strip, jnp.zeros(()))
