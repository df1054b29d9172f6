"""The mapping that ``fit_nlsq_jax`` takes, as a Dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from homodyne.data.arrays import check_phi
from homodyne.data.dataset import Dataset
from homodyne.data.formats.npz import REQUIRED, time_axis
from homodyne.data.table import UNIFORM, uniform_spacing
from homodyne.errors import InputError


def from_mapping(data: Mapping[str, Any]) -> Dataset:
    """Dataset from the keys ``phi_angles_list, c2_exp, t1, t2, wavevector_q_list`` and optionally ``sigma, L, dt``.

    Units: deg, s, 1/angstrom, angstrom. ``dt`` must be the spacing of ``t1``: times are seconds, not frame numbers.

    Raises:
        InputError: missing keys, t1 and t2 that differ, dt that contradicts t1, and all cases of ``from_arrays``.
    """
    missing = [key for key in REQUIRED if key not in data]
    if missing:
        raise InputError("data", sorted(data), f"lacks {', '.join(missing)}", f"give {', '.join(REQUIRED)}")
    c2, phi = np.asarray(data["c2_exp"]), check_phi(data["phi_angles_list"])
    n_t = c2.shape[-1] if c2.ndim else 0
    t1, t2 = (time_axis(name, data[name], n_t) for name in ("t1", "t2"))
    dt = uniform_spacing("t1", t1)
    if np.max(np.abs(t1 - t2)) > UNIFORM * dt:
        raise InputError("t2", t2[:3].tolist(), "differs from t1", "give the same times along both axes")
    stated = data.get("dt")
    if stated is not None and abs(float(stated) - dt) > UNIFORM * dt:
        raise InputError("dt", float(stated), f"contradicts the spacing {dt:.6g} s of t1", "give t1 and t2 in seconds")
    q = np.atleast_1d(np.asarray(data["wavevector_q_list"], dtype=np.float64))
    if q.shape not in ((1,), phi.shape):
        raise InputError(
            "wavevector_q_list", q.tolist(), f"does not fit the {phi.size} matrices", "give one q, or one per matrix"
        )
    return Dataset.from_arrays(c2, phi, t1, q if q.size > 1 else float(q[0]), data.get("L"), data.get("sigma"))
