"""Channel values and their parameter derivatives on the frame grid: everything about theta, before any pair is seen."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.models import Channel, Geometry, Model, Phase

BATCH_FRAMES = 30_000  # angles times frames whose channels are evaluated, and held while streaming, at a time: 3 MB


class Frames(NamedTuple):
    """Per-frame quantities of one channel, as a pair needs them from its earlier or its later frame.

    Attributes:
        z: channel value, (n,).
        dz: derivative with respect to the channel's own parameters, (p_c, n).
        sin, cos: of ``z`` for a phase channel, empty arrays otherwise.
        exp: of an exponential channel, its factor of exp(-(z2 - z1)): exp(z - z_ref) at the earlier frames,
            exp(-(z - z_ref)) at the later ones, see ``seen_from``; empty where the exponential is taken per pair.
    """

    z: jax.Array
    dz: jax.Array
    sin: jax.Array
    cos: jax.Array
    exp: jax.Array


class Side(NamedTuple):
    """All channels seen from the earlier and from the later frame of a pair; equal unless a channel is pairwise constant."""

    early: tuple[Frames, ...]
    late: tuple[Frames, ...]


def frame_values(
    model: Model, theta: np.ndarray, t: np.ndarray, frames: np.ndarray, geometry: Geometry, n_padded: int
) -> Side:
    """Evaluate the channels of all angles at ``frames`` of the grid ``t``, padded to ``n_padded`` by the last frame.

    Integrals run over the whole grid ``t``, a few angles at a time; ``frames`` selects afterwards, so that a fit of some
    frames uses the same physics as a fit of all.

    Args:
        geometry: with ``phi`` and ``q`` of shape (n_phi,).

    Returns:
        Side whose arrays have a leading axis of n_phi.
    """
    phi, q = np.asarray(geometry.phi), np.asarray(geometry.q)
    size = max(1, min(len(phi), BATCH_FRAMES // len(t)))
    index = np.concatenate([frames, np.full(n_padded - len(frames), frames[-1])])
    batches = []
    for first in range(0, len(phi), size):
        few = np.minimum(np.arange(first, first + size), len(phi) - 1)
        here = geometry._replace(phi=jnp.asarray(phi[few]), q=jnp.asarray(q[few]))
        side = _all_frames(model, jnp.asarray(theta), jnp.asarray(t), here)
        batches.append([[_taken(a, index)[: len(phi) - first] for a in f] for f in side])
    channels = zip(*batches, strict=True)
    late = tuple(Frames(*(jnp.asarray(np.concatenate(a)) for a in zip(*f, strict=True))) for f in channels)
    early = tuple(_constant(f) if c.pairwise_constant else f for c, f in zip(model.channels, late, strict=True))
    return Side(early, late)


def _taken(values: jax.Array, index: np.ndarray) -> np.ndarray:
    """``values[..., index]`` by NumPy: nothing to compile for every number of frames."""
    whole = np.asarray(values)
    return whole if whole.shape[-1] == 0 else whole[..., index]


@partial(jax.jit, static_argnames=("model",))
def _all_frames(model: Model, theta: jax.Array, t: jax.Array, geometry: Geometry) -> tuple[Frames, ...]:
    def one_angle(phi: jax.Array, q: jax.Array) -> tuple[Frames, ...]:
        here = geometry._replace(phi=phi, q=q)
        return tuple(_channel(model, channel, theta, t, here) for channel in model.channels)

    return jax.vmap(one_angle)(jnp.asarray(geometry.phi), jnp.asarray(geometry.q))


def _channel(model: Model, channel: Channel, theta: jax.Array, t: jax.Array, geometry: Geometry) -> Frames:
    """One channel as the later frame of a pair sees it."""

    def values(x: jax.Array) -> jax.Array:
        return channel.values(x, t, geometry)

    own = theta[jnp.array(model.indices(channel), dtype=int)]
    z, dz = values(own), jax.jacfwd(values)(own).T
    empty = jnp.zeros((0,))
    sin, cos = (jnp.sin(z), jnp.cos(z)) if channel.phase else (empty, empty)
    return Frames(z, dz, sin, cos, empty)


def _constant(f: Frames) -> Frames:
    """The earlier frame of a channel that is not a difference: nothing to subtract."""
    z, dz, sin = (jnp.asarray(np.zeros(a.shape)) for a in (f.z, f.dz, f.sin))
    return Frames(z, dz, sin, jnp.asarray(np.ones(f.cos.shape)), f.exp)


def angle(side: Side, k: jax.Array | int) -> Side:
    """The channels of one angle out of all."""
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, k, keepdims=False), side)


def take(frames: Frames, start: jax.Array, length: int) -> Frames:
    """``length`` consecutive frames from ``start``."""

    def cut(a: jax.Array) -> jax.Array:
        return a if a.shape[-1] == 0 else jax.lax.dynamic_slice_in_dim(a, start, length, axis=-1)

    return Frames(*(cut(a) for a in frames))


def orthogonalized(side: Side) -> tuple[Side, tuple[np.ndarray, ...]]:
    """The same channels with derivatives in nearly orthogonal combinations of each channel's parameters.

    Derivatives of power laws are almost parallel, and sums over pairs of them lose the digits a solver then needs. In
    the combinations dz_new = R^-T dz, with R of a QR decomposition over the frames, the digits stay.

    Returns:
        the side, and R of every channel, (n_phi, p_c, p_c): dz = R^T dz_new.
    """
    # NumPy: nothing to compile, and in XLA two batched decompositions at a time wait for each other's threads, for ever
    upper = tuple(_triangle(np.asarray(f.dz)) for f in side.late)
    late = tuple(_divided(f, r) for f, r in zip(side.late, upper, strict=True))
    # the earlier frames are the later ones, or those of a pairwise constant channel, whose derivatives are zero
    early = tuple(new if a is b else a for a, b, new in zip(side.early, side.late, late, strict=True))
    return Side(early, late), upper


def _triangle(dz: np.ndarray) -> np.ndarray:
    """R of the centered columns, with a diagonal that can be divided by; (n_phi, p_c, n) -> (n_phi, p_c, p_c)."""
    size = dz.shape[1]
    columns = np.swapaxes(dz - dz.mean(-1, keepdims=True), -1, -2)
    if size == 0 or not np.isfinite(columns).all():  # a point that will be rejected
        return np.broadcast_to(np.eye(size), (len(dz), size, size))
    r = np.asarray(np.linalg.qr(columns, mode="r"))
    norm = np.linalg.norm(columns, axis=-2)
    # a parameter without influence of its own keeps its column, shortened
    least = np.where(norm > 0, 1e-7 * norm, 1.0)
    diagonal = np.einsum("kii->ki", r)
    np.copyto(diagonal, np.where(diagonal < 0, -least, least), where=np.abs(diagonal) < least)
    return r


def _divided(f: Frames, r: np.ndarray) -> Frames:
    """dz replaced by R^-T dz, by substitution: as exact as the numbers themselves, which an inverse of R is not."""
    dz = np.array(f.dz)
    for m in range(dz.shape[1]):
        for n in range(m):
            dz[:, m] -= r[:, n, m, None] * dz[:, n]
        dz[:, m] /= r[:, m, m, None]
    return f._replace(dz=jnp.asarray(dz))


# The exponents of a factored exponential, and their products with anything a kernel may hold, are far from overflow.
_SAFE = {"float64": 300.0, "float32": 60.0}


@partial(jax.jit, static_argnames=("model", "rows", "dtype"))
def can_factor(model: Model, side: Side, rows: int, dtype: str = "float64") -> jax.Array:
    """Whether exp(-(z2 - z1)) may be taken as a product of two numbers per frame in strips of ``rows`` frames.

    Both must be far from overflow: a channel that never falls, and rises by less than ``_SAFE`` within ``rows`` frames.
    """
    ok = jnp.array(True)
    for channel, f in zip(model.channels, side.late, strict=True):
        if channel.exponential:
            rise = f.z[..., rows:] - f.z[..., :-rows]
            ok &= (jnp.diff(f.z, axis=-1) >= 0).all() & (rise < _SAFE[dtype]).all()
    return ok


def seen_from(
    model: Model, frames: tuple[Frames, ...], origin: list[Frames], sign: int, factor: bool, dtype: str
) -> tuple[Frames, ...]:
    """What the kernel needs of these frames, in the given precision.

    Channel values are measured from those at ``origin``, a frame in the middle: differences then keep their digits in
    single precision, too. ``factor`` adds exp(sign * (z - z_origin)) of exponential channels.
    """
    none = jnp.zeros((0,), dtype)
    out = []
    for channel, f, o in zip(model.channels, frames, origin, strict=True):
        z = f.z if channel.pairwise_constant else f.z - o.z
        exp = jnp.exp(sign * z) if factor and channel.exponential else none
        out.append(Frames(*(a.astype(dtype) for a in (z, none, f.sin, f.cos, exp))))
    return tuple(out)


def kernel_fields(model: Model, early: tuple[Frames, ...], late: tuple[Frames, ...]):
    """Kernel ``s`` and its derivative with respect to every channel difference.

    Args:
        early, late: channels at the R earlier and the C later frames.

    Returns: (R, C) each,
        ``s`` and a tuple of fields ``f_c = ds/dz_c``, all of the same shape; None for an exponential channel, whose
        field is ``-s``.

    Sine and cosine of a difference come from the angle-addition theorem, so that only products are evaluated per pair;
    the chain rule through them is added by hand: ds/dx = d_x + cos x d_sin - sin x d_cos.
    """

    arguments, exponential = _pair_arguments(model, early, late)
    s, gradient = _evaluate(model, arguments)
    fields: list[jax.Array | None] = [None] * len(arguments)
    for c, g in gradient.items():
        argument = arguments[c]
        if isinstance(argument, Phase) and isinstance(g, Phase):
            fields[c] = (g.x + argument.cos * g.sin - argument.sin * g.cos) * exponential
        elif not isinstance(g, Phase):
            fields[c] = g * exponential
    return s * exponential, tuple(fields)


def field_values(model: Model, early: tuple[Frames, ...], late: tuple[Frames, ...]) -> jax.Array:
    """g1, whose squared modulus ``kernel_fields`` gives, at the R earlier and C later frames, (R, C); real or complex."""
    arguments, exponential = _pair_arguments(model, early, late)
    field = model.field or (lambda *dz: jnp.sqrt(model.kernel(*dz)))
    for _ in _shape(arguments):
        field = jax.vmap(field)
    shape = _shape(arguments)
    return field(*(jax.tree.map(lambda x: jnp.broadcast_to(x, shape), a) for a in arguments)) * jnp.sqrt(exponential)


def _pair_arguments(
    model: Model, early: tuple[Frames, ...], late: tuple[Frames, ...]
) -> tuple[list[jax.Array | Phase], jax.Array | float]:
    """The kernel's arguments for all pairs, and the factor that exponential channels contribute beside them."""

    def pairwise(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        return a[:, None], b[None, :]

    arguments: list[jax.Array | Phase] = []
    exponential: jax.Array | float = 1.0
    for channel, a, b in zip(model.channels, early, late, strict=True):
        if a.exp.shape[-1]:
            e1, e2 = pairwise(a.exp, b.exp)
            # the kernel without its exponential is the kernel at difference zero
            exponential = exponential * (e1 * e2)
            z1 = z2 = jnp.zeros((), e1.dtype)
        else:
            z1, z2 = pairwise(a.z, b.z)
        if not channel.phase:
            arguments.append(z2 - z1)
            continue
        sin1, sin2 = pairwise(a.sin, b.sin)
        cos1, cos2 = pairwise(a.cos, b.cos)
        arguments.append(Phase(z2 - z1, sin2 * cos1 - cos2 * sin1, cos2 * cos1 + sin2 * sin1))
    return arguments, exponential


def _evaluate(model: Model, arguments: list[jax.Array | Phase]) -> tuple[jax.Array, dict[int, jax.Array | Phase]]:
    """Kernel and its gradient by channel, element by element; arguments without axes are constants."""
    differentiated = tuple(c for c, channel in enumerate(model.channels) if not channel.exponential)
    if differentiated:
        evaluate = jax.value_and_grad(model.kernel, argnums=differentiated)
    else:
        evaluate = _without_gradient(model.kernel)
    constant = [not isinstance(a, Phase) and a.ndim == 0 for a in arguments]
    shape = _shape(arguments)
    for size in reversed(shape):
        evaluate = jax.vmap(evaluate, in_axes=tuple(None if c else 0 for c in constant), axis_size=size)
    s, gradient = evaluate(
        *(
            a if c else jax.tree.map(lambda x: jnp.broadcast_to(x, shape), a)
            for c, a in zip(constant, arguments, strict=True)
        )
    )
    return s, dict(zip(differentiated, gradient, strict=True))


def _without_gradient(kernel):
    return lambda *arguments: (kernel(*arguments), ())


def _shape(arguments: list[jax.Array | Phase]) -> tuple[int, ...]:
    return jnp.broadcast_shapes(*(leaf.shape for leaf in jax.tree.leaves(arguments)))
