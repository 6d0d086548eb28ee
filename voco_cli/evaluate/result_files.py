"""The files that every evaluation leaves, and reading them: cases.csv, and summary.json that vouches for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Provenance:
    """Where the predictions of an evaluation come from.

    Attributes:
        run: run folder.
        split: what was measured: test or validation.
        chosen: how the weights were chosen, in words; empty where the run does not say.
        leakage: what is known of cases that were seen in training, as JSON; its ``sentences`` are for people.
    """

    run: str
    split: str
    chosen: str
    leakage: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        """The same for summary.json."""
        return {
            "run": self.run,
            "split": self.split,
            "chosen": self.chosen,
            "leakage": dict(self.leakage),
        }

    def lines(self) -> list[str]:
        """What tables say of it, one sentence each."""
        chosen = (
            f"; its weights: {self.chosen}" if self.chosen else "; the run does not say how its weights were chosen"
        )
        on_validation = " (the cases that the best weights are chosen on)" if self.split == "validation" else ""
        first = f"Measured on the {self.split} split{on_validation} of {self.run}{chosen}."
        return [first, *self.leakage.get("sentences", ())]
