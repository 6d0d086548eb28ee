"""The run folder of a fine-tuning, opened to be measured: its settings, its cases, and how its weights were chosen."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from json import loads
from pathlib import Path

from voco_cli.dataset.datalist import Datalist, Entry
from voco_cli.dataset.datalist_file import read_datalist
from voco_cli.downstream.tasks.data import find_task_data
from voco_cli.downstream.tasks.split import named
from voco_cli.engine.run_folder import RunFolder
from voco_cli.errors import DataError, UsageError
from voco_cli.settings import Settings, read_saved

MEASURABLE = ("test", "validation")
MOST_NAMED = 5


@dataclass(frozen=True)
class FinetunedRun:
    """A run folder of a fine-tuning, opened to be measured.

    Attributes:
        path: the folder.
        settings: those of the run.
        datalist: its cases.
        chosen: how its weights were chosen, one sentence for people; empty where that is not known.
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

    def labelled(self, split: str) -> list[Entry]:
        """Cases of a split that have what the task learns: a label map, or a category."""
        entries: tuple[Entry, ...] = getattr(self.datalist, split)
        if self.settings.task.kind == "classification":
            return [entry for entry in entries if entry.category is not None]
        return [entry for entry in entries if entry.label is not None]


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
        raise UsageError(
            f"{path} is a pre-training run, which predicts nothing.",
            f"fine-tune it first: voco finetune --task TASK --weights {shlex.quote(str(path))}",
        )
    about = folder.weights / "model.json"
    if not about.is_file():
        raise DataError(f"{path} has no trained network yet.", "run voco finetune on it to the end")
    datalist = read_datalist(folder.data_file, check_files=False)
    if data is not None:
        datalist = _moved(datalist, settings, data)
    _require_files(datalist, path)
    return FinetunedRun(path, settings, datalist, _chosen(about))


def measured_split(run: FinetunedRun, wanted: str | None = None) -> tuple[str, list[Entry]]:
    """The split to measure on and its labelled cases: the wanted one, else test where it has labels, else validation.

    Raises:
        UsageError: no labelled case.
    """
    for split in MEASURABLE if wanted is None else (wanted,):
        if labelled := run.labelled(split):
            return split, labelled
    where = f"in its {wanted} split" if wanted else "to test or validate on"
    raise UsageError(f"{run.path} has no labelled case {where}.", "see data.json in the run folder")


def _require_files(datalist: Datalist, path: Path) -> None:
    """Scans and labels that can be measured must be there; those that were trained on need not be any more."""
    entries = [entry for split in MEASURABLE for entry in getattr(datalist, split)]
    files = [file for entry in entries for file in (entry.image, *entry.files, *entry.channels, entry.label) if file]
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        raise DataError(
            f"{named(missing)} of {path}/data.json: no such file any more.",
            "copy them back, or say where the data lie now with --data",
        )


def _chosen(about: Path) -> str:
    try:
        content = loads(about.read_text())
        step = content.get("step")
        chosen = content.get("chosen") or (f"those of step {step} of a run that is not finished" if step else "")
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
