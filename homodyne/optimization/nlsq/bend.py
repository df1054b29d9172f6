"""Second-order steps along curved valleys, from a few frames of the data.

Where data determine parameters only in combination, the valley of the cost is narrow and curved, and a straight step v leaves
it at once: the loop creeps, pass by pass over all points. Along v the signal bends by s_vv, its second derivative; a shift of the
parameters that takes the bend back as far as it can,

    a = argmin | s_vv + (ds/dtheta) a |**2 + damping |D a|**2,      step = v + a / 2,

keeps the step in the valley (geodesic acceleration: Transtrum and Sethna, arXiv:1201.5885). What bends the valley is smooth and
the same on a few frames, so ``a`` costs no pass over all points. Where ``a`` is not small against v, the step is too long
for second order, and the damping is raised before a pass is spent on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from homodyne.models import Model
from homodyne.optimization.nlsq.stratified_ls import full_batch_pass, signal
from homodyne.optimization.normal import Linearization, linearize
from homodyne.optimization.scaling import Scaling
from homodyne.optimization.source import View

# Of |v|: where the second difference is taken. Larger than rounding asks for, so that it sees what the step will meet.
_DIFFERENCE = 0.1
# The bend enters as this fraction of its size beside the signal, so that contrasts stay what they are.
_SMALL = 1e-3


@dataclasses.dataclass(frozen=True)
class Frames:
    """A few frames, held in memory.

    Attributes:
        scaling: what contrast and offset may do. feasible: theta -> bool.
    """

    model: Model
    view: View
    scaling: Scaling
    feasible: Callable[[np.ndarray], bool]
    min_lag: int

    def bend(self, theta: np.ndarray, v: np.ndarray, pairs: np.ndarray) -> Linearization | None:
        """The least-squares problem (ds/dtheta) a = -s_vv at theta, contrast and offset free as the scaling says.

        Args:
            v: step (p,). pairs: contrast and offset at theta, (n_phi, 2).

        Returns:
            None where the model makes no sense beside theta.
        """
        h = _DIFFERENCE * v
        if not (self.feasible(theta + h) and self.feasible(theta - h)):
            return None
        before, here, after = (signal(self.model, x, self.view) for x in (theta - h, theta, theta + h))
        bend = (after - 2 * here + before) / _DIFFERENCE**2
        size = np.nanmax(np.abs(bend))
        if not np.isfinite(size) or size == 0:
            return None
        small = _SMALL / size
        c2 = pairs[:, 1, None, None] + pairs[:, 0, None, None] * (here - small * bend)
        assert self.view.held is not None
        made = dataclasses.replace(self.view, held=np.where(np.isfinite(self.view.held), c2, np.nan))
        run_pass = full_batch_pass(self.model, made, self.min_lag, precise=False)
        found = linearize(run_pass(theta, pairs), self.scaling, np.asarray(self.view.source.sigma, dtype=float))
        return dataclasses.replace(found, residual=found.residual / small)
