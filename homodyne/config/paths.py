"""Where the configuration files live."""

from __future__ import annotations

from pathlib import Path

from homodyne.errors import InputError

PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> Path:
    """Absolute folder of the configuration groups: the checkout's ``conf/``, else the copy shipped in the wheel.

    The checkout comes first because an editable install may leave a stale copy inside the package.

    Raises:
        InputError: neither exists (a broken installation).
    """
    for candidate in (PACKAGE.parent / "conf", PACKAGE / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise InputError("conf", str(PACKAGE / "conf"), "is missing", "install the package again")
