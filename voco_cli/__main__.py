"""`voco`, which is also `python -m voco_cli`.

torchrun starts the latter: `torchrun --nproc-per-node 2 -m voco_cli pretrain data.json`.
"""

from __future__ import annotations

import sys

from voco_cli.cli.interrupts import deafen, exit_code, listen


def main() -> None:
    """Load the command line and run it; a signal while it loads ends it without a traceback."""
    listen()
    try:
        from voco_cli.cli.app import main as run
    except KeyboardInterrupt as interrupt:
        sys.exit(exit_code(interrupt))
    try:
        run()
    finally:
        deafen()


if __name__ == "__main__":
    main()
