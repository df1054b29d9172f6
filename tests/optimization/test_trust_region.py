"""The bounded loop on small dense problems with known optimum: it ends at the optimum, or says why it did not."""

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.optimize

from homodyne.optimization.normal import Linearization, PassSums
from homodyne.optimization.trust_region import Problem, Tolerances, bounded_step, minimize, scales
from homodyne.result import Status

INF = 1e9  # the loop wants numbers; these bounds are never met


def linearization(residual, jacobian):
    """r and A = -dr/dtheta as a pass would return them; non-finite residuals as a cost that is not finite."""
    r, a = np.asarray(residual, dtype=float), -np.atleast_2d(np.asarray(jacobian, dtype=float))
    sums = PassSums(np.zeros((1, 1, a.shape[1] + 3)), np.array([float(len(r))]), np.zeros((1, 2)))
    return Linearization(0.5 * float(r @ r), a, r, np.zeros((1, 2)), np.array([r @ r]), np.zeros((len(r), 0)), a, sums)


def numeric_jacobian(residual, theta):
    """Complex steps: exact to rounding."""
    steps = np.eye(len(theta)) * 1e-30
    return np.stack([residual(theta + 1j * h).imag / 1e-30 for h in steps], axis=1)


@dataclasses.dataclass(frozen=True)
class Toy:
    """A least-squares problem with its start and bounds; ``residual`` takes complex parameters."""

    residual: object
    start: tuple
    lower: tuple
    upper: tuple
    feasible: object = lambda theta: True
    free: tuple | None = None

    def evaluate(self, theta):
        return linearization(self.residual(theta), numeric_jacobian(self.residual, theta))

    def problem(self, **replaced):
        free = np.ones(len(self.start), dtype=bool) if self.free is None else np.array(self.free)
        parts = {"evaluate": self.evaluate, "feasible": self.feasible, "free": free}
        return Problem(**{**parts, "lower": np.array(self.lower), "upper": np.array(self.upper), **replaced})

    def optimum(self):
        """scipy's bounded optimum, from the same start."""
        found = scipy.optimize.least_squares(
            lambda x: np.real(self.residual(np.asarray(x))), self.start, lambda x: numeric_jacobian(self.residual, x),
            (self.lower, self.upper), xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac", max_nfev=2000,
        )  # fmt: skip
        return found.x, found.cost


RNG = np.random.default_rng(0)
MATRIX, VALUES = RNG.normal(size=(30, 3)) * [1.0, 1e4, 1e-3], RNG.normal(size=30)
TIMES = np.linspace(0.0, 4.0, 80)
DECAY = 2.0 * np.exp(-TIMES) + 1.0 * np.exp(-1.6 * TIMES) + 1e-3 * RNG.normal(size=80)


def linear(theta):
    return VALUES - MATRIX @ theta


def rosenbrock(theta):
    """With a constant residual, so that there is noise to measure steps against."""
    return np.array([10 * (theta[1] - theta[0] ** 2), 1 - theta[0], 0.1 + 0 * theta[0]])


def two_decays(theta):
    """Rates close to one another: amplitudes and rates are correlated to 0.999 and more."""
    a, b, k1, k2 = theta
    return DECAY - a * np.exp(-k1 * TIMES) - b * np.exp(-k2 * TIMES)


def logarithm(theta):
    """Not finite below 0, where the first undamped step from 10 leads."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([np.log(theta[0]), 0.1 + 0 * theta[0]]) if theta[0].real > 0 else np.array([np.nan, np.nan])


FREE3 = ((-INF,) * 3, (INF,) * 3)
TOYS = {
    "linear, columns of 1, 1e4, 1e-3": Toy(linear, (5.0, -3.0, 800.0), *FREE3),
    "curved valley": Toy(rosenbrock, (-1.2, 1.0), (-INF, -INF), (INF, INF)),
    "two close decays": Toy(two_decays, (1.6, 1.3, 0.9, 1.9), (0.0,) * 4, (10.0, 10.0, 5.0, 5.0)),
    "bound active at the optimum": Toy(linear, (0.0, 0.0, 0.0), (-0.01, -INF, -INF), (0.01, INF, 10.0)),
    "curved valley cut by a bound": Toy(rosenbrock, (-1.2, 1.0), (-2.0, -2.0), (0.5, 2.0)),
    "infeasible region on the way": Toy(
        rosenbrock, (-1.2, 1.0), (-INF, -INF), (INF, INF), lambda theta: bool(theta[1] > -0.5)
    ),
}


def run(toy, tolerances=None, damping=1e-3, **replaced):
    infos = []
    state = minimize(
        toy.problem(**replaced), np.array(toy.start), tolerances or Tolerances(xtol=1e-7), infos.append, damping
    )
    return state, infos


@pytest.mark.parametrize("damping", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("name", TOYS)
def test_ends_at_the_optimum(name, damping):
    toy = TOYS[name]
    state, infos = run(toy, damping=damping)
    theta, cost = toy.optimum()
    assert state.status is Status.CONVERGED
    assert state.at.cost == pytest.approx(cost, rel=1e-9)
    np.testing.assert_allclose(state.theta, theta, rtol=1e-5, atol=1e-8 * np.abs(theta).max())
    assert np.all((state.theta >= toy.lower) & (state.theta <= toy.upper))
    accepted = [i.cost for i in infos if i.accepted]
    assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(accepted))
    assert infos[-1].step_norm <= 1e-7


def test_active_bounds_are_met_exactly():
    state, _ = run(TOYS["bound active at the optimum"])
    assert abs(state.theta[0]) == 0.01


def test_linear_problem_is_solved_in_one_step():
    state, infos = run(TOYS["linear, columns of 1, 1e4, 1e-3"], damping=0.0)
    assert len(infos) <= 3
    assert infos[1].step_norm < 1e-4  # the least damping leaves 1e-10 of the first step, 1e5 standard errors long
    np.testing.assert_allclose(state.theta, np.linalg.lstsq(MATRIX, VALUES, rcond=None)[0], rtol=1e-10)


def test_start_at_the_optimum_is_recognized_in_one_pass():
    theta, _ = TOYS["two close decays"].optimum()
    state, infos = run(dataclasses.replace(TOYS["two close decays"], start=tuple(theta)), Tolerances(xtol=1e-4))
    assert state.status is Status.CONVERGED
    assert len(infos) == 1
    np.testing.assert_allclose(state.theta, theta, rtol=1e-8)


def test_a_fixed_parameter_does_not_move():
    toy = Toy(linear, (5.0, 2e-5, 800.0), *FREE3, free=(True, False, True))
    state, _ = run(toy)
    assert state.theta[1] == 2e-5
    rest = np.linalg.lstsq(MATRIX[:, [0, 2]], VALUES - MATRIX[:, 1] * 2e-5, rcond=None)[0]
    np.testing.assert_allclose(state.theta[[0, 2]], rest, rtol=1e-9)


def test_nothing_free_is_converged_at_the_start():
    toy = Toy(linear, (5.0, 1.0, 800.0), *FREE3, free=(False, False, False))
    state, infos = run(toy)
    assert (state.status, len(infos)) == (Status.CONVERGED, 1)
    np.testing.assert_array_equal(state.theta, toy.start)


def test_a_trial_point_of_no_finite_cost_is_rejected():
    state, infos = run(Toy(logarithm, (10.0,), (-INF,), (INF,)), damping=0.0)
    assert any(not np.isfinite(i.cost) and not i.accepted for i in infos)
    assert state.status is Status.CONVERGED
    assert state.theta[0] == pytest.approx(1.0, abs=1e-8)


def test_a_start_of_no_finite_cost_is_not_converged():
    bad = dataclasses.replace(linearization([1.0], [[0.0]]), cost=float("inf"))
    state, infos = run(Toy(linear, (1.0,), (-INF,), (INF,)), evaluate=lambda theta: bad)
    assert (state.status, len(infos)) == (Status.STALLED, 1)


def test_no_step_that_lowers_the_cost_is_stalled():
    """A wrong derivative: the cost rises along every promised descent. No change of cost is no proof of anything."""
    toy = Toy(linear, (5.0, -3.0, 800.0), *FREE3)
    state, infos = run(toy, evaluate=lambda theta: linearization(linear(theta), MATRIX))
    assert state.status is Status.STALLED
    assert not any(i.accepted for i in infos[1:])
    np.testing.assert_array_equal(state.theta, toy.start)


def test_a_parameter_without_influence_does_not_move_nor_hinder():
    toy = Toy(lambda x: VALUES - MATRIX[:, 0] * x[0] + 0 * x[1], (5.0, 7.0), (-INF, -INF), (INF, INF))
    state, _ = run(toy)
    assert state.status is Status.CONVERGED
    assert state.theta[1] == 7.0


def test_pass_limit():
    state, infos = run(TOYS["curved valley"], Tolerances(xtol=1e-7, max_passes=3))
    assert state.status is Status.MAX_PASSES
    assert len(infos) == 3
    assert state.at.cost == min(i.cost for i in infos if i.accepted)


def test_an_optimum_beyond_the_feasible_region_ends_at_its_border():
    toy = Toy(
        lambda x: np.array([x[0] - 3.0, 0.1 + 0 * x[0]]), (0.0,), (-INF,), (INF,), lambda theta: bool(theta[0] < 2)
    )
    state, infos = run(toy)
    assert state.status is Status.BORDER
    assert 1.99 < state.theta[0] < 2.0
    assert len(infos) < 60


@pytest.mark.parametrize("at_pass", [2, 5])
def test_ctrl_c_returns_the_best_point_so_far(at_pass):
    calls, costs = [], []

    def evaluate(theta):
        calls.append(theta)
        if len(calls) == at_pass:
            raise KeyboardInterrupt
        at = TOYS["curved valley"].evaluate(theta)
        costs.append(at.cost)
        return at

    state, infos = run(TOYS["curved valley"], evaluate=evaluate)
    assert state.status is Status.INTERRUPTED
    assert len(infos) == at_pass - 1
    assert state.at.cost == min(costs)


def test_ctrl_c_in_the_first_pass_leaves_nothing_to_return():
    def evaluate(theta):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(TOYS["curved valley"], evaluate=evaluate)


def test_bounded_step_minimizes_the_damped_model():
    """Against scipy on the stacked problem |r - A d|**2 + damping |D d|**2 within the bounds."""
    toy, theta = TOYS["bound active at the optimum"], np.array([0.001, -1e-4, 3.0])
    at = toy.evaluate(theta)
    for damping in (0.0, 0.1, 100.0):
        norm = scales(toy.problem(), at)
        a = np.vstack([at.jacobian / norm, np.sqrt(damping) * np.eye(3)])
        room = (np.array(toy.lower) - theta) * norm, (np.array(toy.upper) - theta) * norm
        expected = scipy.optimize.lsq_linear(a, np.concatenate([at.residual, np.zeros(3)]), room, tol=1e-14).x / norm
        step = bounded_step(toy.problem(), theta, at, norm, damping)
        np.testing.assert_allclose(step * norm, expected * norm, atol=1e-7)


def test_units_of_the_parameters_do_not_matter():
    """Per-parameter factors change neither path nor verdict."""
    toy, factors = TOYS["two close decays"], np.array([1e4, 1e-6, 1e3, 1e-2])
    scaled = Toy(
        lambda x: two_decays(x / factors), tuple(np.array(toy.start) * factors), tuple(np.array(toy.lower) * factors),
        tuple(np.array(toy.upper) * factors),
    )  # fmt: skip
    (a, infos), (b, scaled_infos) = run(toy), run(scaled)
    assert len(infos) == len(scaled_infos)
    np.testing.assert_allclose(b.theta / factors, a.theta, rtol=1e-6)
