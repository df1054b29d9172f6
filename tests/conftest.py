"""No test reads or leaves compiled code outside its own run."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

import absl.logging

# Before anything imports JAX; inherited by the processes that tests start, and shared by the workers of one run.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="homodyne-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# The log handler of absl, which optax imports, closes its stream when Hydra sets up logging, unless it is the one of the
# process: that of pytest's capture, which it would find, must stay open.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__
