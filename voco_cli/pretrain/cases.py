"""The scans of a pre-training: what of a list can be trained on, in a form that travels to many processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

from voco_cli.config import Settings
from voco_cli.data.cache.grid import IntXYZ
from voco_cli.data.cache.manifest import VolumeFacts
from voco_cli.data.cache.store import VolumeCache, cache_folder, stored_path
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.data.case_labels import CaseLabels
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.labelled import labels_of, scan_labels_of
from voco_cli.data.index.trained_on import ScanIdentity, scan_identity
from voco_cli.data.parallel import map_waiting
from voco_cli.errors import DataError, UsageError
from voco_cli.object_stores import is_address, location, shared_folder
from voco_cli.objectives.objective import Case
from voco_cli.tasks.targets import refuse_unlisted
from voco_cli.training.run_contents import scan_content

TOO_SMALL = "too small after preprocessing"


class CachedCases(Sequence[Case]):
    """Cases of a cache as text, each made where it is asked for: 160,000 take 40 MB in a process, and not 300.

    Args:
        folder: of the cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cases: list[tuple[str, bytes, bytes | None, str, CaseLabels | None, tuple[bool | None, ...], str]] = []

    def add(
        self,
        name: str,
        facts: VolumeFacts,
        scan: Path,
        labels: CaseLabels | None = None,
        scan_labels: tuple[bool | None, ...] = (),
        set_name: str = "",
    ) -> None:
        """Add a case.

        Args:
            name: that its draws go by.
            facts: what is known of its volume.
            scan: that the volume was made of, for messages.
            labels: what its label map says of classes.
            scan_labels: what is known of the whole scan.
            set_name: of the scans that it is drawn with.
        """
        self._cases.append((name, facts.key, facts.label_key, str(scan), labels, scan_labels, set_name))

    def __len__(self) -> int:
        return len(self._cases)

    @overload
    def __getitem__(self, place: int) -> Case: ...
    @overload
    def __getitem__(self, place: slice) -> list[Case]: ...
    def __getitem__(self, place: int | slice) -> Case | list[Case]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        name, key, label_key, scan, labels, scan_labels, set_name = self._cases[place]
        volume = stored_path(self.folder, "volumes", key)
        label = None if label_key is None else stored_path(self.folder, "labels", label_key)
        return Case(name, StoredVolume(volume, label, location(scan)), labels, scan_labels, set_name)


@dataclass
class UsableScans:
    """What of a list can be trained on, the same on every process.

    Attributes:
        dataset: name of the list.
        training, held_out: cached scans that are large enough.
        left_out: the others, with the reason.
        label_maps: files of the label maps that held-out scans are measured against, by the case's name.
    """

    dataset: str
    training: CachedCases
    held_out: CachedCases
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    label_maps: dict[str, Path] = field(default_factory=dict)


@dataclass
class ScanRecord:
    """What a run keeps of its scans; the main process alone writes it.

    Attributes:
        identities: of the training scans, for the manifest that goes with the weights.
        contents: split to what each of its scans holds, None for those that are left out.
    """

    identities: list[ScanIdentity] = field(default_factory=list)
    contents: dict[str, list[str | None]] = field(default_factory=dict)


def open_cache(settings: Settings) -> VolumeCache:
    """Open the cache of a pre-training: in ``cache.dir``, or beside the data file."""
    assert settings.data.file is not None
    folder, labels = cache_folder(settings.data.file, settings.cache), settings.objective.needs_labels
    return VolumeCache(folder, settings.preprocess, settings.cache, labels=labels)


def case_names(entries: Sequence[Entry]) -> dict[Path, str]:
    """Names that random draws go by: paths below the folder that all scans share, wherever data.json lies."""
    paths = [str(entry.image) for entry in entries]
    shared = str(shared_folder(map(location, {os.path.dirname(path) for path in paths})))  # noqa: PTH120 (160,000)
    return {entry.image: _name_below(path, shared) for entry, path in zip(entries, paths, strict=True)}


def _name_below(path: str, shared: str) -> str:
    if path.startswith(shared + os.sep) and os.pardir not in path:
        return path[len(shared) + 1 :].replace(os.sep, "/")
    if is_address(path) or shared == ".":
        return path
    return Path(os.path.relpath(path, shared)).as_posix()


def usable_scans(
    datalist: Datalist, facts: Sequence[VolumeFacts | str], settings: Settings, needed_vox: IntXYZ
) -> tuple[UsableScans, ScanRecord]:
    """Return what can be trained on, and what is to be kept of it.

    Args:
        facts: what is known of the volumes of the training scans and then of those held out, or why there is none.
        settings: data file and cache.
        needed_vox: the least volume, voxels along x, y, z.
    Raises:
        UsageError: no training scan is as large as the crops need.
        DataError: none can be used; label values without a name, where ``task.unlisted`` refuses them.
    """
    names = case_names([*datalist.training, *datalist.validation])
    folder = open_cache(settings).folder
    scans, record = UsableScans(datalist.name, CachedCases(folder), CachedCases(folder)), ScanRecord()
    scans.label_maps = {names[one.image]: one.label for one in datalist.validation if one.label is not None}
    classes = settings.objective.supervised.classes
    labels = labels_of(datalist, classes, settings.data.file) if classes else {}
    of_scans = scan_labels_of(datalist, settings.objective.weak.classes)
    labelled: list[tuple[Path, StoredVolume, CaseLabels]] = []
    rest = iter(facts)
    for split, cases in (("training", scans.training), ("validation", scans.held_out)):
        contents = record.contents.setdefault(split, [])
        for entry, known in zip(getattr(datalist, split), rest, strict=False):
            contents.append(None if isinstance(known, str) else scan_content([known]))
            if isinstance(known, str) or (small := _too_small(known.shape_xyz, needed_vox)):
                scans.left_out.append((entry.image, known if isinstance(known, str) else str(small)))
                continue
            own, whole = labels.get(entry.image), of_scans.get(entry.image, ())
            cases.add(names[entry.image], known, entry.image, own, whole, entry.set_name)
            if own is not None and entry.label is not None:
                labelled.append((entry.label, cases[-1].volume, own))
            if cases is scans.training:
                used = own is not None or bool(whole)
                record.identities.append(replace(scan_identity(entry, known.voxel_hash), labels_used=used))
    if settings.task.unlisted == "refuse":
        _refuse_unlisted(labelled, settings.data.file)
    if not scans.training:
        raise _nothing_to_train_on(datalist, settings, scans.left_out)
    return scans, record


def _refuse_unlisted(labelled: Sequence[tuple[Path, StoredVolume, CaseLabels]], source: Path | None) -> None:
    """Raise a DataError if a label map holds values without a name, which would be learned as background."""
    values = map_waiting(lambda one: one[2].unlisted(one[1].label_values), labelled)
    found = {path: held for (path, _, _), held in zip(labelled, values, strict=True) if held}
    refuse_unlisted(
        found,
        f"{source} has no name for",
        "name them by `voco index --class-map FILE.yaml` (its leave_out says which classes nobody learns), or set "
        "task.unlisted=background to take them as background",
    )


def _too_small(shape_xyz: IntXYZ, needed_vox: IntXYZ) -> str | None:
    if all(map(int.__ge__, shape_xyz, needed_vox)):
        return None
    sizes = ["x".join(map(str, size)) for size in (shape_xyz, needed_vox)]
    return f"{TOO_SMALL}: {sizes[0]} voxels, {sizes[1]} are needed"


def _nothing_to_train_on(
    datalist: Datalist, settings: Settings, left_out: Sequence[tuple[Path, str]]
) -> UsageError | DataError:
    what = f"None of the {len(datalist.training)} training scans of {settings.data.file} can be used"
    reasons = "; ".join(f"{path.name} is {reason}" for path, reason in left_out[:3])
    if any(reason.startswith(TOO_SMALL) for _, reason in left_out):
        return UsageError(
            f"{what} ({reasons}).", "choose a smaller crops.size or crops.grid, or pad with preprocess.min_size_vox"
        )
    return DataError(f"{what} ({reasons or 'it lists none'}).", "look at them with `voco index --check full`")
