"""The folder that every evaluation leaves: cases.csv, table.md, and summary.json with the checksum of cases.csv."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Self

from voco_cli import __version__
from voco_cli.atomic_files import write_atomic
from voco_cli.document.blocks import Block, Bullets, Sentence
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.evaluate.compared_runs import Comparison
from voco_cli.evaluate.metric import Table
from voco_cli.evaluate.segmentation.metrics import RULES, EmptyRule
from voco_cli.evaluate.statistics import RESAMPLES
from voco_cli.evaluate.tables import without_nan
from voco_cli.foreign_text import visible

CASES, SUMMARY, TABLE = "cases.csv", "summary.json", "table.md"
HINT = "Write it with voco evaluate -o FOLDER."
MOST_UNSEARCHED = 20
"""Rows of a table on a page that needs no search."""


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
    leakage: Any

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
class EvaluationOptions:
    """How to measure.

    Attributes:
        tolerance_mm: of the normalised surface Dice, mm.
        rule: for empty structures.
        resamples, seed: of the bootstrap.
        workers: processes; none is one a core where it pays.
        ignore_label: label value of voxels that nobody annotated: they are background in label map and prediction.
        by_size_mm: radii between classes of sizes, rising, by which lesions are measured one by one; none is not to.
    """

    tolerance_mm: float = 2.0
    rule: EmptyRule = RULES["count"]
    resamples: int = RESAMPLES
    seed: int = 0
    workers: int | None = None
    ignore_label: int | None = None
    by_size_mm: tuple[float, ...] = ()


@dataclass(frozen=True)
class EvaluationResult(ABC, Generic[Table]):
    """Cases that were measured, now or by an evaluation whose folder was read; a subclass for each kind of task.

    Attributes:
        table: every case.
        options: how it was measured.
        failed: case and reason, of those that could not be measured.
        provenance: whose predictions they are, where a run made them.
        folder: that it was read from.
    """

    kind: ClassVar[str]
    """As a task has it."""
    format: ClassVar[str]
    """Of summary.json."""
    same: ClassVar[str]
    """What evaluations must share to be compared, besides their cases."""
    comparison: ClassVar[type[Comparison]]

    table: Table
    options: EvaluationOptions = EvaluationOptions()
    failed: tuple[tuple[str, str], ...] = ()
    provenance: Provenance | None = None
    folder: Path = Path()

    @classmethod
    def from_files(cls, folder: Path, summary: Mapping[str, Any], text: str) -> Self:
        """Return the evaluation that summary.json and the text of cases.csv hold.

        Raises:
            DataError: their content makes no sense.
        """
        try:
            provenance = None
            if summary.get("run") is not None:
                run, split, chosen = (str(summary[key]) for key in ("run", "split", "chosen"))
                provenance = Provenance(run, split, chosen, summary.get("leakage"))
            resamples, seed = (int(summary["interval"][key]) for key in ("resamples", "seed"))
            details = cls.details(summary, EvaluationOptions(resamples=resamples, seed=seed))
            failed = tuple((str(one["case"]), str(one["reason"])) for one in summary["failed"])
            return cls(cls.parse(text), failed=failed, provenance=provenance, folder=folder, **details)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{folder} is damaged: {error}.", HINT) from error

    @staticmethod
    @abstractmethod
    def parse(text: str) -> Table:
        """Return the table that cases.csv holds; raise a ValueError where it makes no sense."""

    @staticmethod
    def details(summary: Mapping[str, Any], options: EvaluationOptions) -> dict[str, Any]:
        """Return the options, with those that summary.json has of this kind alone, and the kind's own fields."""
        return {"options": options}

    @property
    def split(self) -> str | None:
        """Return the split of the run whose predictions they are; none where they came as a folder."""
        return None if self.provenance is None else self.provenance.split

    @property
    def leakage(self) -> Any:
        """Return what was found of cases that were in the training, as JSON; none where nobody compared them."""
        return None if self.provenance is None else self.provenance.leakage

    def write(
        self, folder: Path, predictions: str = "", labels: str = "", provenance: Provenance | None = None
    ) -> list[Path]:
        """Write cases.csv, table.md and summary.json.

        Args:
            predictions, labels: where the two came from, for people.
            provenance: of predictions that a run made; by default its own.
        Raises:
            ResourceError: the disk is full.
        """
        whose = provenance or self.provenance
        lines = [*self.markdown_tables(), *self.lines(), *(whose.lines() if whose else ())]
        summary = self.to_json(predictions, labels, whose)
        more = self.more_files()
        for name, content in more.items():
            if content is None:  # one of an earlier evaluation would not belong to these figures
                (folder / name).unlink(missing_ok=True)
            else:
                write_atomic(folder / name, content.encode())
        written = write_results(folder, self.cases_csv(), "\n".join(lines) + "\n", summary)
        return [*written, *(folder / name for name, content in more.items() if content is not None)]

    def to_json(self, predictions: str = "", labels: str = "", provenance: Provenance | None = None) -> dict[str, Any]:
        """Return all but the single cases, as summary.json holds it; arguments as of `write`."""
        whose = provenance or self.provenance
        origin = {"predictions": predictions, "labels": labels} if predictions else {}
        return {
            "format": self.format,
            "version": __version__,
            **origin,
            **(whose.to_json() if whose else {}),
            **self.content(),
        }

    def failed_json(self) -> list[dict[str, str]]:
        """Return the cases that could not be measured with the reasons, as JSON holds them."""
        return [{"case": case, "reason": reason} for case, reason in self.failed]

    def blocks(self) -> list[Block]:
        """Return tables of everything that was measured, what is known of data leakage, and how to read them."""
        failed = [Sentence(f"{case} could not be measured: {reason}", "bad") for case, reason in self.failed]
        whose = replace(self.provenance, leakage={}).lines() if self.provenance else []
        first, *others = self.tables()
        lines = (*self.lines(), *whose)
        return [first, *others, *failed, *leakage_sentences(self.leakage), Bullets(lines)]

    def cases_words(self) -> str:
        """Return how many cases of which split."""
        count = len(self.table.cases)
        return f"{count} {self.split or 'measured'} case{'s' if count != 1 else ''}"

    @abstractmethod
    def cases_csv(self) -> str:
        """Return the content of cases.csv."""

    def more_files(self) -> dict[str, str | None]:
        """Return names and contents of files beside the usual three; None is one that this evaluation does not have."""
        return {}

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """Return what summary.json holds of the figures."""

    @abstractmethod
    def markdown_tables(self) -> list[str]:
        """Return the tables of table.md."""

    @abstractmethod
    def tables(self) -> list[Block]:
        """Return tables of everything that was measured, for a page."""

    @abstractmethod
    def lines(self) -> list[str]:
        """Return what tables must say of themselves, one sentence each."""

    @abstractmethod
    def headline(self) -> str:
        """Return the main figure in a few words."""

    @abstractmethod
    def compare(self, names: Sequence[str], others: Sequence[Any], resamples: int, seed: int) -> Comparison:
        """Compare others of this kind and of the same cases with this one.

        Args:
            names: of this one and of the others.
            resamples, seed: of the bootstrap and of permutation tests.
        """

    def option_faults(self, name: str, other_name: str, other: Any) -> list[str]:
        """Return what was measured otherwise in another evaluation of this kind, one sentence each."""
        return []


def interval_object(resamples: int, seed: int) -> dict[str, Any]:
    """Return how intervals were drawn, as JSON holds it."""
    return {"level": 0.95, "resamples": resamples, "seed": seed, "resampled_by": "patient"}


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
        raise DataError(f"{folder} is damaged: {error}.", HINT) from error


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
        VocoError: cases were in the training, or that cannot be known.
    """
    if not recorded["clean"]:
        raise VocoError(
            " ".join([*([f"{whose}:"] if whose else []), *recorded["sentences"]]),
            "evaluate on other cases or train without these; --require-clean made this an error",
        )


def leakage_sentences(leakage: Any, whose: str = "") -> list[Sentence]:
    """Return what an evaluation recorded of cases that were in the training; a warning where there are some.

    Args:
        leakage: as summary.json or comparison.json holds it, whatever that is.
        whose: name of the run, where there are several.
    """
    held = leakage if isinstance(leakage, Mapping) else {}
    spotted = bool(held.get("found") or held.get("unknown_weights"))
    before, lines = f"{whose}: " if whose else "", held.get("sentences")
    shown = lines if isinstance(lines, list) else []
    return [Sentence(f"{before}{line}", "warning" if spotted else "plain") for line in shown]
