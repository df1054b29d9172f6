"""What a model is: a few channels, each a function of time, and one pointwise kernel of their differences.

Every two-time model here has the form

    s(phi, t1, t2; theta) = kernel(z(t2) - z(t1)),     c2 = offset_phi + contrast_phi * s

with a handful of *channels* ``z_c(t; theta, phi)``, usually time integrals of a rate. The optimizer uses this: the
derivative of ``s`` at a pair is the kernel's derivative times a difference of per-frame derivatives,

    ds/dtheta_m (t1, t2) = sum_c  dkernel/dz_c * (dz_c/dtheta_m (t2) - dz_c/dtheta_m (t1)),

so that sums over n_t**2 pairs need only matrix products with n_t-vectors, never a Jacobian of all pairs.
A new model gives its channels and its kernel; derivatives and speed come for free. See docs/own_model.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from homodyne.compiled_code import keep_compiled_code
from homodyne.errors import InputError
from homodyne.parameters import Parameter, check_values, pack

jax.config.update("jax_enable_x64", True)
keep_compiled_code()


class Geometry(NamedTuple):
    """What the experiment fixes for one sector: azimuth [degree], q [1/angstrom], gap [angstrom] (NaN when absent), dt [s].

    ``q_ref`` [1/angstrom] lies in the middle of the q of a measurement at several (see ``reference_q``), NaN at one q.
    """

    phi: jax.Array | float
    q: jax.Array | float
    gap: jax.Array | float
    dt: jax.Array | float
    q_ref: jax.Array | float = math.nan


class Phase(NamedTuple):
    """A channel difference whose kernel is trigonometric: the difference ``x`` [rad] with its sine and cosine."""

    x: jax.Array
    sin: jax.Array
    cos: jax.Array


@dataclasses.dataclass(frozen=True)
class Channel:
    """One function of time whose difference between two frames enters the kernel.

    Attributes:
        name: for messages and plots.
        parameters: names of the physical parameters it depends on; ``values`` receives exactly these, in this order.
        values: ``values(theta_c (p_c,), t (n_t,), geometry) -> (n_t,)``, differentiable in ``theta_c``.
        phase: the kernel receives a ``Phase`` (difference, sine, cosine) instead of the bare difference. Sine and
            cosine of a difference are products of per-frame ones, which is far cheaper than evaluating them per pair.
        pairwise_constant: ``values`` returns one number per frame that is handed to the kernel as it is, not as a
            difference (an exponent, say). Take it at the later frame.
        exponential: the kernel is exp(-difference) times something free of this channel, so that its derivative is
            minus the kernel itself: fewer fields to evaluate.
    """

    name: str
    parameters: tuple[str, ...]
    values: Callable[[jax.Array, jax.Array, Geometry], jax.Array]
    phase: bool = False
    pairwise_constant: bool = False
    exponential: bool = False


@dataclasses.dataclass(frozen=True)
class Rate:
    """A physical rate for reports, for example J(t) [angstrom^2/s]; ``values`` as in ``Channel``.

    ``positive`` marks a rate that must not change its sign: trial points where it does are rejected. ``integral`` and
    ``integral_unit`` name its time integral, where that is worth showing.
    """

    name: str
    unit: str
    parameters: tuple[str, ...]
    values: Callable[[jax.Array, jax.Array, Geometry], jax.Array]
    positive: bool = False
    integral: str = ""
    integral_unit: str = ""


@dataclasses.dataclass(frozen=True)
class Model:
    """A two-time model: parameters, channels and a pointwise kernel.

    Attributes:
        name, convention: recorded with every fit.
        parameters: physical parameters, p of them, in the order of every theta vector.
        channels: see ``Channel``.
        kernel: ``kernel(*differences) -> s`` for scalars, one argument a channel (``Phase`` for phase channels).
        rates: curves worth showing, and the sign conditions of the model.
        needs_gap: the rotor-stator distance enters.
        needs_several_q: a parameter says how something depends on q, which one q cannot tell.
        needs_one_q: no parameter says how anything depends on q, so that several q cannot be fitted together.
        field: ``field(*differences) -> g1``, whose squared modulus the kernel is, needed where g1 changes its sign or is
            complex; by default the positive root. Only simulation and errors use it: light with this g1 is what they draw.
    """

    name: str
    parameters: tuple[Parameter, ...]
    channels: tuple[Channel, ...]
    kernel: Callable[..., jax.Array]
    rates: tuple[Rate, ...] = ()
    needs_gap: bool = False
    convention: str = "physical"
    field: Callable[..., jax.Array] | None = None
    needs_several_q: bool = False
    needs_one_q: bool = False

    def __post_init__(self) -> None:
        known = {p.name for p in self.parameters}
        parts: tuple[Channel | Rate, ...] = (*self.channels, *self.rates)
        for part in parts:
            for name in part.parameters:
                if name not in known:
                    raise InputError(
                        f"{part.name}.parameters", name, "is not a parameter of the model", f"known: {sorted(known)}"
                    )

    def indices(self, part: Channel | Rate) -> tuple[int, ...]:
        """Positions in theta of the parameters that ``part`` depends on."""
        order = {p.name: i for i, p in enumerate(self.parameters)}
        return tuple(order[name] for name in part.parameters)

    def channel_values(self, theta: jax.Array, t: jax.Array, geometry: Geometry) -> list[jax.Array]:
        """z_c(t) for every channel, each (n_t,)."""
        return [c.values(theta[jnp.array(self.indices(c), dtype=int)], t, geometry) for c in self.channels]

    def rate_values(self, theta: jax.Array, t: jax.Array, geometry: Geometry) -> list[jax.Array]:
        """Every rate on the frame grid, each (n_t,)."""
        return [r.values(theta[jnp.array(self.indices(r), dtype=int)], t, geometry) for r in self.rates]

    def feasible(self, points: np.ndarray, t: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Whether every rate marked positive is positive on all frames, for each of the points (n, p); (n,) bool."""
        return np.asarray(_feasible(self, jnp.asarray(points), jnp.asarray(t), geometry))

    def rate_curves(self, theta: np.ndarray, t: np.ndarray, geometry: Geometry) -> dict[str, np.ndarray]:
        """Every rate on the frame grid by name, for example J [angstrom^2/s] and gamma_dot [1/s]."""
        values = _rates(self, jnp.asarray(theta), jnp.asarray(t), geometry)
        return {r.name: np.asarray(v) for r, v in zip(self.rates, values, strict=True)}

    def rate_jacobians(self, theta: np.ndarray, t: np.ndarray, geometry: Geometry) -> dict[str, np.ndarray]:
        """Derivatives of every rate with respect to theta, (p, n_t) each."""
        values = _rate_jacobians(self, jnp.asarray(theta), jnp.asarray(t), geometry)
        return {r.name: np.asarray(v).T for r, v in zip(self.rates, values, strict=True)}

    def g1_squared(
        self,
        theta: Mapping[str, float] | np.ndarray,
        t: np.ndarray,
        phi: float,
        q: float,
        gap: float | None = None,
        frames: np.ndarray | None = None,
        q_ref: float = math.nan,
    ) -> np.ndarray:
        """``s(t1, t2) = |g1|**2`` on the frame grid, (n_t, n_t), for display and simulation.

        Args:
            theta: parameter values, named or in model order.
            t: uniform frame times [s], (n_t,).
            phi, q, gap: azimuth [degree], wave vector [1/angstrom], gap [angstrom] (laminar flow only).
            frames: positions on the grid of those that are wanted, (m,): returns (m, m). Integrals run over all frames.
            q_ref: ``reference_q`` of the measurement [1/angstrom], for models of several q.

        Raises:
            InputError: gap or q_ref missing where the model needs it; a parameter missing or out of bounds.
        """
        return self._pairs(False, theta, t, phi, q, gap, frames, q_ref)

    def g1(
        self,
        theta: Mapping[str, float] | np.ndarray,
        t: np.ndarray,
        phi: float,
        q: float,
        gap: float | None = None,
        frames: np.ndarray | None = None,
        q_ref: float = math.nan,
    ) -> np.ndarray:
        """The field correlation g1(t1, t2) = <E*(t1) E(t2)> on the frame grid; arguments as in ``g1_squared``.

        Real and signed, or complex and Hermitian where the model's ``field`` is complex.
        """
        return self._pairs(True, theta, t, phi, q, gap, frames, q_ref)

    def _pairs(self, of_field: bool, theta, t, phi, q, gap, frames, q_ref) -> np.ndarray:
        if isinstance(theta, Mapping):
            theta = pack(check_values(theta, self.parameters, "theta"), self.parameters)
        geometry = self.geometry(phi, q, gap, float(t[1] - t[0]), q_ref)
        wanted = np.arange(len(t)) if frames is None else np.asarray(frames)
        z = [c[wanted] for c in self.channel_curves(np.asarray(theta), t, geometry)]
        return np.asarray(_evaluate(self, of_field, z, jnp.asarray(wanted)))

    def channel_curves(self, theta: np.ndarray, t: np.ndarray, geometry: Geometry) -> list[np.ndarray]:
        """z_c(t) of every channel, (n_t,) each."""
        return [np.asarray(z) for z in _channels(self, jnp.asarray(theta), jnp.asarray(t), geometry)]

    def geometry(self, phi: float, q: float, gap: float | None, dt: float, q_ref: float = math.nan) -> Geometry:
        """Geometry of one sector, after checking that a gap, and several q, are there if the model needs them."""
        if self.needs_gap and gap is None:
            raise InputError(
                "gap", gap, f"is missing and {self.name} needs it", "give the rotor-stator distance in angstrom"
            )
        if self.needs_several_q and not math.isfinite(q_ref):
            raise InputError(
                "q", q, f"is one q and {self.name} needs several: one q cannot tell how D depends on q",
                f"select several q, dataset.q=[q1,q2], or use model={self.name.removesuffix('_joint_q')}",
            )  # fmt: skip
        if self.needs_one_q and math.isfinite(q_ref):
            raise InputError(
                "q", q, f"is one of several and {self.name} knows one: it does not say how its rate depends on q",
                "fit one q after another, dataset.q=Q",
            )  # fmt: skip
        return Geometry(phi, q, math.nan if gap is None else gap, dt, q_ref)


# Sectors of one ring may state slightly different q: this relative spread is still one q.
_ONE_Q = 1e-3


def reference_q(q: np.ndarray | float) -> float:
    """Geometric mean of the different q of a measurement [1/angstrom], to three digits; NaN where there is only one.

    D(q) = D0 (q / q_ref)**q_exponent is D0 there, in the middle of the data: nothing is extrapolated.
    """
    different = np.unique(np.asarray(q, dtype=float))
    if different[-1] <= different[0] * (1 + _ONE_Q):
        return math.nan
    return float(f"{np.exp(np.log(different).mean()):.3g}")


def differences(model: Model, early: list[jax.Array], late: list[jax.Array]) -> list[jax.Array | Phase]:
    """Kernel arguments for one pair from channel values at the earlier and the later frame."""
    out: list[jax.Array | Phase] = []
    for channel, z1, z2 in zip(model.channels, early, late, strict=True):
        dz = z2 if channel.pairwise_constant else z2 - z1
        out.append(Phase(dz, jnp.sin(dz), jnp.cos(dz)) if channel.phase else dz)
    return out


@partial(jax.jit, static_argnames=("model",))
def _feasible(model: Model, points: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    def one(theta: jax.Array) -> jax.Array:
        rates = zip(model.rates, model.rate_values(theta, t, geometry), strict=True)
        return jnp.all(jnp.array([True, *(jnp.all(v > 0) for r, v in rates if r.positive)]))

    return jax.vmap(one)(points)


@partial(jax.jit, static_argnames=("model",))
def _rates(model: Model, theta: jax.Array, t: jax.Array, geometry: Geometry) -> list[jax.Array]:
    return model.rate_values(theta, t, geometry)


@partial(jax.jit, static_argnames=("model",))
def _rate_jacobians(model: Model, theta: jax.Array, t: jax.Array, geometry: Geometry) -> list[jax.Array]:
    return jax.jacfwd(lambda x: model.rate_values(x, t, geometry))(theta)


@partial(jax.jit, static_argnames=("model",))
def _channels(model: Model, theta: jax.Array, t: jax.Array, geometry: Geometry) -> list[jax.Array]:
    return model.channel_values(theta, t, geometry)


@partial(jax.jit, static_argnames=("model", "of_field"))
def _evaluate(model: Model, of_field: bool, z: list[jax.Array], frames: jax.Array) -> jax.Array:
    """The kernel, or the field whose squared modulus it is, for all pairs of frames."""

    def value(*dz: jax.Array | Phase) -> jax.Array:
        if not of_field:
            return model.kernel(*dz)
        return jnp.sqrt(model.kernel(*dz)) if model.field is None else model.field(*dz)

    def pair(a: jax.Array, b: jax.Array) -> jax.Array:
        ahead = frames[a] <= frames[b]
        early, late = jnp.where(ahead, a, b), jnp.where(ahead, b, a)
        found = value(*differences(model, [c[early] for c in z], [c[late] for c in z]))
        return jnp.where(ahead, found, found.conj()) if jnp.iscomplexobj(found) else found

    places = jnp.arange(len(frames))
    return jax.vmap(lambda a: jax.vmap(lambda b: pair(a, b))(places))(places)
