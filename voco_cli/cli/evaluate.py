"""`voco evaluate`: predictions against labels, per case and class, in the scan's own space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.options import JsonOption
from voco_cli.cli.output import done, err, out, print_json, progress
from voco_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from voco_cli.evaluation.classes import ClassNames
    from voco_cli.evaluation.folder import Evaluation

SHOWN_FAULTS = 20
WIDE_ENOUGH = 100


def evaluate(
    predictions: Annotated[
        Path,
        typer.Option("--predictions", metavar="DIR", help="Folder of predicted label maps (NIfTI, NRRD, MetaImage)."),
    ],
    labels: Annotated[
        Path, typer.Option("--labels", metavar="DIR", help="Folder of label maps of the same names on the same grids.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for cases.csv, summary.json and table.md.")
    ] = Path("evaluation"),
    classes: Annotated[
        str | None,
        typer.Option(
            help="What to measure: data.json, dataset.json, a YAML file with labels, or 'liver=1,spleen=2'. By default "
            "the dataset.json beside the labels, or else every label that is found."
        ),
    ] = None,
    regions: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LABELS", help="A union of labels, 'tumour=2,3'; repeatable.")
    ] = None,
    tolerance_mm: Annotated[float, typer.Option(min=0, help="Tolerance of the normalised surface Dice, mm.")] = 2.0,
    empty: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="Structures that are absent, missed or phantom: count (missed and phantom 0, absent left out), "
            "perfect (absent 1), penalty (count, distances the scan's diagonal), brats (both), released (as the "
            "released code: phantoms left out).",
        ),
    ] = "count",
    patient_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression on a label's path; its first group is the patient. '/(P[0-9]+)_' say."),
    ] = None,
    require_all: Annotated[
        bool, typer.Option("--require-all", help="Refuse where a label has no prediction; else it is only said.")
    ] = False,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the patients.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core where it pays.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a folder of predictions: Dice, IoU, surface Dice, HD95, average surface distance, volumes."""
    from voco_cli.evaluation.case_files import pair_folders
    from voco_cli.evaluation.classes import all_structures, parse_regions, read_classes
    from voco_cli.evaluation.empty import empty_rule
    from voco_cli.evaluation.folder import EvaluationOptions, evaluate_folder
    from voco_cli.evaluation.result_folder import evaluation_object, write_evaluation

    options = EvaluationOptions(tolerance_mm, empty_rule(empty), resamples, seed, workers)
    names = read_classes(classes) if classes else _beside(labels)
    unions = parse_regions(regions or ())
    if names is not None:
        all_structures(names.structures, unions)
    patients = names.patients if names else {}
    if require_all:
        unpredicted = pair_folders(predictions, labels, patients, patient_pattern).unpredicted
        if unpredicted:
            raise UsageError(f"{predictions} has no prediction of {', '.join(unpredicted)}.", "Predict these first.")
    evaluation = evaluate_folder(
        predictions,
        labels,
        options,
        classes=names.structures if names else None,
        regions=unions,
        patients=patients,
        patient_pattern=patient_pattern,
        progress=progress,
    )
    written = write_evaluation(evaluation, output, str(predictions), str(labels))
    if as_json:
        print_json(evaluation_object(evaluation, str(predictions), str(labels)))
    else:
        if names is not None:
            out.print(f"Classes of {names.origin}.", markup=False, highlight=False, soft_wrap=True)
        _print_table(evaluation)
        done(written, f"voco compare {output} OTHER_EVALUATION")
    _report_failures(evaluation)


def _beside(labels: Path) -> ClassNames | None:
    """Class names of a dataset.json near the labels; one that does not help is no error where nobody asked for it."""
    from voco_cli.evaluation.classes import classes_beside

    try:
        return classes_beside(labels)
    except (DataError, UsageError) as error:
        err.print(f"note: classes are not named: {error.message}", markup=False, highlight=False, soft_wrap=True)
        return None


def _print_table(evaluation: Evaluation) -> None:
    """Means with deviation, and the interval on the next line; what does not fit the terminal is in table.md."""
    from rich.table import Table
    from rich.text import Text

    from voco_cli.evaluation.measures import METRICS
    from voco_cli.evaluation.result_folder import statements
    from voco_cli.evaluation.tables import summary_headings, summary_rows

    shown = METRICS if out.width >= WIDE_ENOUGH else ("dice", "nsd", "hd95_mm")
    table = Table(
        title="predictions against labels", title_justify="left", box=None, pad_edge=False, collapse_padding=True
    )
    for i, heading in enumerate(summary_headings(evaluation.options.tolerance_mm, shown)):
        table.add_column(heading, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
    for row in summary_rows(evaluation.summary, shown):
        table.add_row(*(Text(cell.replace(" [", "\n[")) for cell in row))
    out.print(table)
    for line in statements(evaluation):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _report_failures(evaluation: Evaluation) -> None:
    if not evaluation.failed:
        return
    for case, reason in evaluation.failed[:SHOWN_FAULTS]:
        err.print(f"{case}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if len(evaluation.failed) > SHOWN_FAULTS:
        err.print(f"and {len(evaluation.failed) - SHOWN_FAULTS} more, all in summary.json", highlight=False)
    total = len(evaluation.failed) + evaluation.summary.cases
    raise DataError(f"{len(evaluation.failed)} of {total} cases could not be measured.", "The reasons are above.")
