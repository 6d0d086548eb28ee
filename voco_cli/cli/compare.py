"""`voco compare`: evaluations of the same cases, paired."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voco_cli.cli.evaluation_output import spotless
from voco_cli.cli.options import JsonOption, RequireCleanOption
from voco_cli.cli.output import done, out, print_json
from voco_cli.errors import UsageError, VocoError

if TYPE_CHECKING:
    from voco_cli.evaluation.comparison import Comparison
    from voco_cli.evaluation.result_folder import StoredEvaluation

SHOWN_CHANGES = 5
STORED_CHANGES = 50
FORMAT = "voco-comparison/1"


def compare(
    evaluations: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B...",
            help="Folders that voco evaluate wrote, or runs of voco finetune; the first is compared with.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for comparison.json, .md and .png.")
    ] = Path("comparison"),
    metric: Annotated[
        Literal["dice", "iou", "nsd", "hd95_mm", "asd_mm"],
        typer.Option(help="Metric of the tables and the picture; comparison.json has all of them."),
    ] = "dice",
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the patients.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    split: Annotated[
        Literal["test", "validation"] | None,
        typer.Option(help="Evaluation of runs (by default test where all have it, else validation)."),
    ] = None,
    require_clean: RequireCleanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare evaluations of the same cases: differences with intervals, paired tests, the cases that changed most."""
    from voco_cli.evaluation.comparison import compare_tables
    from voco_cli.evaluation.result_folder import evaluation_folders, read_evaluation
    from voco_cli.evaluation.tables import comparison_object
    from voco_cli.whole_files import write_whole

    if len(evaluations) < 2:
        raise UsageError("One evaluation cannot be compared.", "Give two or more folders that voco evaluate wrote.")
    stored = [read_evaluation(folder) for folder in evaluation_folders(evaluations, split)]
    names = _names(evaluations)
    _require_pairs(names, stored)
    _require_one_split(names, stored)
    if require_clean:
        _require_clean(names, stored)
    comparison = compare_tables(names, [one.table for one in stored], resamples, seed)
    found = {
        "format": FORMAT,
        "evaluations": [str(one.folder) for one in stored],
        "splits": [one.split for one in stored],
        "contamination": [one.contamination for one in stored],
        "tolerance_mm": stored[0].tolerance_mm,
        "empty_rule": stored[0].rule,
        "interval": {"level": 0.95, "resamples": resamples, "seed": seed, "resampled_by": "patient"},
        **comparison_object(comparison, STORED_CHANGES),
    }
    from voco_cli.report.comparison import draw_comparison

    contents = {
        "comparison.json": json.dumps(found, indent=2, allow_nan=False).encode() + b"\n",
        "comparison.md": _markdown(comparison, metric, stored).encode(),
        "comparison.png": draw_comparison(comparison, metric, stored[0].tolerance_mm),
    }
    for name, content in contents.items():
        write_whole(output / name, content)
    if as_json:
        print_json(found)
        return
    _print(comparison, metric, stored)
    done([output / name for name in contents])


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names; with the folder above where two are the same, numbered where even that does not tell."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    counts = Counter(names)
    return [f"{name} ({i + 1})" if counts[name] > 1 else name for i, name in enumerate(names)]


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
    failed = [
        f"{name} could not measure {', '.join(one.failed)}"
        for name, one in zip(names, stored, strict=True)
        if one.failed
    ]
    if faults:
        raise VocoError(
            f"These evaluations cannot be paired: {'; '.join([*faults, *failed])}.",
            "Evaluate the same cases against the same labels with the same options.",
        )


def _require_one_split(names: Sequence[str], stored: Sequence[StoredEvaluation]) -> None:
    """Cases that weights were chosen on are not compared with cases that nobody looked at."""
    splits = {one.split: name for name, one in zip(names, stored, strict=True) if one.split}
    if len(splits) > 1:
        words = " and ".join(f"{name} is of its {split} split" for split, name in splits.items())
        raise VocoError(f"These evaluations cannot be paired: {words}.", "Evaluate both on the same split.")


def _require_clean(names: Sequence[str], stored: Sequence[StoredEvaluation]) -> None:
    from voco_cli.finetuning.contamination import require_clean

    for name, one in zip(names, stored, strict=True):
        if one.contamination is None:
            raise VocoError(
                f"{name} was evaluated without looking whether its cases were seen in training.",
                "evaluate the run itself: voco evaluate RUN",
            )
        require_clean(one.contamination, name)


def _seen_statements(names: Sequence[str], stored: Sequence[StoredEvaluation]) -> list[str]:
    """What each evaluation recorded of cases that were seen in training."""
    return [
        f"{name}: {sentence}"
        for name, one in zip(names, stored, strict=True)
        for sentence in (one.contamination or {}).get("sentences", ())
    ]


def _statements(comparison: Comparison, rule: str) -> list[str]:
    first = comparison.runs[0]
    return [
        f"{comparison.cases} cases of {comparison.patients} patients, paired; difference: run - {first}, with its "
        "bootstrap 95 % interval, resampled by patient.",
        "p: Wilcoxon signed-rank test over the patients' mean differences; Holm's correction over all classes and "
        f"runs; effect: matched-pairs rank-biserial correlation (+1: nobody below {first}, somebody above). "
        f"Rule for empty classes: {rule}.",
    ]


def _markdown(comparison: Comparison, metric: str, stored: Sequence[StoredEvaluation]) -> str:
    from voco_cli.evaluation.tables import difference_headings, difference_rows, markdown, metric_title

    first = stored[0]
    table = markdown(difference_headings(comparison.runs[0]), difference_rows(comparison.of_metric(metric)))
    title = f"# {metric_title(metric, first.tolerance_mm)}\n"
    lines = [*_statements(comparison, first.rule), *_seen_statements(comparison.runs, stored)]
    return "\n".join([title, table, *lines]) + "\n"


def _print(comparison: Comparison, metric: str, stored: Sequence[StoredEvaluation]) -> None:
    from voco_cli.evaluation.tables import change_rows, difference_headings, difference_rows, metric_title

    first = stored[0]
    title = metric_title(metric, first.tolerance_mm)
    two = len(comparison.runs) == 2
    headings, rows = difference_headings(comparison.runs[0]), difference_rows(comparison.of_metric(metric))
    if two:  # the run's name is in the heading then, and no column of its own
        headings = [*headings[1:4], comparison.runs[1], *headings[5:]]
        rows = [row[1:] for row in rows]
    _table(f"{title}: difference from {comparison.runs[0]}", headings, rows, texts=1 if two else 2)
    changes = change_rows(comparison.changes[metric][:SHOWN_CHANGES])
    _table("changed most", ["run", "case", "structure", "from", "to", "change"], changes, texts=3)
    for line in _statements(comparison, first.rule):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    spotted = not all(spotless(one.contamination) for one in stored if one.contamination)
    for line in _seen_statements(comparison.runs, stored):
        out.print(line, style="yellow" if spotted else None, markup=False, highlight=False, soft_wrap=True)


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> None:
    """A table whose first ``texts`` columns are words; an interval goes on the next line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, collapse_padding=True)
    for i, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if i < texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.replace(" [", "\n[").replace(" (+", "\n(+")) for cell in row))
    out.print(table)
