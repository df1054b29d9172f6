import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homodyne.data.select import circular_mean, merge_angles, rings, select_frames, select_phi, select_ring
from homodyne.errors import InputError

PHI = np.array([-180.0, -170.0, -90.0, 0.0, 90.0, 175.0, 180.0])
angle = st.integers(-180, 180).map(float)


@given(
    phi=st.lists(angle, min_size=1, max_size=20, unique=True),
    lo=angle,
    width=st.integers(0, 359),
    turns=st.integers(-1, 1),
)
def test_arc_selection_agrees_with_walking_the_circle(phi, lo, width, turns):
    """Walk from lo in steps of one degree and collect what is met."""
    walked = {(lo + step) % 360.0 for step in range(width + 1)}
    expected = [i for i, p in enumerate(phi) if p % 360.0 in walked]
    hi = (lo + width + 180.0) % 360.0 - 180.0 + 360.0 * turns
    if abs(hi - lo) >= 360.0:
        expected = list(range(len(phi)))
    try:
        assert select_phi(np.array(phi), [[lo, hi]]).tolist() == expected
    except InputError:
        assert expected == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6]),
        ([[170, -170]], [0, 1, 5, 6]),
        ([[-10, 10]], [3]),
        ([[-180, 180]], [0, 1, 2, 3, 4, 5, 6]),
        ([[350, 370]], [3]),
        ([90.2, -170], [1, 4]),
        ([[85, 95], 0.0, 0.4], [3, 4]),
    ],
)
def test_phi_lists_and_ranges(wanted, expected):
    assert select_phi(PHI, wanted).tolist() == expected


@pytest.mark.parametrize("wanted", [[45.0], [[20, 40]], []])
def test_no_matching_phi_lists_the_available(wanted):
    with pytest.raises(InputError, match=r"dataset\.phi.*available phi \[deg\]: -180, -170"):
        select_phi(PHI, wanted)


def test_range_with_three_numbers_is_refused():
    with pytest.raises(InputError, match="is not a range"):
        select_phi(PHI, [[0, 1, 2]])


def test_nearest_ring_within_tolerance():
    available = rings(np.array([0.007, 0.0054, 0.0054]), np.array([0.0, 0.0, 1.0]))
    assert [r.bins.tolist() for r in available] == [[1, 2], [0]]
    assert select_ring(available, 0.0056, 0.05).q == 0.0054
    with pytest.raises(InputError, match=r"dataset\.q=0\.01 matches no ring within 0\.05.*0\.0054, 0\.007"):
        select_ring(available, 0.01, 0.05)
    with pytest.raises(InputError, match="must be chosen, the file holds 2 rings"):
        select_ring(available, None, 0.05)
    with pytest.raises(InputError, match="must be positive"):
        select_ring(available, -0.0054, 0.05)


def test_rings_with_equal_directions_stay_apart_however_close_in_q():
    phi = np.tile(np.arange(0.0, 360.0, 30.0), 2)
    q = np.concatenate([np.full(12, 0.0050), np.full(12, 0.0054)])
    assert [r.bins.size for r in rings(q, phi, spread=0.2)] == [12, 12]


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), drop=st.integers(0, 4))
def test_rings_of_scattered_q_are_recovered(seed, drop):
    rng = np.random.default_rng(seed)
    phi = np.tile(np.arange(-180.0, 180.0, 30.0), 3) + rng.normal(0, 0.5, 36)
    ring = np.repeat([0, 1, 2], 12)
    q = np.array([0.005, 0.0065, 0.0085])[ring] * (1 + rng.uniform(-0.05, 0.05, 36))
    keep = np.sort(rng.permutation(36)[drop:])
    found = rings(q[keep], phi[keep], spread=0.2)
    assert [np.unique(ring[keep][r.bins]).tolist() for r in found] == [[0], [1], [2]]


def test_frames_are_inclusive():
    assert select_frames(100, [11, 20]) == (10, 10)
    assert select_frames(100, [1, 100]) == (0, 100)
    assert select_frames(100, None) == (0, 100)


@pytest.mark.parametrize("frames", [[0, 10], [5, 101], [7, 7], [9, 3], [1, 2]])
def test_frames_outside_the_file(frames):
    with pytest.raises(InputError, match=r"dataset\.frames=.*does not fit the 100 frames"):
        select_frames(100, frames)


def test_merging_near_identical_angles():
    phi = np.array([0.0, 90.0, 0.4, 179.8, -179.9])
    assert merge_angles(phi, None, 1.0) == [[0], [1], [2], [3], [4]]
    assert merge_angles(phi, "average", 1.0) == [[0, 2], [1], [3, 4]]
    assert merge_angles(phi, "drop", 1.0) == [[0], [1], [3]]
    assert circular_mean(phi[[3, 4]]) == pytest.approx(179.95)
    with pytest.raises(InputError, match="angle_merge='median' is not a way"):
        merge_angles(phi, "median", 1.0)
