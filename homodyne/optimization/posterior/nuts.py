"""Draws from a log density by the no-U-turn sampler of numpyro, chain by chain, a chain a processor."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.optimization.posterior.target import Target
from homodyne.optimization.processors import n_workers
from homodyne.result.arviz import load_arviz

log = logging.getLogger("homodyne")

_CHUNK = 50  # draws between two looks at the clock
_TELL_SECONDS = 10.0
# Acceptance that the steps aim at, and depth of trees: at first, and where chains lost their way or did not mix.
_PLAIN, _CAREFUL = (0.8, 8), (0.98, 10)
_DIVERGING = 0.002  # part of the draws


@dataclasses.dataclass(frozen=True)
class Draws:
    """Of all chains, after warm-up.

    Attributes:
        z: (chains, draws, f). log_density, n_steps, acceptance, diverging: (chains, draws).
    """

    z: np.ndarray
    log_density: np.ndarray
    n_steps: np.ndarray
    acceptance: np.ndarray
    diverging: np.ndarray


def draw(
    target: Target, n_chains: int, n_samples: int, n_warmup: int, seed: int, label: str = "Sampling", width: float = 1.0
) -> Draws:
    """Draw from a target, again with smaller steps where that is needed; the result depends on the seed alone.

    Args:
        label: of the lines in the log. width: of the normal distribution of z in which chains start.
    """
    draws = _draw(target, n_chains, n_samples, n_warmup, seed, label, width, _PLAIN)
    lost = float(draws.diverging.mean())
    if lost <= _DIVERGING and mixed(draws):
        return draws
    why = f"{100 * lost:.1f} % of the draws diverged" if lost > _DIVERGING else "the chains did not mix"
    log.info("%s: %s: again with smaller steps", label, why)
    return _draw(target, n_chains, n_samples, 2 * n_warmup, seed, label, width, _CAREFUL)


def mixed(draws: Draws) -> bool:
    """Whether R-hat of all coordinates is below 1.01."""
    arviz = load_arviz()
    rhat = [float(arviz.rhat(draws.z[..., i])) for i in range(draws.z.shape[-1])]
    return bool(np.nanmax(rhat) < 1.01)


def _draw(
    target: Target,
    n_chains: int,
    n_samples: int,
    n_warmup: int,
    seed: int,
    label: str,
    width: float,
    care: tuple[float, int],
) -> Draws:
    from numpyro.infer.hmc import hmc

    init, step = hmc(potential_fn_gen=lambda of: lambda z: -of.log_density(z), algo="NUTS")
    n_free = int(target.coordinates.center.shape[0])

    @jax.jit
    def chunk(state: Any, of: Target) -> Any:
        def one(state: Any, _: None) -> Any:
            state = step(state, (of,))
            kept = (state.z, state.potential_energy, state.num_steps, state.accept_prob, state.diverging)
            return state, kept

        return jax.lax.scan(one, state, length=_CHUNK)

    progress = _Progress(label, n_chains * (n_warmup + n_samples))
    keys = jax.random.split(jax.random.PRNGKey(seed), n_chains)
    starts = [_start(target, n_free, key, width) for key in keys]

    @jax.jit  # operation by operation it takes ten times as long
    def begin(z: jax.Array, key: jax.Array, of: Target) -> Any:
        return init(
            z, num_warmup=n_warmup, dense_mass=True, target_accept_prob=care[0], max_tree_depth=care[1],
            rng_key=key, model_args=(of,),
        )  # fmt: skip

    # one after the other: they set what all share
    states = [begin(z, key, target) for z, key in zip(starts, keys, strict=True)]

    stopped = threading.Event()

    def chain(state: Any) -> list[np.ndarray]:
        parts: list[list[np.ndarray]] = []
        for _ in range(-(-(n_warmup + n_samples) // _CHUNK)):
            if stopped.is_set():
                break
            state, part = chunk(state, target)
            parts.append([np.asarray(a) for a in part])
            progress.advance(_CHUNK)
        return [np.concatenate(a)[n_warmup : n_warmup + n_samples] for a in zip(*parts, strict=True)]

    with ThreadPoolExecutor(min(n_chains, n_workers())) as pool:
        try:
            chains = list(pool.map(chain, states))
        except BaseException:
            # Ctrl-C reaches this thread alone: the others end after the chunk they are at
            stopped.set()
            raise
    z, potential, n_steps, acceptance, diverging = (np.stack([c[i] for c in chains]) for i in range(5))
    return Draws(z, -potential, n_steps, acceptance, diverging)


def _start(target: Target, n_free: int, key: jax.Array, width: float) -> jax.Array:
    """A point near the fit where the density is not zero."""
    first = width * jax.random.normal(key, (n_free,))
    for _ in range(20):
        if np.isfinite(float(_log_density(target, first))):
            break
        first = 0.5 * first
    return jnp.asarray(first)


@jax.jit
def _log_density(target: Target, z: jax.Array) -> jax.Array:
    return target.log_density(z)


class _Progress:
    """A line in the log now and then, with the time that is left."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, total, 0
        self._began = self._told = time.perf_counter()
        self._first = 0

    def advance(self, n: int) -> None:
        self._done += n
        now = time.perf_counter()
        if not self._first:  # until here most of the time went into compiling
            self._first, self._began = self._done, now
            return
        if now - self._told < _TELL_SECONDS or self._done >= self._total:
            return
        self._told = now
        left = (now - self._began) * (self._total - self._done) / max(self._done - self._first, 1)
        log.info("%s: %d of %d draws, about %.0f s left", self._label, self._done, self._total, left)
