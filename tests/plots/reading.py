"""What a figure says."""

from __future__ import annotations

import matplotlib.text
from matplotlib.figure import Figure


def texts(figure: Figure) -> str:
    """All text of a figure, axis labels and legends included."""
    return "\n".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))
