"""What a fine-tuned network is worth: predictions of a split where they are missing, measured in each scan's space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from json import loads
from pathlib import Path

from voco_cli.dataset.datalist import Datalist, Entry
from voco_cli.dataset.datalist_file import read_datalist
from voco_cli.downstream.predict_batch import predict_entries
from voco_cli.downstream.task_data import find_task_data
from voco_cli.engine.run_folder import RunFolder
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluation.case_files import CasePair
from voco_cli.evaluation.empty import empty_rule
from voco_cli.evaluation.folder import Evaluation, EvaluationOptions, Progress, evaluate_pairs, no_progress
from voco_cli.evaluation.measures import Structure
from voco_cli.settings import Settings, read_saved
from voco_cli.settings.task import Task

MEASURABLE = ("test", "validation")
MOST_NAMED = 5


@dataclass(frozen=True)
class FinetunedRun:
    """A run folder of a fine-tuning, opened to be measured.

    Attributes:
        path: the folder.
        settings: those of the run.
        datalist: its cases.
        chosen: how its weights were chosen, one sentence for people; empty where the run does not say.
    """

    path: Path
    settings: Settings
    datalist: Datalist
    chosen: str = ""

    def predictions(self, split: str) -> Path:
        """Folder of the predictions of a split."""
        return self.path / "predictions" / split

    def evaluation(self, split: str) -> Path:
        """Folder of the evaluation of a split."""
        return self.path / "evaluation" / split


def open_run(path: Path, data: Path | None = None) -> FinetunedRun:
    """Open the run folder of a fine-tuning.

    Args:
        data: data folder or data.json, where the scans are not any more where the run found them.
    Raises:
        DataError: no such folder, no weights yet, scans that are missing.
        UsageError: the run of something else, or cases that the data does not have.
    """
    folder = RunFolder(path)
    if not folder.settings_file.is_file():
        raise DataError(f"{path} is not a run folder.", "give the folder that voco finetune wrote")
    settings = read_saved(folder.settings_file)
    if settings.task.preset is None:
        raise UsageError(f"{path} is a pre-training run, which predicts nothing.", "fine-tune it first: voco finetune")
    about = folder.weights / "model.json"
    if not about.is_file():
        raise DataError(f"{path} has no trained network yet.", "run voco finetune on it to the end")
    datalist = read_datalist(folder.data_file, check_files=data is None)
    if data is not None:
        datalist = _moved(datalist, settings, data)
    return FinetunedRun(path, settings, datalist, _chosen(about))


def measured_split(run: FinetunedRun, wanted: str | None = None) -> tuple[str, list[Entry]]:
    """The split to measure on and its labelled cases: the wanted one, else test where it has labels, else validation.

    Raises:
        UsageError: no labelled case.
    """
    for split in MEASURABLE if wanted is None else (wanted,):
        entries: tuple[Entry, ...] = getattr(run.datalist, split)
        labelled = [entry for entry in entries if entry.label is not None or entry.category is not None]
        if labelled:
            return split, labelled
    where = f"in its {wanted} split" if wanted else "to test or validate on"
    raise UsageError(f"{run.path} has no labelled case {where}.", "see data.json in the run folder")


def measure_segmentation(
    run: FinetunedRun,
    split: str,
    entries: Sequence[Entry],
    options: EvaluationOptions | None = None,
    *,
    device: str | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Predict what is missing into ``predictions/<split>`` of the run and measure it against the original label maps.

    Args:
        entries: labelled cases of the split, as `measured_split` gives them.
        options: how to measure; none is as the run's settings have it.
        device: auto, cpu, cuda, cuda:N or mps; none is the run's.
    Raises:
        DataError: no case could be predicted or measured.
    """
    folder, suffix = run.predictions(split), run.settings.predict.suffix
    with progress("predicting", len(entries)) as advance:
        failed = predict_entries(run.path, entries, folder, device=device, on_done=lambda *_: advance())
    reasons = dict(failed)
    pairs = [
        CasePair(entry.name, entry.patient, folder / f"{entry.name}{suffix}", entry.label)
        for entry in entries
        if entry.label is not None and entry.name not in reasons
    ]
    if not pairs:
        raise DataError(f"None of the {len(entries)} {split} cases could be predicted: {next(iter(reasons.values()))}")
    evaluation = evaluate_pairs(
        pairs,
        options or options_of(run.settings),
        classes=task_classes(run.settings.task),
        regions=task_regions(run.settings.task),
        progress=progress,
    )
    return replace(evaluation, failed=tuple(sorted([*evaluation.failed, *reasons.items()])))


def options_of(settings: Settings) -> EvaluationOptions:
    """How the settings have it measured."""
    evaluate = settings.evaluate
    return EvaluationOptions(evaluate.tolerance_mm, empty_rule(evaluate.empty), evaluate.resamples, settings.seed)


def task_classes(task: Task) -> tuple[Structure, ...]:
    """The classes of a task by the values of its label maps; several values are one structure."""
    return tuple(Structure(one.name, one.values) for one in task.classes)


def task_regions(task: Task) -> tuple[Structure, ...]:
    """The regions of a task: the values of all classes that belong to each.

    Raises:
        UsageError: a region of a region that is only named after it.
    """
    values = {one.name: set(one.values) for one in task.classes}
    regions = []
    for region in task.regions:
        later = [name for name in region.classes if name not in values]
        if later:
            raise UsageError(f"The region {region.name!r} consists of {later[0]!r}, which is only named after it.")
        values[region.name] = set().union(*(values[name] for name in region.classes))
        regions.append(Structure(region.name, tuple(sorted(values[region.name])), is_region=True))
    return tuple(regions)


def _chosen(about: Path) -> str:
    try:
        chosen = loads(about.read_text()).get("chosen", "")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{about} is damaged: {error}.", "run voco finetune on the folder again") from error
    return str(chosen)


def _moved(datalist: Datalist, settings: Settings, data: Path) -> Datalist:
    """The same cases of the same splits, where they lie now."""
    where = {"file": data, "root": None} if data.is_file() else {"file": None, "root": data}
    moved = settings.model_copy(update={"data": settings.data.model_copy(update=where)})
    found = {entry.name: entry for _, entry in find_task_data(moved).datalist.entries()}
    missing = [entry.name for split in MEASURABLE for entry in getattr(datalist, split) if entry.name not in found]
    if missing:
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        raise DataError(f"{data} has no case {', '.join(missing[:MOST_NAMED])}{more}.", "give the data of the run")
    return datalist.model_copy(
        update={split: tuple(found[entry.name] for entry in getattr(datalist, split)) for split in MEASURABLE}
    )
