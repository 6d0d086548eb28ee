"""Tell which files are the channels of one case: by a task's layouts, by names of channels, by nnU-Net's numbers."""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Entry, with_distinct_names
from voco_cli.data.index.datalist_file import read_text
from voco_cli.data.index.patients import case_of, stem_of
from voco_cli.data.index.scan_files import DATASET_FILE
from voco_cli.tasks.layouts import case_name, case_regex

NUMBERED = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
"""nnU-Net: case_0000.nii.gz is channel 0 of a case."""


@dataclass(frozen=True)
class Place:
    """Where a file belongs: which channel of which case; the channel is none where its name does not say."""

    folder: Path
    case: str
    channel: int | None


def place_of_file(path: Path, task: Task, present: set[tuple[Path, str]]) -> Place:
    """Return the case and channel of a file.

    Args:
        present: folder and stem of all files.
    """
    stem, channels = stem_of(path), task.channels
    match = NUMBERED.fullmatch(stem)
    numbered = match and _is_channel(path.parent, match["case"], len(channels), present)
    if len(channels) == 1 and not numbered:
        return _by_layout(path, task) or Place(path.parent, stem, 0)
    if len(channels) > 1:
        if (place := _by_layout(path, task)) is not None:
            return place
        for channel, name in enumerate(channels):
            if named := re.fullmatch(rf"(.+)[-_. ]{re.escape(name)}", stem, re.IGNORECASE):
                return Place(path.parent, named[1], channel)
            if stem.lower() == name.lower():  # p1/t1.nii.gz: the folder is the case
                return Place(path.parent.parent, path.parent.name, channel)
    return (
        Place(path.parent, match["case"], int(match["number"]))
        if match and numbered
        else Place(path.parent, stem, None)
    )


def merge_channels(entries: Sequence[Entry], task: Task) -> list[Entry]:
    """Join entries of one case, where a list has each channel as a scan of its own, as `voco index` writes it.

    Cases of which a channel is lacking, and those whose channels the list gives, stay as they are.
    """
    if len(task.channels) == 1:
        return list(entries)
    present = {(entry.image.parent, stem_of(entry.image)) for entry in entries}
    groups: dict[Place, dict[int, Entry]] = defaultdict(dict)
    others: list[Entry] = []
    for entry in entries:
        place = place_of_file(entry.image, task, present)
        group = groups[Place(place.folder, place.case, None)]
        if entry.channels or place.channel is None or place.channel in group:
            others.append(entry)
        else:
            group[place.channel] = entry
    merged: dict[int, Entry] = {}
    for place, group in groups.items():
        members = [group[channel] for channel in sorted(group)]
        complete = sorted(group) == list(range(len(task.channels))) and not any(one.files for one in members[1:])
        if complete:
            merged[id(members[0])] = _merged(members, place)
        else:
            others += members
    kept = {id(entry) for entry in others}
    cases = [merged.get(id(entry), entry) for entry in entries if id(entry) in merged or id(entry) in kept]
    return with_distinct_names(cases)


def _merged(members: Sequence[Entry], place: Place) -> Entry:
    first, *others = members
    label = next((one.label for one in members if one.label is not None), None)
    return first.model_copy(update={"case": place.case, "label": label, "channels": tuple(one.image for one in others)})


def channels_of(labelled: Sequence[Entry]) -> tuple[str, ...] | None:
    """Name the channels of cases whose sequences are scans that share a label map; none where cases differ.

    nnU-Net's numbers get the names of the ``dataset.json`` above the images; others are the ends of the files' names.
    """
    groups: dict[Path | None, list[Path]] = defaultdict(list)
    for entry in labelled:
        groups[entry.label].append(entry.image)
    names = {_channel_names(sorted(images)) for images in groups.values()}
    if len(names) != 1:
        return None
    found = names.pop()
    numbers = tuple(f"{number:04d}" for number in range(len(found)))
    if len(found) > 1 and found == numbers:
        stated = _stated_channels(labelled[0].image)
        usable = len(set(stated)) == len(found) == len(stated)
        return stated if usable else tuple(f"channel_{number}" for number in range(len(found)))
    return found


def _channel_names(images: Sequence[Path]) -> tuple[str, ...]:
    """Return what tells the files of a case apart: numbers of channels, or the ends of their names."""
    stems = [stem_of(image) for image in images]
    if len(stems) == 1:
        return ("image",)
    if len({case_of(image) for image in images}) == 1:
        return tuple(stem[-4:] for stem in stems)
    parts = [re.split(r"(?<=[-_. ])", stem) for stem in stems]
    columns = zip(*(one[:-1] for one in parts), strict=False)
    common = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
    return tuple("".join(one[common:]) for one in parts)


def _stated_channels(image: Path) -> tuple[str, ...]:
    """Read the names of channels from the nearest sound ``dataset.json`` above an image; none where there is none."""
    file = next((folder / DATASET_FILE for folder in image.parents if (folder / DATASET_FILE).is_file()), None)
    try:
        raw = json.loads(read_text(file)) if file else {}
    except (OSError, ValueError):
        return ()
    names = raw.get("channel_names", raw.get("modality")) if isinstance(raw, dict) else None
    if not isinstance(names, dict):
        return ()
    return tuple(str(names[key]) for key in sorted(names, key=lambda key: (len(key), key)))


def _by_layout(path: Path, task: Task) -> Place | None:
    """Return the place that a layout of the task gives to a file, wherever its folder lies."""
    for layout in task.layouts:
        for channel, pattern in enumerate(layout.image):
            if match := re.search(rf"(?:^|/){case_regex(pattern)}$", path.as_posix()):
                return Place(path.parents[pattern.count("/")], case_name(layout, match["case"]), channel)
    return None


def _is_channel(folder: Path, case: str, channels: int, present: set[tuple[Path, str]]) -> bool:
    """Return whether the number after a case counts its channels, or tells it from other cases (``volume_0012``).

    Channels begin at 0. A case without a number of its own, of a network with one channel, is numbered by it.
    """
    if (folder, f"{case}_0000") not in present:
        return False
    alone = (folder, f"{case}_0001") not in present
    return channels > 1 or alone or any(letter.isdigit() for letter in case)
