"""The folder that every evaluation leaves: cases.csv, table.md, and summary.json with the checksum of cases.csv."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from voco_cli import __version__
from voco_cli.atomic_files import write_atomic
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluate.metric import Table
from voco_cli.evaluate.tables import without_nan
from voco_cli.foreign_text import visible

CASES, SUMMARY, TABLE = "cases.csv", "summary.json", "table.md"
HINT = "Write it with voco evaluate -o FOLDER."


@dataclass(frozen=True)
class Provenance:
    """Where the predictions of an evaluation come from.

    Attributes:
        run: run folder.
        split: what was measured: test or validation.
        chosen: how the weights were chosen, in words; empty where the run does not say.
        leakage: what is known of cases that were in the training, as JSON; its ``sentences`` are for people.
    """

    run: str
    split: str
    chosen: str
    leakage: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the same for summary.json."""
        return {"run": self.run, "split": self.split, "chosen": self.chosen, "leakage": dict(self.leakage)}

    def lines(self) -> list[str]:
        """Return what tables say of it, one sentence each."""
        chosen = (
            f"; its weights: {self.chosen}" if self.chosen else "; the run does not say how its weights were chosen"
        )
        on_validation = " (the cases that the best weights are chosen on)" if self.split == "validation" else ""
        first = f"Measured on the {self.split} split{on_validation} of {self.run}{chosen}."
        return [first, *self.leakage.get("sentences", ())]


@dataclass(frozen=True)
class StoredEvaluation(Generic[Table]):
    """An evaluation as its folder holds it.

    Attributes:
        folder: where it lies.
        table: every case.
        failed: cases that could not be measured.
        split: of the run whose predictions they are; none where they came as a folder.
        leakage: what was known of cases that were in the training; none where nobody looked.
        tolerance_mm, rule: of the surface Dice, and name of the rule for empty structures; of segmentations.
    """

    folder: Path
    table: Table
    failed: tuple[str, ...]
    split: str | None = None
    leakage: Mapping[str, Any] | None = None
    tolerance_mm: float = math.nan
    rule: str = ""


def summary_head(file_format: str, origin: Mapping[str, Any], provenance: Provenance | None) -> dict[str, Any]:
    """Return what every summary.json begins with.

    Args:
        origin: where predictions and labels came from, as far as that is no run.
    """
    return {
        "format": file_format,
        "version": __version__,
        **origin,
        **(provenance.to_json() if provenance else {}),
    }


def interval_object(resamples: int, seed: int) -> dict[str, Any]:
    """Return how intervals were drawn, as JSON holds it."""
    return {"level": 0.95, "resamples": resamples, "seed": seed, "resampled_by": "patient"}


def failed_object(failed: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    """Return the cases that could not be measured with the reasons, as JSON holds them."""
    return [{"case": case, "reason": reason} for case, reason in failed]


def write_results(folder: Path, cases: str, table: str, summary: Mapping[str, Any]) -> list[Path]:
    """Write the three files, each whole or not at all; summary.json, which has the checksum of cases.csv, comes last.

    Args:
        cases: content of cases.csv.
        table: content of table.md.
        summary: all of summary.json but the checksum.
    Raises:
        ResourceError: the disk is full.
    """
    held = without_nan({**summary, "cases_csv_sha256": hashlib.sha256(cases.encode()).hexdigest()})
    contents = {
        CASES: cases.encode(),
        TABLE: visible(table).encode(),
        SUMMARY: json.dumps(held, indent=2, allow_nan=False).encode() + b"\n",
    }
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]


def load_evaluation(
    folder: Path, summary: Mapping[str, Any], cases: str, parse: Callable[[str], Table]
) -> StoredEvaluation[Table]:
    """Return the evaluation that summary.json and cases.csv hold.

    Raises:
        DataError: their content makes no sense.
    """
    try:
        return StoredEvaluation(
            folder=folder,
            table=parse(cases),
            failed=tuple(one["case"] for one in summary["failed"]),
            split=summary.get("split"),
            leakage=summary.get("leakage"),
            tolerance_mm=float(summary.get("tolerance_mm", math.nan)),
            rule=str(summary["empty_rule"]["name"]) if "empty_rule" in summary else "",
        )
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error


def load_results(folder: Path, *formats: str) -> tuple[dict[str, Any], str]:
    """Read summary.json and the text of cases.csv, and check that they belong together.

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
    """Return the error of an evaluation whose content makes no sense."""
    return DataError(f"{folder} is damaged: {error}.", HINT)


def is_spotless(recorded: Mapping[str, Any]) -> bool:
    """Return True where nothing at all was found, not even the name of a patient in another data set.

    Args:
        recorded: findings, as ``summary.json`` has them under ``leakage``.
    """
    return not recorded["found"] and not recorded["unknown_weights"]


def require_clean(recorded: Mapping[str, Any], whose: str | None = None) -> None:
    """Refuse data leakage, for ``--require-clean``: findings as ``summary.json`` has them under ``leakage``.

    Args:
        whose: name of the run, where there are several.
    Raises:
        VocoError: cases were seen in training, or that cannot be known.
    """
    if not recorded["clean"]:
        raise VocoError(
            " ".join([*([f"{whose}:"] if whose else []), *recorded["sentences"]]),
            "evaluate on other cases or train without these; --require-clean made this an error",
        )
