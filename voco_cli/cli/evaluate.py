"""`voco evaluate`: predictions against labels, per case and class, in the scan's own space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voco_cli.cli.interrupts import going_on
from voco_cli.cli.left_out import warn_of_failures
from voco_cli.cli.options import (
    DeviceOption,
    JsonOption,
    RequireCleanOption,
    SplitChoice,
    WorkersOption,
    setting_option,
)
from voco_cli.cli.shards import SchedulerOption, ShardOption, Spread, spread_out
from voco_cli.document.terminal import done, print_blocks, print_json, print_line, progress, shell_words, warn
from voco_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from voco_cli.data.parallel import Runner
    from voco_cli.document.blocks import Block
    from voco_cli.evaluate.classification.results import ClassificationEvaluation
    from voco_cli.evaluate.result_files import Provenance
    from voco_cli.evaluate.segmentation.classes import ClassNames
    from voco_cli.evaluate.segmentation.results import Evaluation


FEWER_METRICS = ("dice", "nsd", "hd95_mm")
"""Metrics of segmentations that a narrow terminal shows, too; table.md has all."""
FEWER_CATEGORY_METRICS = ("sensitivity", "specificity", "auc")


def measured_blocks(
    evaluation: Evaluation | ClassificationEvaluation, provenance: Provenance | None = None
) -> list[Block]:
    """Return the figures of a segmentation or of a classification, and whose they are; what spoils them as warnings."""
    from voco_cli.document.blocks import Sentence
    from voco_cli.evaluate.result_files import is_spotless
    from voco_cli.evaluate.segmentation.results import Evaluation

    if isinstance(evaluation, Evaluation):
        blocks = _segmentation_blocks(evaluation)
    else:
        blocks = _classification_blocks(evaluation)
    if provenance is not None:
        first, *leakage = provenance.lines()
        spoiled = not is_spotless(provenance.leakage)
        blocks += [Sentence(first), *(Sentence(line, "warning" if spoiled else "plain") for line in leakage)]
    return blocks


def _segmentation_blocks(evaluation: Evaluation) -> list[Block]:
    from voco_cli.document.blocks import Bullets, Column, Table
    from voco_cli.evaluate.segmentation.metrics import METRICS
    from voco_cli.evaluate.segmentation.results import statements, summary_headings, summary_rows

    optional = [False] * 4 + [metric not in FEWER_METRICS for metric in METRICS]
    headings = zip(summary_headings(evaluation.options.tolerance_mm), optional, strict=True)
    columns = [
        Column(heading.replace("false positive", "false pos."), n > 0, optional=may_go)
        for n, (heading, may_go) in enumerate(headings)
    ]
    rows = summary_rows(evaluation.summary)
    table = Table.of("predictions against labels", columns, rows, marked=[len(rows) - 1])
    return [table, *evaluation.sizes_table(), Bullets(tuple(statements(evaluation)))]


def _classification_blocks(evaluation: ClassificationEvaluation) -> list[Block]:
    """Return figures with their intervals, then each category against all others."""
    from voco_cli.document.blocks import Bullets, Column, Table
    from voco_cli.evaluate.classification import results
    from voco_cli.evaluate.classification.metrics import CATEGORY_METRICS

    summary = evaluation.summary
    optional = [False] * 3 + [metric not in FEWER_CATEGORY_METRICS for metric in CATEGORY_METRICS]
    headings = zip(results.category_headings(), optional, strict=True)
    return [
        Table.of("over all categories", results.OVERALL_HEADINGS, results.overall_rows(summary)),
        Table.of(
            "each category against all others",
            [Column(heading, n > 0, optional=may_go) for n, (heading, may_go) in enumerate(headings)],
            results.category_rows(summary),
        ),
        Bullets(tuple(results.statements(evaluation))),
    ]


def report_failures(evaluation: Evaluation | ClassificationEvaluation) -> None:
    """Raise if cases could not be measured.

    Raises:
        DataError: their number; the reasons are printed.
    """
    if not evaluation.failed:
        return
    warn_of_failures(evaluation.failed, "summary.json")
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
    spread_to: Callable[[Path], AbstractContextManager[Spread]],
) -> None:
    """Measure a split of a run.

    Args:
        wanted: the split; none is test where it has labels, else validation.
        data: where the data lie now.
        options: fields of `EvaluationOptions` that differ from the run's settings.
        require_clean: refuse where the cases were in the training, or where that cannot be known.
        spread_to: opens what the scans are worked on with, for the folder that is written.
    """
    from voco_cli.evaluate.segmentation.results import Evaluation
    from voco_cli.workflows.evaluate import measure, measured_split, open_run, options_of
    from voco_cli.workflows.shards import is_merging

    run = open_run(path, data)
    if options.get("by_size_mm") and not run.settings.task.is_voxelwise:
        raise UsageError(f"--by-size is for lesions in label maps, and {path} predicts categories.", "leave it out")
    split, entries = measured_split(run, wanted)
    output = output or run.evaluation(split)
    with spread_to(output) as spread:
        measured = measure(
            run,
            split,
            entries,
            replace(options_of(run.settings), **options),
            output=output,
            device="cpu" if is_merging() else device,
            clean=require_clean,
            progress=progress,
            runner=spread.runner,
        )
        if spread.is_part:
            _finish_part(spread, measured.evaluation, as_json)
            return
        spread.finish()
    if as_json:
        print_json(measured.summary)
    else:
        print_blocks(measured_blocks(measured.evaluation, measured.provenance))
        segmented = isinstance(measured.evaluation, Evaluation)
        further = ("compare", path, "OTHER_RUN") if segmented else ("predict", path, "NEW_SCANS", "-o", "predictions")
        done(measured.written, shell_words("voco", *further))
    report_failures(measured.evaluation)


def _finish_part(spread: Spread, evaluation: Evaluation | ClassificationEvaluation, as_json: bool) -> None:
    warn_of_failures(evaluation.failed)
    failed = len(evaluation.failed)
    spread.finish_part(as_json, "cases", len(evaluation.table.cases) + failed, failed)


OF_RUN = ("split", "data", "device", "require_clean")
OF_FOLDERS = ("predictions", "labels", "classes", "regions", "patient_pattern", "require_all")


def evaluate(
    context: typer.Context,
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder of voco finetune; its cases are predicted first.")
    ] = None,
    split: SplitChoice = None,
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
        float | None, setting_option("evaluate.tolerance_mm", "--tolerance-mm", default="2, or as RUN has it", min=0)
    ] = None,
    empty: Annotated[
        str | None,
        setting_option("evaluate.empty", "--empty", default="count, or as RUN has it", metavar="RULE"),
    ] = None,
    by_size: Annotated[
        str | None,
        typer.Option(
            "--by-size",
            metavar="MM,...",
            help="Measure lesions (connected parts) one by one, in classes of radius between these, such as 5,10,20.",
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
        int | None, setting_option("evaluate.resamples", "--resamples", default="2000, or as RUN has it", min=100)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the bootstrap (by default 0, or as RUN has it).")
    ] = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    scheduler: SchedulerOption = None,
    shard: ShardOption = None,
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
        "by_size_mm": None if by_size is None else _edges(by_size),
    }
    options = {name: value for name, value in given.items() if value is not None}

    def spread_to(folder: Path) -> AbstractContextManager[Spread]:
        return spread_out(context, folder, scheduler, shard)

    if run is not None:
        with going_on():  # predictions stay
            evaluate_run(run, split, data, output, options, device, require_clean, as_json, spread_to)
        return
    assert predictions is not None
    assert labels is not None
    output = output or Path("evaluation")
    names = _read_names(classes, labels, predictions)
    if names is not None:
        options["ignore_label"] = names.ignore
    with spread_to(output) as spread:
        evaluation = _evaluate_folders(
            predictions, labels, names, regions or (), patient_pattern, require_all, options, spread.runner
        )
        if spread.is_part:
            _finish_part(spread, evaluation, as_json)
            return
        written = evaluation.write(output, str(predictions), str(labels))
        spread.finish()
    if as_json:
        print_json(evaluation.to_json(str(predictions), str(labels)))
    else:
        if names is not None:
            print_line(f"Classes of {names.origin}.")
        print_blocks(measured_blocks(evaluation))
        done(written, shell_words("voco", "compare", output, "OTHER_EVALUATION"))
    report_failures(evaluation)


def _edges(text: str) -> tuple[float, ...]:
    """Read rising radii in mm."""
    try:
        edges = tuple(float(part) for part in text.split(","))
    except ValueError:
        edges = ()
    if not edges or not all(0 < low < high < 1e4 for low, high in zip(edges, (*edges[1:], 9999), strict=True)):
        raise UsageError(f"--by-size {text} is no list of rising radii.", "give millimetres, such as --by-size 5,10,20")
    return edges


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
    runner: Runner,
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
        runner=runner,
    )


def _read_names(classes: str | None, labels: Path, predictions: Path) -> ClassNames | None:
    """Read class names from ``--classes``, a dataset.json near the labels, or what lies with the predictions.

    One that does not help is no error where nobody asked for it.
    """
    from voco_cli.data.index.scan_files import names_beside, names_file
    from voco_cli.evaluate.segmentation.classes import classes_beside, read_classes, require_same_values

    try:
        found = read_classes(classes) if classes else classes_beside(labels, predictions)
    except (DataError, UsageError) as error:
        if classes:
            raise
        warn(f"note: classes are not named: {error.message}")
        return None
    if found is not None:
        named = [(one.name, one.labels) for one in found.structures]
        beside = [names_file(path) for path in sorted(labels.glob("*")) if names_beside(path)]
        require_same_values(named, found.origin, [predictions / "labels.json", *beside])
    return found
