"""ArviZ, loaded when it is needed: it takes seconds, and announces its own future once a day."""

from __future__ import annotations

import logging
import warnings
from typing import Any


def load_arviz() -> Any:
    """The package ``arviz``, without its announcement."""
    logging.getLogger("arviz").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz
