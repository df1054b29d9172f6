"""How the upper triangle of n x n pairs is cut into panels that are read and summed one after the other. Pure values."""

from __future__ import annotations

import dataclasses

from homodyne.optimization.moments import TileShape


@dataclasses.dataclass(frozen=True)
class Plan:
    """The panels of one angle; the same for every angle.

    A panel is the rows [row0, row0 + rows) from their diagonal to the last frame, see ``moments.accumulate``.

    Attributes:
        n: frames. shape: tile shape. height, width: padded panel, so that one compilation serves all.
        panels: (row0, rows) of each.
    """

    n: int
    shape: TileShape
    height: int
    width: int
    panels: tuple[tuple[int, int], ...]


def make_plan(n: int, panel_rows: int | None = None, shape: TileShape | None = None) -> Plan:
    """Cut ``n`` frames into panels of about ``panel_rows`` rows (all by default), whole strips of ``shape`` each."""
    shape = shape or default_shape(n)
    rows = n if panel_rows is None else max(1, min(panel_rows, n))
    rows = max(1, rows // shape.rows) * shape.rows if rows < n else -(-n // shape.rows) * shape.rows
    panels = tuple((row0, min(rows, n - row0)) for row0 in range(0, n, rows))
    # the last tile of a strip, and the last strip of the data, may reach beyond them by one less than their size
    return Plan(n, shape, rows, n + max(shape), panels)


def default_shape(n: int) -> TileShape:
    """Tiles that stay in the processor's cache, and small against n, so that little is evaluated beyond the triangle."""
    if n < 200:
        return TileShape(32, 32)
    return TileShape(64, 64) if n < 400 else TileShape(128, 128)
