"""No test reads or leaves compiled code outside its own run."""

from __future__ import annotations

import os
import sys
import tempfile

import absl.logging

# before anything imports JAX, and inherited by the processes that tests start
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="homodyne-tests-")

# The log handler of absl, which optax imports, closes its stream when Hydra sets up logging, unless it is the one of the
# process: that of pytest's capture, which it would find, must stay open.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__
