"""How the upper triangle of n x n pairs is cut: panels that are read, tiles that are evaluated. Pure values."""

from __future__ import annotations

import dataclasses

import numpy as np

from homodyne.optimization.moments import TileShape


@dataclasses.dataclass(frozen=True)
class Panel:
    """Rows [row0, row0 + rows) of every angle's map, columns from row0 to the end, and the tiles in it.

    Attributes:
        tiles: (n, 2) first row within the panel and first column.
    """

    row0: int
    rows: int
    tiles: np.ndarray


@dataclasses.dataclass(frozen=True)
class Plan:
    """All panels of one angle; the same for every angle.

    Attributes:
        n: frames. shape: tile shape. height, width: padded panel, so that one compilation serves all.
        max_tiles: longest tile list; shorter ones are padded to it.
    """

    n: int
    shape: TileShape
    height: int
    width: int
    max_tiles: int
    panels: tuple[Panel, ...]

    @property
    def block_points(self) -> int:
        """Points of the largest panel, counted once per unordered pair."""
        first = self.panels[0].rows
        return first * self.n - first * (first + 1) // 2


def make_plan(n: int, panel_rows: int | None = None, shape: TileShape | None = None) -> Plan:
    """Cut ``n`` frames into panels of ``panel_rows`` rows (all by default) and tiles of ``shape``.

    Tiles wholly on or below the diagonal do not exist.
    """
    shape = shape or default_shape(n)
    rows = n if panel_rows is None else max(1, min(panel_rows, n))
    rows = -(-rows // shape.rows) * shape.rows
    panels, width = [], n
    for row0 in range(0, n, rows):
        height = min(rows, n - row0)
        tiles = [
            (row, col)
            for row in range(0, height, shape.rows)
            for col in range(row0 + row, n, shape.cols)
        ]  # fmt: skip
        width = max(width, max(col for _, col in tiles) + shape.cols)
        panels.append(Panel(row0, height, np.array(tiles, dtype=np.int32)))
    # rows of the last panel's slices of per-frame arrays must exist too
    width = max(width, panels[-1].row0 + rows)
    return Plan(n, shape, rows, width, max(len(p.tiles) for p in panels), tuple(panels))


def default_shape(n: int) -> TileShape:
    """Tiles that stay in the processor's cache, and small against n, so that little is evaluated beyond the triangle."""
    cols = 64 if n < 200 else 128 if n < 600 else 256 if n < 3000 else 512
    return TileShape(32 if n < 200 else 64, cols)
