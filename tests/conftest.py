"""What all tests need of the process that runs them."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# A shell makes its background jobs deaf to Ctrl-C, and all that they start: tests that send it would wait for nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)

# By default an example of more than 200 ms fails a test, as do examples slow to draw: a busy machine has such.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Read once, when torch and numpy load: threads of several processes would wait for each other's cores, spinning.
    os.environ["OMP_NUM_THREADS"] = "1"

os.environ.pop("COLUMNS", None)  # processes of pytest-xdist have it, and tables would be folded to its width
