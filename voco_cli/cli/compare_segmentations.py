"""`voco compare` on segmentations."""

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
    from voco_cli.evaluation.comparison import Comparison
    from voco_cli.evaluation.result_folder import StoredEvaluation

SHOWN_CHANGES = 5
STORED_CHANGES = 50
FORMAT = "voco-comparison/1"


class ComparedSegmentations:
    """Evaluations of the same cases, paired.

    Args:
        names: of the evaluations; the first is compared with.
        metric: of the tables and the picture.
        resamples, seed: of the bootstrap.
    Raises:
        VocoError: they cannot be paired.
    """

    def __init__(
        self, names: Sequence[str], stored: Sequence[StoredEvaluation], metric: str, resamples: int, seed: int
    ) -> None:
        from voco_cli.evaluation.comparison import compare_tables

        _require_pairs(names, stored)
        self.stored, self.metric, self.resamples, self.seed = stored, metric, resamples, seed
        self.found: Comparison = compare_tables(names, [one.table for one in stored], resamples, seed)

    def to_json(self) -> dict[str, Any]:
        """All of comparison.json."""
        from voco_cli.evaluation.tables import comparison_object

        return {
            "format": FORMAT,
            **about(self.found.runs, self.stored, self.resamples, self.seed),
            "tolerance_mm": self.stored[0].tolerance_mm,
            "empty_rule": self.stored[0].rule,
            "missed": self._missed(),
            **comparison_object(self.found, STORED_CHANGES),
        }

    def picture(self) -> bytes:
        """comparison.png."""
        from voco_cli.figures.comparison import draw_comparison

        return draw_comparison(self.found, self.metric, self.stored[0].tolerance_mm)

    def markdown(self) -> str:
        """comparison.md."""
        from voco_cli.evaluation.tables import difference_headings, difference_rows, markdown

        found = self.found
        table = markdown(difference_headings(found.runs[0]), difference_rows(found.of_metric(self.metric)))
        more = [*training_statements(found.runs, self.stored), *seen_statements(found.runs, self.stored)]
        lines = [*self._statements(), *more]
        return "\n".join([f"# {self._title()}\n", table, *lines]) + "\n"

    def show(self) -> None:
        """Print the tables."""
        from voco_cli.evaluation.tables import change_rows, difference_headings, difference_rows

        found = self.found
        first, two = found.runs[0], len(found.runs) == 2
        headings, rows = difference_headings(first), difference_rows(found.of_metric(self.metric))
        if two:
            headings, rows = without_run(headings, rows, found.runs[1])
        print_table(f"{self._title()}: difference from {first}", headings, rows, texts=1 if two else 2)
        changes = change_rows(found.changes[self.metric][:SHOWN_CHANGES])
        print_table("changed most", ["run", "case", "structure", "from", "to", "change"], changes, texts=3)
        print_statements(self._statements(), found.runs, self.stored)

    def _title(self) -> str:
        from voco_cli.evaluation.tables import metric_title

        return metric_title(self.metric, self.stored[0].tolerance_mm)

    def _statements(self) -> list[str]:
        found = self.found
        first = found.runs[0]
        return [
            f"{found.cases} cases of {found.patients} patients, paired; difference: run - {first}, with its "
            "bootstrap 95 % interval, resampled by patient.",
            "p: Wilcoxon signed-rank test over the patients' mean differences; Holm's correction over all classes and "
            f"runs; effect: matched-pairs rank-biserial correlation (+1: nobody below {first}, somebody above). "
            f"Rule for empty classes: {self.stored[0].rule}.",
            *self._missed(),
        ]

    def _missed(self) -> list[str]:
        from voco_cli.evaluation.unlike import missed_sentences

        return missed_sentences(self.found, [one.table for one in self.stored], self.stored[0].tolerance_mm)


def _require_pairs(names: Sequence[str], stored: Sequence[StoredEvaluation]) -> None:
    """Refuse, with all that differs, what would compare unlike things."""
    from voco_cli.evaluation.comparison import pairing_faults

    first, faults = stored[0], []
    for name, one in zip(names[1:], stored[1:], strict=True):
        if one.rule != first.rule:
            faults.append(f"{name} has the rule {one.rule!r} for empty classes, and {names[0]} {first.rule!r}")
        if one.tolerance_mm != first.tolerance_mm:
            faults.append(
                f"{name} has a tolerance of {one.tolerance_mm:g} mm, and {names[0]} {first.tolerance_mm:g} mm"
            )
    faults += pairing_faults(names, [one.table for one in stored])
    if faults:
        raise VocoError(
            f"These evaluations cannot be paired: {'; '.join([*faults, *unmeasured(names, stored)])}.",
            "Evaluate the same cases against the same labels with the same options.",
        )
