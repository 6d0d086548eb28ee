"""What datalists and ``dataset.json`` files say of scans: label maps, splits, modalities and names of label values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voco_cli.data.index.datalist import Datalist, Entry, Skipped
from voco_cli.data.index.datalist_file import label_names, only_modality, read_datalist, read_text
from voco_cli.data.index.patients import CHANNEL, stem_of
from voco_cli.data.index.scan_files import header_file
from voco_cli.data.index.splits import stricter
from voco_cli.errors import VocoError


@dataclass
class Sources:
    """The statements of all lists, by real path, so that a link to a file means the file.

    Attributes:
        listed: image to the entry of the list that named it first.
        label_of: image to label map.
        split_of: image to the split that a list with held-out scans prescribes.
        modality_below: folder to the modality that its ``dataset.json`` states; mixed where channels differ.
        channels_below: folder to the modality of each channel number, where they differ.
        names_of: image to the label names of the list that names it first.
        names_below: folder to the label names of its ``dataset.json``.
        skipped: unreadable ``dataset.json`` files, missing files.
    """

    listed: dict[Path, Entry] = field(default_factory=dict)
    label_of: dict[Path, Path] = field(default_factory=dict)
    split_of: dict[Path, str] = field(default_factory=dict)
    modality_below: dict[Path, str] = field(default_factory=dict)
    channels_below: dict[Path, dict[int, str]] = field(default_factory=dict)
    names_of: dict[Path, dict[str, str]] = field(default_factory=dict)
    names_below: dict[Path, dict[str, str]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def modality_at(self, path: Path) -> str:
        """Return the modality that the nearest ``dataset.json`` above a file states."""
        above = next((above for above in path.parents if above in self.modality_below), None)
        if above is None:
            return "unknown"
        if above in self.channels_below and (number := CHANNEL.search(stem_of(path))):
            return self.channels_below[above].get(int(number[0][1:]), "unknown")
        return self.modality_below[above]

    def label_names(self, labelled: Iterable[tuple[Path, Path]]) -> LabelNames:
        """Return what the values of label maps are called, where that is the same for all.

        Names stand in the list of an image, beside its label map, or in a ``dataset.json`` above the image.

        Args:
            labelled: images with their label maps.
        """
        names: dict[str, str] = {}
        files: list[Path] = []
        unnamed = False
        odd: dict[Path, str] = {}
        for image, label in labelled:
            beside = names_beside(label)
            found = self.names_of.get(image.resolve()) or beside
            found = found or next((self.names_below[one] for one in image.parents if one in self.names_below), {})
            files += [names_file(label)] if beside else []
            other = next((value for value, name in found.items() if names.get(value, name) != name), None)
            if other is not None:
                odd[image] = f"{other} is {found[other]} here and {names[other]} elsewhere"
            names = {**found, **names}
            unnamed = unnamed or not found
        return LabelNames({} if odd or unnamed else names, tuple(files), odd)


@dataclass(frozen=True)
class LabelNames:
    """Names of label values.

    Attributes:
        names: value to name; empty where they do not hold for all label maps.
        files: files beside label maps that they stand in.
        contradicting: image whose label map calls a value by another name than those before, to what it calls so.
    """

    names: dict[str, str]
    files: tuple[Path, ...] = ()
    contradicting: Mapping[Path, str] = field(default_factory=dict)


def names_file(label: Path) -> Path:
    """Return where TotalSegmentator and others name a label map's values: ``x_seg.json`` beside its file."""
    return label.with_name(f"{stem_of(label)}.json")


def names_beside(label: Path) -> dict[str, str]:
    """Read value to name from the file beside a label map, ``{"1": "spleen"}`` or the same under labels; or empty."""
    try:
        raw: Any = json.loads(read_text(names_file(label)))
    except (OSError, ValueError):
        return {}
    found = raw.get("labels", raw) if isinstance(raw, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, str | int) for value in found.values()):
        return {}
    named = label_names(found)
    return named if len(named) == len(found) else {}


def read_sources(datalists: Sequence[Path], dataset_files: Iterable[Path]) -> Sources:
    """Read all lists.

    Raises:
        DataError, UsageError: a list that was named as an input and cannot be read; one met in a folder is skipped.
    """
    sources = Sources()
    for path in datalists:
        datalist = read_datalist(path, check_files=False)
        _add_datalist(sources, datalist, path, with_splits=bool(datalist.validation or datalist.test))
    for path in dataset_files:
        try:
            _add_dataset_file(sources, path)
        except VocoError as error:
            sources.skipped.append(Skipped(path=path, reason=error.message.removeprefix(f"{path} ")))
    return sources


def _add_datalist(sources: Sources, datalist: Datalist, path: Path, with_splits: bool) -> None:
    for split, entry in datalist.entries():
        label = entry.label if entry.label is not None and entry.label.exists() else None
        if entry.label is not None and label is None:
            sources.skipped.append(Skipped(path=entry.label, reason=f"missing: {path} lists it as a label."))
        if label is not None and header_file(label).resolve() == header_file(entry.image).resolve():
            sources.skipped.append(Skipped(path=label, reason=f"label that is its own image, as {path} lists it."))
            label = None
        for one in entry.channel_entries():
            image = header_file(one.image).resolve()
            # Also of an image that is missing or refused: a label map is never a scan.
            if label is not None:
                sources.label_of.setdefault(image, header_file(label))
            if not one.image.exists():
                sources.skipped.append(Skipped(path=one.image, reason=f"missing: {path} lists it."))
                continue
            sources.listed.setdefault(image, one)
            sources.names_of.setdefault(image, datalist.labels)
            if with_splits:
                sources.split_of[image] = stricter(sources.split_of.get(image, split), split)


def _add_dataset_file(sources: Sources, path: Path) -> None:
    """Add what a ``dataset.json`` says: Decathlon's lists pairs, nnU-Net's names labels and channels; no splits."""
    try:
        raw: Any = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        sources.skipped.append(Skipped(path=path, reason=f"not valid JSON: {error}."))
        return
    if not isinstance(raw, dict):
        return
    stated = raw.get("modality", raw.get("channel_names", "unknown"))
    sources.modality_below[path.parent] = modality = only_modality(stated)
    if modality == "mixed" and isinstance(stated, dict):
        sources.channels_below[path.parent] = {
            int(number): only_modality(word) for number, word in stated.items() if number.isdecimal()
        }
    if isinstance(raw.get("training"), list):
        _add_datalist(sources, read_datalist(path, check_files=False), path, with_splits=False)
    elif isinstance(raw.get("labels"), dict) and (names := label_names(raw["labels"])):
        sources.names_below[path.parent] = names
