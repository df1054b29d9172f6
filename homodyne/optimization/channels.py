"""Channel values and their parameter derivatives on the frame grid: everything about theta, before any pair is seen."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from homodyne.models import Channel, Geometry, Model, Phase


class Frames(NamedTuple):
    """Per-frame quantities of one channel, as a pair needs them from its earlier or its later frame.

    Attributes:
        z: channel value, (n,).
        dz: derivative with respect to the channel's own parameters, (p_c, n).
        sin, cos: of ``z`` for a phase channel, empty arrays otherwise.
    """

    z: jax.Array
    dz: jax.Array
    sin: jax.Array
    cos: jax.Array


class Side(NamedTuple):
    """All channels seen from the earlier and from the later frame of a pair; equal unless a channel is pairwise constant."""

    early: tuple[Frames, ...]
    late: tuple[Frames, ...]


@partial(jax.jit, static_argnames=("model", "n_padded"))
def frame_values(
    model: Model, theta: jax.Array, t: jax.Array, frames: jax.Array, geometry: Geometry, n_padded: int
) -> Side:
    """Evaluate the channels of all angles at ``frames`` of the grid ``t``, padded to ``n_padded`` by the last frame.

    Integrals run over the whole grid ``t``; ``frames`` selects afterwards, so that a fit of some frames uses the same
    physics as a fit of all.

    Args:
        geometry: with ``phi`` of shape (n_phi,).

    Returns:
        Side whose arrays have a leading axis of n_phi.
    """
    index = jnp.concatenate([frames, jnp.full((n_padded - frames.shape[0],), frames[-1])])
    return jax.vmap(lambda phi: _one_angle(model, theta, t, index, geometry._replace(phi=phi)))(geometry.phi)


def _one_angle(model: Model, theta: jax.Array, t: jax.Array, index: jax.Array, geometry: Geometry) -> Side:
    early, late = [], []
    for channel in model.channels:

        def values(x: jax.Array, channel: Channel = channel) -> jax.Array:
            return channel.values(x, t, geometry)

        own = theta[jnp.array(model.indices(channel), dtype=int)]
        z, dz = values(own)[index], jax.jacfwd(values)(own).T[:, index]
        empty = jnp.zeros((0,))
        late.append(Frames(z, dz, jnp.sin(z) if channel.phase else empty, jnp.cos(z) if channel.phase else empty))
        constant = Frames(
            jnp.zeros_like(z), jnp.zeros_like(dz), jnp.zeros_like(late[-1].sin), jnp.ones_like(late[-1].cos)
        )
        early.append(constant if channel.pairwise_constant else late[-1])
    return Side(tuple(early), tuple(late))


def angle(side: Side, k: jax.Array | int) -> Side:
    """The channels of one angle out of all."""
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, k, keepdims=False), side)


def take(frames: Frames, start: jax.Array, length: int) -> Frames:
    """``length`` consecutive frames from ``start``."""

    def cut(a: jax.Array) -> jax.Array:
        return a if a.shape[-1] == 0 else jax.lax.dynamic_slice_in_dim(a, start, length, axis=-1)

    return Frames(*(cut(a) for a in frames))


def gather(frames: Frames, index: jax.Array) -> Frames:
    """Frames at arbitrary positions."""
    return Frames(*(a if a.shape[-1] == 0 else a[..., index] for a in frames))


def kernel_fields(model: Model, early: tuple[Frames, ...], late: tuple[Frames, ...], mesh: bool):
    """Kernel ``s`` and its derivative with respect to every channel difference.

    Args:
        early, late: channels at the earlier and later frames.
        mesh: True for all pairs of the two sets, (R, C); False for element-wise pairs, (L,).

    Returns:
        ``s`` and a tuple of fields ``f_c = ds/dz_c``, all of the same shape; None for an exponential channel, whose
        field is ``-s``.

    Sine and cosine of a difference come from the angle-addition theorem, so that only products are evaluated per pair;
    the chain rule through them is added by hand: ds/dx = d_x + cos x d_sin - sin x d_cos.
    """

    def pairwise(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (a[:, None], b[None, :]) if mesh else (a, b)

    arguments: list[jax.Array | Phase] = []
    for channel, a, b in zip(model.channels, early, late, strict=True):
        z1, z2 = pairwise(a.z, b.z)
        if not channel.phase:
            arguments.append(z2 - z1)
            continue
        sin1, sin2 = pairwise(a.sin, b.sin)
        cos1, cos2 = pairwise(a.cos, b.cos)
        arguments.append(Phase(z2 - z1, sin2 * cos1 - cos2 * sin1, cos2 * cos1 + sin2 * sin1))
    differentiated = tuple(c for c, channel in enumerate(model.channels) if not channel.exponential)
    evaluate = (
        jax.value_and_grad(model.kernel, argnums=differentiated) if differentiated else _without_gradient(model.kernel)
    )
    for _ in range(2 if mesh else 1):
        evaluate = jax.vmap(evaluate)
    s, gradient = evaluate(*(jax.tree.map(lambda x: jnp.broadcast_to(x, _shape(arguments)), a) for a in arguments))
    fields: list[jax.Array | None] = [None] * len(arguments)
    for c, g in zip(differentiated, gradient, strict=True):
        argument = arguments[c]
        if isinstance(argument, Phase):
            fields[c] = g.x + argument.cos * g.sin - argument.sin * g.cos
        else:
            fields[c] = g
    return s, tuple(fields)


def _without_gradient(kernel):
    return lambda *arguments: (kernel(*arguments), ())


def _shape(arguments: list[jax.Array | Phase]) -> tuple[int, ...]:
    return jnp.broadcast_shapes(*(leaf.shape for leaf in jax.tree.leaves(arguments)))
