"""Label maps of many scans by a trained network, each in its scan's own space; a bad scan does not end the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from voco_cli.config import Settings
from voco_cli.config.task_schema import Predict
from voco_cli.data.cache.entry import voxel_settings
from voco_cli.data.cache.grid import GridMap
from voco_cli.data.index.datalist import Entry, is_file_name
from voco_cli.data.io.image import IGNORE, Scan
from voco_cli.data.io.reader import read_header, write_scan
from voco_cli.data.parallel import HERE, Runner
from voco_cli.errors import UsageError
from voco_cli.predict.memory import Room, needed_memory
from voco_cli.predict.output_dir import (
    ELSEWHERE,
    FORMAT,
    LABELS,
    RECORD,
    OnDone,
    PredictionFolder,
    PredictionReport,
    write_json,
)
from voco_cli.predict.predictor import Trained, prepare
from voco_cli.predict.sliding_window import Network, SizeXYZ, labels_on_scan_grid, sliding_window, swept_axis
from voco_cli.tasks.targets import is_class_union, to_label_values


@torch.no_grad()
def segment(
    channels_CXYZ: NDArray[Any],
    record: GridMap,
    network: Network,
    *,
    patch_size: SizeXYZ,
    predict: Predict,
    device: torch.device,
) -> NDArray[Any]:
    """Predict the class of every voxel of a scan.

    Logits are averaged over overlapping windows, brought to the scan's own grid, and compared there: labels that were
    resampled by the nearest voxel would have steps. Neither grid ever holds all classes of the whole volume.

    Args:
        channels_CXYZ: the preprocessed volume in stored numbers (uint8, int16 or float16 of [0, 1]).
        record: how it lies in the scan's grid.
        network: from windows_NCXYZ, float32 in [0, 1] on the device, to logits_NKXYZ; in evaluation mode.
        patch_size: the window, as in training.
        predict: overlap, windows at a time, flips.
    Returns:
        indices in memory order (z, y, x of the scan's own axes), uint8, or uint16 above 256 classes; 0, background,
        outside the foreground box.
    """
    swept = swept_axis(channels_CXYZ.shape[1:], patch_size)
    slabs = sliding_window(channels_CXYZ, network, patch_size=patch_size, predict=predict, device=device, swept=swept)
    return labels_on_scan_grid(slabs, record, swept)


def predict_case(trained: Trained, entry: Entry) -> tuple[NDArray[Any], Scan]:
    """Predict one scan.

    Returns:
        values of the classes in memory order (z, y, x), and the scan, without its voxels, on whose grid they lie.
    Raises:
        DataError, GeometryError: channels that cannot be used.
    """
    settings = trained.settings
    prepared = prepare(entry, settings)
    indices_zyx = segment(
        prepared.channels_CXYZ,
        prepared.record,
        trained,
        patch_size=settings.task.patch_size,
        predict=settings.predict,
        device=trained.device,
    )
    return to_label_values(indices_zyx, settings.task.classes), prepared.scan


def predict_entries(
    trained: Trained,
    entries: Sequence[Entry],
    out: Path,
    *,
    overwrite: bool = False,
    on_done: OnDone = lambda entry, reason: None,
    runner: Runner = HERE,
) -> PredictionReport:
    """Predict scans into ``out/<case><suffix>``, with ``labels.json`` and ``prediction.json`` beside.

    Cases that the same weights and settings have predicted already are kept.

    Args:
        trained: of a segmentation.
        entries: cases of different names.
        overwrite: replace what another network, other settings or another program has written there.
        runner: does the work.
    Returns:
        what was done; failed scans are listed, not raised.
    Raises:
        UsageError: two cases of one name, a prediction that would replace an input, or a folder of other predictions.
        ResourceError: the disk is full.
    """
    paths = {entry.name: out / f"{entry.name}{trained.settings.predict.suffix}" for entry in entries}
    _refuse_names(entries)
    _refuse_own_inputs(entries, paths)
    return LabelMapFolder(out, trained, paths, overwrite=overwrite, runner=runner).predict(entries, on_done)


class LabelMapPredictor:
    """Label maps by one network, each written to its own file."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.room = Room.now(trained.device)

    def compute(self, entry: Entry) -> tuple[NDArray[Any], Scan]:
        """Predict a case, unless it cannot fit into the memory."""
        header = read_header(entry.image, entry.files)
        self.room.require(needed_memory(header, self.trained.settings, self.trained.device), entry.name)
        return predict_case(self.trained, entry)

    def store(self, prediction: tuple[NDArray[Any], Scan], target: Path) -> None:
        """Write the label map on its scan's grid."""
        values_zyx, scan = prediction
        write_scan(values_zyx, scan, target)


class LabelMapFolder(PredictionFolder):
    """Label maps of one network, one a case.

    Args:
        paths: where the label map of each case will be written.
    """

    format = FORMAT
    record_name = RECORD
    content = "predictions"
    predictor = LabelMapPredictor
    is_table = False

    def __init__(
        self, path: Path, trained: Trained, paths: Mapping[str, Path], *, overwrite: bool, runner: Runner = HERE
    ) -> None:
        self.paths = paths
        super().__init__(path, trained, overwrite=overwrite, runner=runner)
        if not runner.is_part:
            write_json(path / LABELS, self._labels())
            self.save()

    def dependencies(self) -> dict[str, Any]:
        """Return everything that a label map depends on, besides its scan."""
        settings = self.trained.settings
        task, predict = settings.task, settings.predict
        return {
            "weights": self.trained.digest,
            "overlap": predict.overlap,
            "flips": predict.flips,
            "suffix": predict.suffix,
            "patch_size": task.patch_size,
            "channels": task.channels,
            "classes": {one.name: one.values[0] for one in task.classes},
            "voxels": voxel_settings(settings.preprocess, settings.cache),
        }

    def resume(self, record: Mapping[str, Any]) -> bool:
        """Take over the finished cases of a record."""
        self.cases = {str(name): str(source) for name, source in record.get("cases", {}).items()}
        return True

    def refuse_others(self, record: Mapping[str, Any] | None) -> None:
        """Raise a UsageError if others have predicted here, or files of the same names are here without a record."""
        if record is not None:
            self.refuse_difference(record)
        present = next((target for target in self.paths.values() if target.exists()), None)
        if present is not None:
            raise UsageError(f"{present} is there and was not written by voco predict.", ELSEWHERE)

    def holds(self, case: str) -> bool:
        """Return whether the label map is there."""
        return self.paths[case].is_file()

    def target(self, case: str) -> Path:
        """Return the file of the label map."""
        return self.paths[case]

    def save(self) -> None:
        """Write the record."""
        content = {"format": self.format, "run": self.run, "made_by": self.made_by, "cases": self.cases}
        write_json(self.path / self.record_name, {**content, "failed": self.failed})

    @property
    def files(self) -> tuple[Path, ...]:
        """Names of the labels, and the record."""
        return self.path / LABELS, self.path / self.record_name

    def _labels(self) -> dict[str, Any]:
        task, about = self.trained.settings.task, self.trained.about
        ignored = {} if task.ignore_value is None else {str(task.ignore_value): IGNORE}
        labels = {str(one.values[0]): one.name for one in task.classes}
        return {
            "labels": {**(union_labels(self.trained.settings) or labels), **ignored},
            "run": self.run,
            "step": about.get("step"),
            "chosen": about.get("chosen"),
        }


def union_labels(settings: Settings) -> dict[str, Any]:
    """Return the names of a union of classes: value to name, and name to values of what contains others."""
    if not is_class_union(settings):
        return {}
    options = settings.objective.supervised
    inside = dict(options.inside)
    plain = {str(k + 1): name for k, name in enumerate(options.classes) if k not in inside}
    return plain | {options.classes[k]: sorted([k + 1, *(part + 1 for part in parts)]) for k, parts in inside.items()}


def _refuse_names(entries: Sequence[Entry]) -> None:
    """Refuse two cases of one name, which would overwrite one another, and a name with a folder in it."""
    first: dict[str, Entry] = {}
    for entry in entries:
        if not is_file_name(entry.name):
            raise UsageError(f"The case {entry.name!r} of {entry.image} cannot be the name of a file.")
        other = first.setdefault(entry.name, entry)
        if other is not entry:
            raise UsageError(
                f"{other.image} and {entry.image} would both be predicted as {entry.name}.",
                "predict them into different folders, or name them in a data.json (case)",
            )


def _refuse_own_inputs(entries: Sequence[Entry], paths: Mapping[str, Path]) -> None:
    targets = {path.resolve() for path in paths.values()}
    for entry in entries:
        files = (entry.image, *entry.channels, *([entry.label] if entry.label is not None else []))
        if hit := next((file for file in files if file.resolve() in targets), None):
            raise UsageError(f"The prediction would replace {hit}.", "choose another folder with --output")
