"""`voco compare` on classifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voco_cli.cli.comparison_output import (
    about,
    print_statements,
    print_table,
    seen_statements,
    training_statements,
    unmeasured,
    without_run,
)
from voco_cli.errors import VocoError

if TYPE_CHECKING:
    from voco_cli.evaluation.classification_comparison import ClassificationComparison
    from voco_cli.evaluation.classification_folder import StoredClassification

SHOWN_CHANGES = 10
FORMAT = "voco-classification-comparison/1"


class ComparedClassifications:
    """Evaluations of the same cases, paired.

    Args:
        names: of the evaluations; the first is compared with.
        resamples, seed: of the bootstrap and of the permutation tests.
    Raises:
        VocoError: they cannot be paired.
    """

    def __init__(self, names: Sequence[str], stored: Sequence[StoredClassification], resamples: int, seed: int) -> None:
        from voco_cli.evaluation.classification_comparison import compare_classifications, pairing_faults

        tables = [one.table for one in stored]
        faults = pairing_faults(names, tables)
        if faults:
            raise VocoError(
                f"These evaluations cannot be paired: {'; '.join([*faults, *unmeasured(names, stored)])}.",
                "Evaluate the same cases against the same categories.",
            )
        self.stored, self.resamples, self.seed = stored, resamples, seed
        self.found: ClassificationComparison = compare_classifications(names, tables, resamples, seed)

    def to_json(self) -> dict[str, Any]:
        """All of comparison.json."""
        from voco_cli.evaluation.classification_tables import classification_comparison_object

        return {
            "format": FORMAT,
            **about(self.found.runs, self.stored, self.resamples, self.seed),
            **classification_comparison_object(self.found),
        }

    def picture(self) -> bytes:
        """comparison.png."""
        from voco_cli.figures.classification_comparison import draw_classification_comparison

        return draw_classification_comparison(self.found)

    def markdown(self) -> str:
        """comparison.md."""
        from voco_cli.evaluation.classification_tables import CHANGE_HEADINGS, change_rows, figure_headings, figure_rows
        from voco_cli.evaluation.tables import markdown

        found = self.found
        parts = ["# Classification\n", markdown(figure_headings(found.runs[0]), figure_rows(found.differences))]
        if found.changes:
            parts += ["## Cases that changed category\n", markdown(CHANGE_HEADINGS, change_rows(found.changes))]
        told = [*training_statements(found.runs, self.stored), *seen_statements(found.runs, self.stored)]
        return "\n".join([*parts, *self._statements(), *told]) + "\n"

    def show(self) -> None:
        """Print the tables."""
        from voco_cli.evaluation.classification_tables import CHANGE_HEADINGS, change_rows, figure_headings, figure_rows

        found = self.found
        first, two = found.runs[0], len(found.runs) == 2
        headings, rows = figure_headings(first), figure_rows(found.differences)
        changed, changes = CHANGE_HEADINGS, change_rows(found.changes[:SHOWN_CHANGES])
        if two:
            headings, rows = without_run(headings, rows, found.runs[1])
            changed, changes = without_run(changed, changes, found.runs[1])
        print_table(f"difference from {first}", headings, rows, texts=1 if two else 2)
        if changes:
            print_table("changed category", changed, changes, texts=4 if two else 5)
        more = len(found.changes) - SHOWN_CHANGES
        lines = [f"{more} more changed category, all in comparison.md."] if more > 0 else []
        print_statements([*lines, *self._statements()], found.runs, self.stored)

    def _statements(self) -> list[str]:
        from voco_cli.evaluation.classification_tables import comparison_statements

        return comparison_statements(self.found, self.resamples)
