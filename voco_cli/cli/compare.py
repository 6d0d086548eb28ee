"""`voco compare`: evaluations of the same cases, paired."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voco_cli.cli.evaluate import spotless
from voco_cli.cli.options import JsonOption, RequireCleanOption
from voco_cli.document.terminal import done, out, print_json, shell_words, warn
from voco_cli.errors import UsageError, VocoError
from voco_cli.foreign_text import visible

if TYPE_CHECKING:
    from voco_cli.evaluate.classification.compare import ClassificationComparison
    from voco_cli.evaluate.classification.results import StoredClassification
    from voco_cli.evaluate.read_results import Stored
    from voco_cli.evaluate.segmentation.compare import Comparison
    from voco_cli.evaluate.segmentation.results import StoredEvaluation


def about(names: Sequence[str], stored: Sequence[Stored], resamples: int, seed: int) -> dict[str, Any]:
    """What was compared and how, for comparison.json."""
    from voco_cli.evaluate.setting_differences import trained_as, training_warnings, unlike_settings

    trained = [trained_as(one.folder) for one in stored]
    return {
        "evaluations": [str(one.folder) for one in stored],
        "splits": [one.split for one in stored],
        "leakage": [one.leakage for one in stored],
        "settings_that_differ": unlike_settings(trained),
        "warnings": training_warnings(names, trained),
        "interval": {"level": 0.95, "resamples": resamples, "seed": seed, "resampled_by": "patient"},
    }


def unmeasured(names: Sequence[str], stored: Sequence[Stored]) -> list[str]:
    """Cases that an evaluation could not measure, one sentence for each evaluation."""
    pairs = zip(names, stored, strict=True)
    return [f"{name} could not measure {', '.join(one.failed)}" for name, one in pairs if one.failed]


def seen_statements(names: Sequence[str], stored: Sequence[Stored]) -> list[str]:
    """What each evaluation recorded of cases that were seen in training."""
    return [
        f"{name}: {sentence}"
        for name, one in zip(names, stored, strict=True)
        for sentence in (one.leakage or {}).get("sentences", ())
    ]


def training_statements(names: Sequence[str], stored: Sequence[Stored]) -> list[str]:
    """Which settings differ between the runs, and warnings where steps or training cases do."""
    from voco_cli.evaluate.setting_differences import settings_sentences, trained_as, training_warnings

    trained = [trained_as(one.folder) for one in stored]
    warnings = [f"warning: {line}" for line in training_warnings(names, trained)]
    return [*settings_sentences(names, trained), *warnings]


def print_statements(lines: Sequence[str], names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Lines below the tables; cases that were seen in yellow."""
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in training_statements(names, stored):
        style = "yellow" if line.startswith("warning: ") else None
        out.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    spotted = not all(spotless(one.leakage) for one in stored if one.leakage)
    for line in seen_statements(names, stored):
        out.print(line, style="yellow" if spotted else None, markup=False, highlight=False, soft_wrap=True)


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> None:
    """A table whose first ``texts`` columns are words; an interval goes on the next line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, collapse_padding=True)
    for i, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if i < texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.replace(" [", "\n[").replace(" (+", "\n(+")) for cell in row))
    out.print(table)


def without_run(headings: Sequence[str], rows: Sequence[Sequence[str]], run: str) -> tuple[list[str], list[list[str]]]:
    """A table of one run: its name stands in the heading of its values, and has no column of its own."""
    named = [run if heading == "run's" else heading for heading in headings]
    return named[1:], [list(row[1:]) for row in rows]


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
        from voco_cli.evaluate.segmentation.compare import compare_tables

        _require_pairs(names, stored)
        self.stored, self.metric, self.resamples, self.seed = stored, metric, resamples, seed
        self.found: Comparison = compare_tables(names, [one.table for one in stored], resamples, seed)

    def to_json(self) -> dict[str, Any]:
        """All of comparison.json."""
        from voco_cli.evaluate.segmentation.results import comparison_object

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
        from voco_cli.evaluate.segmentation.results import difference_headings, difference_rows, markdown

        found = self.found
        table = markdown(difference_headings(found.runs[0]), difference_rows(found.of_metric(self.metric)))
        more = [*training_statements(found.runs, self.stored), *seen_statements(found.runs, self.stored)]
        lines = [*self._statements(), *more]
        return "\n".join([f"# {self._title()}\n", table, *lines]) + "\n"

    def show(self) -> None:
        """Print the tables."""
        from voco_cli.evaluate.segmentation.results import change_rows, difference_headings, difference_rows

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
        from voco_cli.evaluate.segmentation.results import metric_title

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
        from voco_cli.evaluate.setting_differences import missed_sentences

        return missed_sentences(self.found, [one.table for one in self.stored], self.stored[0].tolerance_mm)


def _require_pairs(names: Sequence[str], stored: Sequence[StoredEvaluation]) -> None:
    """Refuse, with all that differs, what would compare unlike things."""
    from voco_cli.evaluate.segmentation.compare import pairing_faults

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


SHOWN_SCORE_CHANGES = 10
SCORES_FORMAT = "voco-classification-comparison/1"


class ComparedClassifications:
    """Evaluations of the same cases, paired.

    Args:
        names: of the evaluations; the first is compared with.
        resamples, seed: of the bootstrap and of the permutation tests.
    Raises:
        VocoError: they cannot be paired.
    """

    def __init__(self, names: Sequence[str], stored: Sequence[StoredClassification], resamples: int, seed: int) -> None:
        from voco_cli.evaluate.classification.compare import compare_classifications, pairing_faults

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
        from voco_cli.evaluate.classification.results import classification_comparison_object

        return {
            "format": SCORES_FORMAT,
            **about(self.found.runs, self.stored, self.resamples, self.seed),
            **classification_comparison_object(self.found),
        }

    def picture(self) -> bytes:
        """comparison.png."""
        from voco_cli.figures.comparison import draw_classification_comparison

        return draw_classification_comparison(self.found)

    def markdown(self) -> str:
        """comparison.md."""
        from voco_cli.evaluate.classification.results import CHANGE_HEADINGS, change_rows, figure_headings, figure_rows
        from voco_cli.evaluate.segmentation.results import markdown

        found = self.found
        parts = ["# Classification\n", markdown(figure_headings(found.runs[0]), figure_rows(found.differences))]
        if found.changes:
            parts += ["## Cases that changed category\n", markdown(CHANGE_HEADINGS, change_rows(found.changes))]
        told = [*training_statements(found.runs, self.stored), *seen_statements(found.runs, self.stored)]
        return "\n".join([*parts, *self._statements(), *told]) + "\n"

    def show(self) -> None:
        """Print the tables."""
        from voco_cli.evaluate.classification.results import CHANGE_HEADINGS, change_rows, figure_headings, figure_rows

        found = self.found
        first, two = found.runs[0], len(found.runs) == 2
        headings, rows = figure_headings(first), figure_rows(found.differences)
        changed, changes = CHANGE_HEADINGS, change_rows(found.changes[:SHOWN_SCORE_CHANGES])
        if two:
            headings, rows = without_run(headings, rows, found.runs[1])
            changed, changes = without_run(changed, changes, found.runs[1])
        print_table(f"difference from {first}", headings, rows, texts=1 if two else 2)
        if changes:
            print_table("changed category", changed, changes, texts=4 if two else 5)
        more = len(found.changes) - SHOWN_SCORE_CHANGES
        lines = [f"{more} more changed category, all in comparison.md."] if more > 0 else []
        print_statements([*lines, *self._statements()], found.runs, self.stored)

    def _statements(self) -> list[str]:
        from voco_cli.evaluate.classification.results import comparison_statements

        return comparison_statements(self.found, self.resamples)


def compare(
    evaluations: Annotated[
        list[Path],
        typer.Argument(
            metavar="EVALUATION",
            help="Folders that voco evaluate wrote, or runs of voco finetune; the first is compared with.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for comparison.json, comparison.md and comparison.png."
        ),
    ] = Path("comparison"),
    metric: Annotated[
        Literal["dice", "iou", "nsd", "hd95_mm", "asd_mm"] | None,
        typer.Option(
            metavar="METRIC",
            help="Metric of the tables and the picture of segmentations: dice (by default), iou, nsd (surface Dice), "
            "hd95_mm or asd_mm; comparison.json has all.",
        ),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(
            min=100, help="Bootstrap resamples of the patients, and permutations where categories are compared."
        ),
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    split: Annotated[
        Literal["test", "validation"] | None,
        typer.Option(help="Which evaluation of runs (by default test where all have it, or else validation)."),
    ] = None,
    require_clean: RequireCleanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare evaluations of the same cases, with paired tests.

    Differences with their intervals, tests over patients, the cases that changed most, and one picture.
    """
    from voco_cli.atomic_files import write_atomic
    from voco_cli.evaluate.read_results import read_stored
    from voco_cli.evaluate.segmentation.results import evaluation_folders

    if len(evaluations) < 2:
        raise UsageError("One evaluation cannot be compared.", "Give two or more folders that voco evaluate wrote.")
    stored = [read_stored(folder) for folder in evaluation_folders(evaluations, split)]
    names = _names(evaluations)
    _tell_doubles(names, stored)
    _require_one_split(names, stored)
    if require_clean:
        _require_clean(names, stored)
    compared = _compared(names, stored, metric, resamples, seed)
    found = compared.to_json()
    contents = {
        "comparison.json": json.dumps(found, indent=2, allow_nan=False).encode() + b"\n",
        "comparison.md": visible(compared.markdown()).encode(),
        "comparison.png": compared.picture(),
    }
    for name, content in contents.items():
        write_atomic(output / name, content)
    if as_json:
        print_json(found)
        return
    compared.show()
    done([output / name for name in contents], shell_words("voco", "report", output))


def _compared(
    names: Sequence[str], stored: Sequence[Stored], metric: str | None, resamples: int, seed: int
) -> ComparedSegmentations | ComparedClassifications:
    """The comparison of all of one kind."""
    from voco_cli.evaluate.classification.results import StoredClassification
    from voco_cli.evaluate.segmentation.results import StoredEvaluation

    classifications = [one for one in stored if isinstance(one, StoredClassification)]
    segmentations = [one for one in stored if isinstance(one, StoredEvaluation)]
    if classifications and segmentations:
        kinds = ["classification" if isinstance(one, StoredClassification) else "segmentation" for one in stored]
        one, other = (names[kinds.index(kind)] for kind in ("classification", "segmentation"))
        raise UsageError(f"{one} is a classification and {other} a segmentation, which cannot be compared.")
    if not classifications:
        return ComparedSegmentations(names, segmentations, metric or "dice", resamples, seed)
    if metric is not None:
        raise UsageError(f"--metric {metric} is of segmentations, and these are classifications.", "leave it out")
    return ComparedClassifications(names, classifications, resamples, seed)


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names; with the folder above where two are the same, numbered where even that does not tell."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    counts = Counter(names)
    return [f"{name} ({i + 1})" if counts[name] > 1 else name for i, name in enumerate(names)]


def _tell_doubles(names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Say which evaluations are one and the same folder."""
    by_folder: dict[Path, list[str]] = {}
    for name, one in zip(names, stored, strict=True):
        by_folder.setdefault(one.folder.resolve(), []).append(name)
    for same in by_folder.values():
        if len(same) > 1:
            warn(f"note: {' and '.join(same)} are the same evaluation: every difference is 0.")


def _require_one_split(names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Cases that weights were chosen on are not compared with cases that nobody looked at."""
    splits = {one.split: name for name, one in zip(names, stored, strict=True) if one.split}
    if len(splits) > 1:
        words = " and ".join(f"{name} is of its {split} split" for split, name in splits.items())
        raise VocoError(f"These evaluations cannot be paired: {words}.", "Evaluate both on the same split.")


def _require_clean(names: Sequence[str], stored: Sequence[Stored]) -> None:
    from voco_cli.workflows.leakage import require_clean

    for name, one in zip(names, stored, strict=True):
        if one.leakage is None:
            raise VocoError(
                f"{name} was evaluated without looking whether its cases were seen in training.",
                "evaluate the run itself: voco evaluate RUN",
            )
        require_clean(one.leakage, name)
