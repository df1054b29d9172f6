"""No test reads or leaves compiled code outside its own run."""

from __future__ import annotations

import os
import tempfile

# before anything imports JAX, and inherited by the processes that tests start
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="homodyne-tests-")
