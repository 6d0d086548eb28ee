"""An evaluation of whichever kind, as its folder holds it."""

from __future__ import annotations

from pathlib import Path

from voco_cli.evaluation import classification_folder, result_folder
from voco_cli.evaluation.classification_folder import StoredClassification, stored_classification
from voco_cli.evaluation.result_folder import StoredEvaluation, stored_evaluation
from voco_cli.evaluation.vouched import read_vouched

Stored = StoredEvaluation | StoredClassification


def read_stored(folder: Path) -> Stored:
    """Read what the evaluation of a segmentation or of a classification wrote.

    Raises:
        DataError: a file that is missing or damaged, or two files of different evaluations.
        UsageError: another format.
    """
    summary, cases = read_vouched(folder, (result_folder.FORMAT, classification_folder.FORMAT))
    if summary["format"] == classification_folder.FORMAT:
        return stored_classification(folder, summary, cases)
    return stored_evaluation(folder, summary, cases)
