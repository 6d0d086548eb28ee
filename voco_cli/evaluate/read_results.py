"""An evaluation of whichever kind, as its folder holds it."""

from __future__ import annotations

from pathlib import Path

from voco_cli.evaluate.classification import results
from voco_cli.evaluate.classification.results import StoredClassification, stored_classification
from voco_cli.evaluate.result_files import read_vouched
from voco_cli.evaluate.segmentation import results as result_folder
from voco_cli.evaluate.segmentation.results import StoredEvaluation, stored_evaluation

Stored = StoredEvaluation | StoredClassification


def read_stored(folder: Path) -> Stored:
    """Read what the evaluation of a segmentation or of a classification wrote.

    Raises:
        DataError: a file that is missing or damaged, or two files of different evaluations.
        UsageError: another format.
    """
    summary, cases = read_vouched(folder, (result_folder.FORMAT, results.FORMAT))
    if summary["format"] == results.FORMAT:
        return stored_classification(folder, summary, cases)
    return stored_evaluation(folder, summary, cases)
