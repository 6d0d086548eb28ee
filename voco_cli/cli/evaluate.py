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
    from voco_cli.evaluate.segmentation.evaluate import Evaluation
    from voco_cli.workflows.evaluate import Measured


SHOWN_FAULTS = 20
WIDE_ENOUGH = 100
FEWER_METRICS = ("dice", "nsd", "hd95_mm")
"""What a narrow terminal shows; table.md has all."""


def print_measured(measured: Measured) -> None:
    """The figures of a run, of whichever kind."""
    from voco_cli.evaluate.segmentation.evaluate import Evaluation

    if isinstance(measured.evaluation, Evaluation):
        print_evaluation(measured.evaluation, measured.provenance)
    else:
        print_classification(measured.evaluation)


def print_evaluation(evaluation: Evaluation, provenance: Provenance | None = None) -> None:
    """Means with deviation, and the interval on the next line; what does not fit the terminal is in table.md."""
    from rich.table import Table
    from rich.text import Text

    from voco_cli.evaluate.segmentation.metrics import METRICS
    from voco_cli.evaluate.segmentation.results import statements, summary_headings, summary_rows

    for shown in (METRICS, FEWER_METRICS):
        headings = summary_headings(evaluation.options.tolerance_mm, shown)
        rows = [[cell.replace(" [", "\n[") for cell in row] for row in summary_rows(evaluation.summary, shown)]
        widths = _least_widths([headings, *rows])
        if sum(widths) + len(widths) - 1 <= out.width:
            break
    table = Table(
        title="predictions against labels", title_justify="left", box=None, pad_edge=False, collapse_padding=True
    )
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)
    for line in statements(evaluation):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if provenance is not None:
        print_provenance(provenance)


def _least_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Characters that each column needs so that no word of a name and no line of figures is broken."""
    names, *figures = zip(*rows, strict=True)
    longest = [max(len(word) for name in names for word in name.split())]
    return longest + [max(len(line) for cell in column for line in cell.split("\n")) for column in figures]


def print_classification(evaluation: ClassificationEvaluation) -> None:
    """Figures with their intervals, then each category against all others; the rest of these is in table.md."""
    from voco_cli.evaluate.classification.metrics import CATEGORY_METRICS
    from voco_cli.evaluate.classification.results import (
        OVERALL_HEADINGS,
        category_headings,
        category_rows,
        overall_rows,
        statements,
    )

    summary = evaluation.summary
    shown = CATEGORY_METRICS if out.width >= WIDE_ENOUGH else ("sensitivity", "specificity", "auc")
    _print_table(OVERALL_HEADINGS, overall_rows(summary), " ")
    _print_table(category_headings(shown), category_rows(summary, shown), "\n")
    for line in statements(replace(evaluation, provenance=None)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if evaluation.provenance is not None:
        print_provenance(evaluation.provenance)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], before_interval: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.replace(" [", f"{before_interval}[")) for cell in row))
    out.print(table)


def print_provenance(provenance: Provenance) -> None:
    """Whose figures these are; what spoils them in yellow."""
    style = None if spotless(provenance.leakage) else "yellow"
    first, *leakage = provenance.lines()
    out.print(first, markup=False, highlight=False, soft_wrap=True)
    for line in leakage:
        out.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def spotless(leakage: Mapping[str, Any]) -> bool:
    """Nothing at all was found, not even the name of a patient in another data set."""
    return not leakage["found"] and not leakage["unknown_weights"]


def report_failures(evaluation: Evaluation | ClassificationEvaluation) -> None:
    """End with an error where cases could not be measured.

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
        require_clean: refuse where the cases were seen in training, or where that cannot be known.
    """
    from dataclasses import replace

    from voco_cli.evaluate.classification.results import ClassificationEvaluation
    from voco_cli.evaluate.segmentation.results import evaluation_object
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
    evaluation, provenance = measured.evaluation, measured.provenance
    if isinstance(evaluation, ClassificationEvaluation):
        _tell_categories(evaluation, measured.written, path, as_json)
        return
    if as_json:
        print_json(evaluation_object(evaluation, str(run.predictions(split)), str(path / "data.json"), provenance))
    else:
        print_evaluation(evaluation, provenance)
        done(measured.written, shell_words("voco", "compare", path, "OTHER_RUN"))
    report_failures(evaluation)


def _tell_categories(evaluation: ClassificationEvaluation, written: Sequence[Path], path: Path, as_json: bool) -> None:
    from voco_cli.evaluate.classification.results import classification_object

    if as_json:
        print_json(classification_object(evaluation))
    else:
        print_classification(evaluation)
        done(written, shell_words("voco", "predict", path, "NEW_SCANS", "-o", "predictions"))
    report_failures(evaluation)


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
            "(phantom): count (missed and phantom 0, absent left out), perfect (as count, but absent 1), penalty (as "
            "count, distances the scan's diagonal), brats (both), released (as the released code: phantoms left out), "
            "by default count, or as RUN has it.",
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
    from voco_cli.evaluate.segmentation.results import evaluation_object, write_evaluation

    written = write_evaluation(evaluation, output, str(predictions), str(labels))
    if as_json:
        print_json(evaluation_object(evaluation, str(predictions), str(labels)))
    else:
        if names is not None:
            out.print(f"Classes of {names.origin}.", markup=False, highlight=False, soft_wrap=True)
        print_evaluation(evaluation)
        done(written, shell_words("voco", "compare", output, "OTHER_EVALUATION"))
    report_failures(evaluation)


def _require_one_kind(params: Mapping[str, Any]) -> None:
    """A run, or two folders, and no option of the other kind.

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
    from voco_cli.evaluate.segmentation.case_files import pair_folders
    from voco_cli.evaluate.segmentation.classes import all_structures, parse_regions
    from voco_cli.evaluate.segmentation.evaluate import EvaluationOptions, evaluate_folder

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
    """Class names as ``--classes`` gives them, or of a dataset.json near the labels, or as predictions have them.

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
