"""The files that every evaluation leaves, and reading them: cases.csv, and summary.json that vouches for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voco_cli.errors import DataError, UsageError

CASES, SUMMARY, TABLE = "cases.csv", "summary.json", "table.md"
HINT = "Write it with voco evaluate -o FOLDER."


def read_vouched(folder: Path, formats: Sequence[str]) -> tuple[dict[str, Any], str]:
    """summary.json and the text of cases.csv, which belong together.

    Args:
        formats: that are taken.
    Raises:
        DataError: a file that is missing or damaged, or two files of different evaluations.
        UsageError: another format.
    """
    try:
        cases = (folder / CASES).read_bytes()
        summary = json.loads((folder / SUMMARY).read_bytes())
    except OSError as error:
        raise DataError(f"{folder} is no evaluation: {Path(error.filename).name} cannot be opened.", HINT) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{folder / SUMMARY} is damaged: {error}.", HINT) from error
    if not isinstance(summary, dict) or summary.get("format") not in formats:
        raise UsageError(f"{folder / SUMMARY} is not of the format {' or '.join(formats)}.", HINT)
    if summary.get("cases_csv_sha256") != hashlib.sha256(cases).hexdigest():
        raise DataError(f"{folder / CASES} is not the file that {SUMMARY} was made from.", "Run voco evaluate again.")
    try:
        return summary, cases.decode()
    except UnicodeDecodeError as error:
        raise damaged(folder, error) from error


def damaged(folder: Path, error: Exception) -> DataError:
    """What to say where the content of an evaluation makes no sense."""
    return DataError(f"{folder} is damaged: {error}.", HINT)
