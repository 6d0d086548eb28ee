"""`voco evaluate`: predictions against labels, per case and class, in the scan's own space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voco_cli.cli.interrupts import going_on
from voco_cli.cli.options import JsonOption, RequireCleanOption, complete_devices
from voco_cli.document.terminal import done, out, print_json, progress, shell_words, warn
from voco_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from voco_cli.evaluate.classification.results import ClassificationEvaluation
    from voco_cli.evaluate.result_files import Provenance
    from voco_cli.evaluate.segmentation.classes import ClassNames
    from voco_cli.evaluate.segmentation.results import Evaluation


SHOWN_FAULTS = 20
WIDE_ENOUGH = 100
FEWER_METRICS = ("dice", "nsd", "hd95_mm")
"""What a narrow terminal shows; table.md has all."""


def print_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1, whole_figures: bool = False
) -> None:
    """Print a table; an interval goes on the next line.

    Args:
        names: columns from the left that are words.
        whole_figures: the lines of the others are never broken.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title) if title else None, title_justify="left", box=None, pad_edge=False, collapse_padding=True
    )
    for i, heading in enumerate(headings):
        justify: Literal["left", "right"] = "left" if i < names else "right"
        table.add_column(
            Text(_on_lines(heading)), justify=justify, overflow="fold", no_wrap=whole_figures and i >= names
        )
    for row in rows:
        table.add_row(*map(Text, map(_on_lines, row)))
    out.print(table)


def print_lines(lines: Sequence[str], style: str | None = None) -> None:
    """Print sentences as they are, one a line."""
    for line in lines:
        out.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def print_measured(evaluation: Evaluation | ClassificationEvaluation, provenance: Provenance | None = None) -> None:
    """Print the figures of a segmentation or of a classification, and whose they are; what spoils them in yellow."""
    from voco_cli.evaluate.segmentation.results import Evaluation

    if isinstance(evaluation, Evaluation):
        _print_segmentation(evaluation)
    else:
        _print_classification(evaluation)
    if provenance is not None:
        from voco_cli.evaluate.result_files import is_spotless

        first, *leakage = provenance.lines()
        print_lines([first])
        print_lines(leakage, None if is_spotless(provenance.leakage) else "yellow")


def _print_segmentation(evaluation: Evaluation) -> None:
    """Print means with deviation and interval; what does not fit the terminal is in table.md."""
    from voco_cli.evaluate.segmentation.metrics import METRICS
    from voco_cli.evaluate.segmentation.results import statements, summary_headings, summary_rows

    for shown in (tuple(METRICS), FEWER_METRICS):
        headings = summary_headings(evaluation.options.tolerance_mm, shown)
        rows = summary_rows(evaluation.summary, shown)
        widths = _least_widths([headings, *rows])
        if sum(widths) + len(widths) - 1 <= out.width:
            break
    print_table("predictions against labels", headings, rows, whole_figures=True)
    print_lines(statements(evaluation))


def _print_classification(evaluation: ClassificationEvaluation) -> None:
    """Print figures with their intervals, then each category against all others; the rest is in table.md."""
    from voco_cli.evaluate.classification import results
    from voco_cli.evaluate.classification.metrics import CATEGORY_METRICS

    summary = evaluation.summary
    shown = CATEGORY_METRICS if out.width >= WIDE_ENOUGH else ("sensitivity", "specificity", "auc")
    print_table("", results.OVERALL_HEADINGS, results.overall_rows(summary))
    print_table("", results.category_headings(shown), results.category_rows(summary, shown))
    print_lines(results.statements(replace(evaluation, provenance=None)))


def _on_lines(cell: str) -> str:
    """Return a cell on the lines that it is broken into, so that a table needs less width."""
    return cell.replace(" [", "\n[").replace(" (+", "\n(+").replace("false positive", "false\npos.")


def _least_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the characters that each column needs so that no word of a name and no line of figures is broken."""
    names, *figures = zip(*rows, strict=True)
    longest = [max(len(word) for name in names for word in name.split())]
    lines = [[line for cell in column for line in _on_lines(cell).split("\n")] for column in figures]
    return longest + [max(map(len, column)) for column in lines]


def report_failures(evaluation: Evaluation | ClassificationEvaluation) -> None:
    """Raise if cases could not be measured.

    Raises:
        DataError: their number; the reasons are printed.
    """
    if not evaluation.failed:
        return
    for case, reason in evaluation.failed[:SHOWN_FAULTS]:
        warn(f"{case}: {reason}")
    if len(evaluation.failed) > SHOWN_FAULTS:
        warn(f"and {len(evaluation.failed) - SHOWN_FAULTS} more, all in summary.json")
    total = len(evaluation.failed) + evaluation.summary.cases
    raise DataError(f"{len(evaluation.failed)} of {total} cases could not be measured.", "The reasons are above.")


def evaluate_run(
    path: Path,
    wanted: str | None,
    data: Path | None,
    output: Path | None,
    options: Mapping[str, Any],
    device: str | None,
    require_clean: bool,
    as_json: bool,
) -> None:
    """Measure a split of a run.

    Args:
        wanted: the split; none is test where it has labels, else validation.
        data: where the data lie now.
        options: fields of `EvaluationOptions` that differ from the run's settings.
        require_clean: refuse where the cases were in the training, or where that cannot be known.
    """
    from voco_cli.evaluate.segmentation.results import Evaluation
    from voco_cli.workflows.evaluate import measure, measured_split, open_run, options_of

    run = open_run(path, data)
    split, entries = measured_split(run, wanted)
    measured = measure(
        run,
        split,
        entries,
        replace(options_of(run.settings), **options),
        output=output,
        device=device,
        clean=require_clean,
        progress=progress,
    )
    if as_json:
        print_json(measured.summary)
    else:
        print_measured(measured.evaluation, measured.provenance)
        segmented = isinstance(measured.evaluation, Evaluation)
        further = ("compare", path, "OTHER_RUN") if segmented else ("predict", path, "NEW_SCANS", "-o", "predictions")
        done(measured.written, shell_words("voco", *further))
    report_failures(measured.evaluation)


OF_RUN = ("split", "data", "device", "require_clean")
OF_FOLDERS = ("predictions", "labels", "classes", "regions", "patient_pattern", "require_all")


def evaluate(
    context: typer.Context,
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder of voco finetune; its cases are predicted first.")
    ] = None,
    split: Annotated[
        Literal["test", "validation"] | None,
        typer.Option(help="Cases of RUN (by default test where these have labels, or else validation)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Where the data of RUN lie now: a folder or a data.json.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="DIR", help="Folder of predicted label maps (NIfTI, NRRD, MetaImage)."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="DIR", help="Folder of label maps of the same names on the same grids."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for cases.csv, summary.json and table.md (by default evaluation, or RUN/evaluation/SPLIT).",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="What to measure: data.json, dataset.json, a YAML file with labels, or 'liver=1,spleen=2'. By default "
            "the dataset.json beside the labels, or else every label that is found."
        ),
    ] = None,
    regions: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LABELS", help="A union of labels, such as tumour=2,3; repeatable.")
    ] = None,
    tolerance_mm: Annotated[
        float | None,
        typer.Option(min=0, help="Tolerance of the normalised surface Dice, mm (by default 2, or as RUN has it)."),
    ] = None,
    empty: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Structures that are in neither (absent), in the label only (missed) or in the prediction only "
            "(false positive): count (missed and false positive 0, absent left out), perfect (as count, but absent 1), "
            "penalty (as count, distances the scan's diagonal), brats (both), released (as the released code: false "
            "positives left out), by default count, or as RUN has it.",
        ),
    ] = None,
    patient_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression on the path of a label map; its first group is the patient."),
    ] = None,
    require_all: Annotated[
        bool,
        typer.Option("--require-all", help="Refuse where a label has no prediction, which is otherwise only said."),
    ] = False,
    require_clean: RequireCleanOption = False,
    resamples: Annotated[
        int | None,
        typer.Option(min=100, help="Bootstrap resamples of the patients (by default 2000, or as RUN has it)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the bootstrap (by default 0, or as RUN has it).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes (by default one a core, where it pays).")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            autocompletion=complete_devices,
            help="Device to predict RUN's cases on: auto, cpu, cuda, cuda:N or mps.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run, or predictions of any program.

    Dice, IoU, surface Dice, 95 % Hausdorff distance, average surface distance and volumes, for each case and class, in
    the scan's own space; sensitivity, specificity and AUC of a classification.
    """
    _require_one_kind(context.params)
    from voco_cli.evaluate.segmentation.metrics import empty_rule

    given: dict[str, Any] = {
        "tolerance_mm": tolerance_mm,
        "rule": empty_rule(empty) if empty else None,
        "resamples": resamples,
        "seed": seed,
        "workers": workers,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if run is not None:
        with going_on():  # predictions stay
            evaluate_run(run, split, data, output, options, device, require_clean, as_json)
        return
    assert predictions is not None
    assert labels is not None
    output = output or Path("evaluation")
    names = _read_names(classes, labels, predictions)
    if names is not None:
        options["ignore_label"] = names.ignore
    evaluation = _evaluate_folders(predictions, labels, names, regions or (), patient_pattern, require_all, options)
    written = evaluation.write(output, str(predictions), str(labels))
    if as_json:
        print_json(evaluation.to_json(str(predictions), str(labels)))
    else:
        print_lines([f"Classes of {names.origin}."] if names is not None else [])
        print_measured(evaluation)
        done(written, shell_words("voco", "compare", output, "OTHER_EVALUATION"))
    report_failures(evaluation)


def _require_one_kind(params: Mapping[str, Any]) -> None:
    """Check that there is a run or two folders, and no option of the other kind.

    Raises:
        UsageError: neither, both, or half.
    """
    hint = "voco evaluate RUN, or voco evaluate --predictions DIR --labels DIR"
    if params["run"] is not None:
        others, what = [name for name in OF_FOLDERS if params[name]], "a run"
    elif params["predictions"] is None or params["labels"] is None:
        raise UsageError("There is nothing to evaluate: neither a run nor predictions with labels.", hint)
    else:
        others, what = [name for name in OF_RUN if params[name]], "folders of predictions and labels"
    if others:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in others)
        raise UsageError(f"{flags} cannot be given with {what}.", hint)


def _evaluate_folders(
    predictions: Path,
    labels: Path,
    names: ClassNames | None,
    regions: Sequence[str],
    patient_pattern: str | None,
    require_all: bool,
    options: Mapping[str, Any],
) -> Evaluation:
    from voco_cli.evaluate.result_files import EvaluationOptions
    from voco_cli.evaluate.segmentation.case_files import pair_folders
    from voco_cli.evaluate.segmentation.classes import all_structures, parse_regions
    from voco_cli.evaluate.segmentation.evaluate import evaluate_folder

    unions = parse_regions(regions)
    if names is not None:
        all_structures(names.structures, unions)
    patients = names.patients if names else {}
    if require_all:
        unpredicted = pair_folders(predictions, labels, patients, patient_pattern).unpredicted
        if unpredicted:
            raise UsageError(f"{predictions} has no prediction of {', '.join(unpredicted)}.", "Predict these first.")
    return evaluate_folder(
        predictions,
        labels,
        EvaluationOptions(**options),
        classes=names.structures if names else None,
        regions=unions,
        patients=patients,
        patient_pattern=patient_pattern,
        progress=progress,
    )


def _read_names(classes: str | None, labels: Path, predictions: Path) -> ClassNames | None:
    """Read class names from ``--classes``, a dataset.json near the labels, or what lies with the predictions.

    One that does not help is no error where nobody asked for it.
    """
    from voco_cli.evaluate.segmentation.classes import classes_beside, read_classes

    if classes:
        return read_classes(classes)
    try:
        return classes_beside(labels, predictions)
    except (DataError, UsageError) as error:
        warn(f"note: classes are not named: {error.message}")
        return None
