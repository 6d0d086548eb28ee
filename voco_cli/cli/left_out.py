"""What a command could not use: the first few by name on stderr, all of them in its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voco_cli.document.terminal import warn

if TYPE_CHECKING:
    from voco_cli.data.index.datalist import Skipped

SHOWN = 20


def warn_of_failures(failed: Sequence[tuple[object, str]], all_in: str = "--json") -> None:
    """Print what failed and why, the first few; a path that its reason names is not named again.

    Args:
        failed: name or path, and reason.
        all_in: where all of them are told.
    """
    for name, reason in failed[:SHOWN]:
        is_told = Path(str(name)).name != str(name) and str(name) in reason
        warn(reason if is_told else f"{name}: {reason}")
    if len(failed) > SHOWN:
        warn(f"and {len(failed) - SHOWN} more, all in {all_in}")


def warn_of_passed_over(passed_over: Sequence[Skipped]) -> None:
    """Print the first file that was taken for no scan, and how many more there are."""
    if passed_over:
        first, *others = passed_over
        more = f"; and {len(others)} more, all in --json" if others else ""
        warn(f"note: passed over {first.path}: {first.reason.rstrip('.')}{more}.")


def left_out_object(name: str, failed: Sequence[tuple[str, str]], passed_over: Sequence[Skipped]) -> dict[str, Any]:
    """Return both as JSON holds them.

    Args:
        name: what failed is called: case, scan.
    """
    return {
        "failed": [{name: one, "reason": reason} for one, reason in failed],
        "passed_over": [{"path": one.path, "reason": one.reason} for one in passed_over],
    }
