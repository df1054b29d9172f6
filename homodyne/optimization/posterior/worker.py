"""One shard in a process of its own: ``python -m homodyne.optimization.posterior.worker payload.npz result.npz``."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from homodyne.files import save_whole
from homodyne.machine import peak_resident_gb

if TYPE_CHECKING:
    from homodyne.optimization.posterior.nuts import Draws
    from homodyne.optimization.posterior.target import Shard


def write_payload(path: Path, shard: Shard, settings: dict[str, Any]) -> str:
    """The shard as plain arrays, and how its chains run; models by name. Returns a digest of it all."""
    import hashlib

    import jax

    model = shard.misfit.model
    facts = {
        "model": model.name, "convention": model.convention, "free": shard.misfit.free, "separate": shard.misfit.separate,
        "priors": [[p.kind, p.mean, p.sd] for p in shard.coordinates.priors], "settings": settings,
    }  # fmt: skip
    arrays = {f"a{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(shard))}
    text = json.dumps(facts, sort_keys=True)
    _write(path, facts=np.array(text), **arrays)
    return hashlib.sha256(b"".join([text.encode(), *(a.tobytes() for a in arrays.values())])).hexdigest()[:16]


def read_payload(path: Path) -> tuple[Shard, dict[str, Any]]:
    """What ``write_payload`` wrote."""
    import jax
    import jax.numpy as jnp

    from homodyne.models import Geometry, get_model
    from homodyne.optimization.posterior.coordinates import Coordinates
    from homodyne.optimization.posterior.likelihood import Misfit
    from homodyne.optimization.posterior.metric import Metric
    from homodyne.optimization.posterior.priors import Prior
    from homodyne.optimization.posterior.summary import Summary
    from homodyne.optimization.posterior.target import Shard

    with np.load(path, allow_pickle=False) as file:
        facts = json.loads(str(file["facts"]))
        arrays = [jnp.asarray(file[f"a{i}"]) for i in range(len(file.files) - 1)]
    model = get_model(facts["model"], facts["convention"])
    nothing = (jnp.zeros(()),) * 9
    skeleton = Shard(
        Misfit(
            model, tuple(facts["free"]), facts["separate"], Summary(*nothing[:9]), *nothing[:5], Geometry(*nothing[:5])
        ),
        Metric(*nothing[:4]),
        Coordinates(tuple(Prior(*p) for p in facts["priors"]), *nothing[:6]),
        *nothing[:3],
    )
    return jax.tree.unflatten(jax.tree.structure(skeleton), arrays), facts["settings"]


def write_draws(path: Path, draws: Draws) -> None:
    """The draws, and the largest memory of this process [GB]."""
    arrays = {name: getattr(draws, name) for name in ("z", "log_density", "n_steps", "acceptance", "diverging")}
    _write(path, peak_gb=np.array(peak_resident_gb()), **arrays)


def read_draws(path: Path) -> tuple[Draws, float]:
    """What ``write_draws`` wrote."""
    from homodyne.optimization.posterior.nuts import Draws

    with np.load(path, allow_pickle=False) as file:
        names = ("z", "log_density", "n_steps", "acceptance", "diverging")
        return Draws(*(file[name] for name in names)), float(file["peak_gb"])


def _write(path: Path, **arrays: np.ndarray) -> None:
    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    save_whole(path, write)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however it ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Read the shard, draw, write the draws."""
    _end_with_parent()
    payload, result = Path(sys.argv[1]), Path(sys.argv[2])
    shard, settings = read_payload(payload)
    from homodyne.optimization.posterior.nuts import draw

    write_draws(result, draw(shard, **settings))


if __name__ == "__main__":
    main()
