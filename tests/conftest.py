"""What all tests need of the process that runs them."""

from __future__ import annotations

import signal

# A shell makes its background jobs deaf to Ctrl-C, and all that they start: tests that send it would wait for nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)
