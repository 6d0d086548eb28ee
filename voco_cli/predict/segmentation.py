"""Label maps of many scans by a trained network, each in its scan's own space; a bad scan does not end the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from voco_cli.config.task_schema import Predict
from voco_cli.data.cache.grid import GridMap
from voco_cli.data.index.datalist import Entry, is_file_name
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_header, write_scan
from voco_cli.errors import UsageError, VocoError
from voco_cli.predict.inputs import prepare
from voco_cli.predict.memory import Room, needed_memory
from voco_cli.predict.output_dir import PredictionFolder
from voco_cli.predict.predictor import Trained
from voco_cli.predict.sliding_window import Network, SizeXYZ, labels_on_scan_grid, sliding_window, swept_axis
from voco_cli.tasks.cases import to_label_values


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


OnDone = Callable[[Entry, str | None], None]


@dataclass(frozen=True)
class Report:
    """What became of a batch.

    Attributes:
        predicted: cases that were predicted now.
        kept: cases that the folder held already, of the same scan, weights and settings.
        failed: cases with the reason, one sentence each.
        written: files that stand beside the label maps.
    """

    predicted: tuple[str, ...]
    kept: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    written: tuple[Path, ...]


def predict_entries(
    trained: Trained,
    entries: Sequence[Entry],
    out: Path,
    *,
    overwrite: bool = False,
    on_done: OnDone = lambda entry, reason: None,
) -> Report:
    """Predict scans into ``out/<case><suffix>``, with ``labels.json`` and ``prediction.json`` beside.

    Cases that the same weights and settings have predicted already are kept. Everything is written whole or not at all,
    so that the same call after an interruption goes on.

    Args:
        trained: of a segmentation.
        entries: cases of different names.
        overwrite: replace what another network, other settings or another program has written there.
        on_done: called for each case, with the reason why it failed, or None.
    Returns:
        what was done; failed scans are listed, not raised.
    Raises:
        UsageError: two cases of one name, a prediction that would replace an input, or a folder of other predictions.
        ResourceError: the disk is full.
    """
    paths = {entry.name: out / f"{entry.name}{trained.settings.predict.suffix}" for entry in entries}
    _refuse_names(entries)
    _refuse_own_inputs(entries, paths)
    folder = PredictionFolder.open(out, trained, list(paths.values()), overwrite=overwrite)
    batch = _Batch(trained, folder, Room.now(trained.device))
    predicted: list[str] = []
    kept: list[str] = []
    failed: list[tuple[str, str]] = []
    try:
        for entry in entries:
            reason = None
            try:
                made = batch.case(entry, paths[entry.name])
            except Exception as error:  # whatever a library makes of a damaged file: it is this scan's fault alone
                reason = _reason(error, entry)
                failed.append((entry.name, reason))
                folder.record_failure(entry.name, reason)
            else:
                (kept if made is None else predicted).append(entry.name)
                if made is not None:
                    write_scan(made.values_zyx, made.scan, paths[entry.name])
                    folder.record(entry.name, made.source)
            on_done(entry, reason)
    finally:
        folder.save()
    return Report(tuple(predicted), tuple(kept), tuple(failed), folder.files)


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


@dataclass(frozen=True)
class _Made:
    values_zyx: NDArray[Any]
    scan: Scan
    source: str


@dataclass(frozen=True)
class _Batch:
    trained: Trained
    folder: PredictionFolder
    room: Room

    def case(self, entry: Entry, path: Path) -> _Made | None:
        """Predict a case, unless it is finished."""
        source = self.folder.source_of(entry)
        if self.folder.is_finished(entry.name, source, path):
            return None
        header = read_header(entry.image, entry.files)
        self.room.require(needed_memory(header, self.trained.settings, self.trained.device), entry.name)
        values_zyx, scan = predict_case(self.trained, entry)
        return _Made(values_zyx, scan, source)


def _refuse_names(entries: Sequence[Entry]) -> None:
    """Two cases of one name would overwrite one another; a name with a folder in it would lie elsewhere."""
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


def _reason(error: Exception, entry: Entry) -> str:
    if isinstance(error, VocoError):
        return error.message
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"{entry.name} did not fit into memory ({type(error).__name__} {error})."
    return f"{entry.name} could not be predicted ({type(error).__name__}: {error})."
