"""Panels cover every frame once, and the padding holds whatever a strip or tile may touch."""

from hypothesis import given
from hypothesis import strategies as st

from homodyne.optimization.moments import TileShape
from homodyne.optimization.plan import default_shape, make_plan


@given(
    n=st.integers(2, 5000),
    rows=st.integers(1, 64),
    cols=st.integers(1, 512),
    panel=st.one_of(st.none(), st.integers(1, 5000)),
)
def test_panels_cover_all_rows_within_the_padding(n, rows, cols, panel):
    plan = make_plan(n, panel, TileShape(rows, cols))
    assert [row for row0, size in plan.panels for row in range(row0, row0 + size)] == list(range(n))
    for row0, size in plan.panels:
        for row in range(0, size, rows):
            assert row + rows <= plan.height  # a strip's rows exist in the panel
            assert row0 + row + rows <= plan.width  # and in the per-frame arrays
            tiles = -(-(n - row0 - row) // cols)
            assert row0 + row + tiles * cols <= plan.width  # and so do the columns of its last tile


@given(n=st.integers(1000, 20_000))
def test_little_is_evaluated_beyond_the_triangle(n):
    rows, cols = default_shape(n)
    evaluated = sum(-(-(n - row) // cols) * rows * cols for row in range(0, n, rows))
    assert evaluated < 1.6 * n * (n - 1) / 2
