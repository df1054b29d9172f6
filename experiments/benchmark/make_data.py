#!/usr/bin/env python3
"""Write a simulated laminar-flow measurement of any size, tile by tile, never holding more than one tile.

    python make_data.py 100x1415 outputs/benchmark/100x1415.nc

Truth is ``homodyne.simulate.synthetic.THETA`` over 20 s, contrasts differ by 10 % between the angles, offset 1,
independent noise 0.005, float32.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

SECONDS, Q, GAP, NOISE, CONTRAST, SPREAD = 20.0, 0.0054, 2e6, 0.005, 0.25, 0.1


def size(case: str) -> tuple[int, int]:
    """(n_phi, n_t) from text such as ``100x1415``."""
    n_phi, n_t = case.split("x")
    return int(n_phi), int(n_t)


def points_of(case: str) -> int:
    """Unordered pairs over all angles."""
    n_phi, n_t = size(case)
    return n_phi * (n_t * (n_t - 1) // 2)


def case_of(n_points: int) -> str:
    """The size nearest to so many points: 23 angles below 10^8, 100 from there on."""
    n_phi = 100 if n_points >= 10**8 else 23
    n_t = round(0.5 * (1 + (1 + 8 * n_points / n_phi) ** 0.5))
    return f"{n_phi}x{max(n_t, 16)}"


def maker(n_phi: int, n_t: int, seed: int) -> Callable:
    """``fill(k, rows, cols)`` of ``write_netcdf_stream``."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from homodyne.models import Phase, get_model
    from homodyne.simulate.synthetic import THETA

    model = get_model("laminar_flow")
    theta = jnp.array([THETA[p.name] for p in model.parameters])
    t = jnp.arange(n_t) * (SECONDS / n_t)
    phi = np.linspace(-85.0, 85.0, n_phi)
    contrast = CONTRAST * (1 + SPREAD * np.cos(2.4 * np.arange(n_phi)))
    rng = np.random.Generator(np.random.SFC64(seed))

    @partial(jax.jit, static_argnames=("n_rows", "n_cols"))
    def clean(values, scale, row, col, n_rows, n_cols):
        arguments = []
        for channel, z in zip(model.channels, values, strict=True):
            later, earlier = (jax.lax.dynamic_slice(z, (start,), (n,)) for start, n in ((col, n_cols), (row, n_rows)))
            x = later[None, :] - earlier[:, None]
            arguments.append(Phase(x, jnp.sin(x), jnp.cos(x)) if channel.phase else x)
        return (1.0 + scale * jax.vmap(jax.vmap(model.kernel))(*arguments)).astype(jnp.float32)

    channels = [model.channel_values(theta, t, model.geometry(float(p), Q, GAP, SECONDS / n_t)) for p in phi]

    def fill(k: int, rows: slice, cols: slice) -> np.ndarray:
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        c2 = rng.standard_normal(shape, dtype=np.float32)
        c2 *= np.float32(NOISE)
        c2 += np.asarray(clean(channels[k], contrast[k], rows.start, cols.start, *shape))
        return c2

    return fill


def told(fill: Callable, n_phi: int, every_s: float = 10.0) -> Callable:
    """The same, with a line on stderr from time to time."""
    last = [time.perf_counter()]

    def fill_and_tell(k: int, rows: slice, cols: slice):
        if time.perf_counter() - last[0] > every_s:
            last[0] = time.perf_counter()
            print(f"  angle {k} of {n_phi} written", file=sys.stderr, flush=True)
        return fill(k, rows, cols)

    return fill_and_tell


def write(case: str, path: Path, seed: int = 0) -> None:
    """The file; it appears under its name when it is complete."""
    import numpy as np

    from homodyne.data.formats.netcdf import write_netcdf_stream

    n_phi, n_t = size(case)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_netcdf_stream(
        path, told(maker(n_phi, n_t, seed), n_phi), phi=np.linspace(-85.0, 85.0, n_phi), n_t=n_t,
        dt=SECONDS / n_t, q=Q, gap=GAP, sigma=np.full(n_phi, NOISE),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="angles x frames, such as 100x1415")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write(args.case, args.file, args.seed)


if __name__ == "__main__":
    main()
