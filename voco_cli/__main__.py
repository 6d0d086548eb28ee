"""`voco`, which is also `python -m voco_cli`.

torchrun starts the latter: `torchrun --nproc-per-node 2 -m voco_cli pretrain data.json`.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it; Ctrl-C while it loads ends it without a traceback."""
    try:
        from voco_cli.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
