"""What `voco predict` is pointed at: files, folders and lists in, cases out, each with as many channels as needed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from voco_cli.dataset.candidates import Candidate, find_candidates
from voco_cli.dataset.datalist import Entry, Skipped
from voco_cli.dataset.datalist_file import read_datalist
from voco_cli.dataset.inspection import inspect_file, is_label_map
from voco_cli.dataset.pairing import pair_labels
from voco_cli.dataset.parallel import map_files
from voco_cli.dataset.patient import stem_of
from voco_cli.dataset.walk import FoundFile, walk_inputs
from voco_cli.downstream.prediction.folder import RECORD, predicted_files
from voco_cli.downstream.prediction.prepared import channel_fault
from voco_cli.downstream.tasks.folder import FIELD, case_name
from voco_cli.errors import DataError, UsageError
from voco_cli.settings.task import Task

NUMBERED = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
"""nnU-Net: case_0000.nii.gz is channel 0 of a case."""
NO_SCAN = ("not an image", "no image", "reached twice", "label map", "prediction")
"""How the reasons begin of what was met in a folder and is no scan that failed."""


@dataclass(frozen=True)
class Inputs:
    """What was found.

    Attributes:
        entries: cases with all their channels.
        refused: cases that cannot be predicted, and why.
        passed_over: what is no scan to predict: label maps, text files.
    """

    entries: tuple[Entry, ...]
    refused: tuple[tuple[str, str], ...]
    passed_over: tuple[Skipped, ...]


@dataclass(frozen=True)
class _Place:
    """Where a file belongs: which channel of which case; the channel is none where its name does not say."""

    folder: Path
    case: str
    channel: int | None


def find_inputs(inputs: Sequence[Path], task: Task, out: Path | None = None, purpose: str = "predicted") -> Inputs:
    """Find the cases in files, folders (everything below them) and data.json lists (all their splits).

    The channels of a case are told apart by the task's layouts, by the names of the channels at the end of the files'
    names (``x_flair.nii.gz``), or by nnU-Net's numbers (``x_0000.nii.gz``); label maps are passed over, and so are
    predictions that lie among the scans.

    Args:
        out: where predictions go; what lies there is none of the scans, unless an input is that folder or lies in it.
        purpose: what is to be done to the scans, for messages.
    Raises:
        DataError: an input that does not exist, a list whose scans are missing, or none that can be predicted.
        UsageError: no scans, or a file that is no list.
    """
    walk = walk_inputs(inputs)
    listed = [entry for path in walk.datalists for _, entry in read_datalist(path).entries()]
    made = _predictions(walk.files, out)
    roots = {found.path: found.root for found in walk.files if found.path not in made}
    candidates, skipped = find_candidates(map_files(inspect_file, list(roots), None, lambda count: None), roots)
    headers = {path: candidate.header for path, candidate in candidates.items()}
    pairs = pair_labels(headers, roots, {}, None, _are_labels, images={path.absolute() for path in inputs})
    labels = {*pairs.label_of.values(), *pairs.unpaired}
    skipped += [Skipped(path=path, reason="prediction of an earlier run.") for path in made]
    skipped += [Skipped(path=path, reason="label map.") for path in sorted(labels)]
    scans = {path: one for path, one in sorted(candidates.items()) if path not in labels}
    entries, refused = _cases(scans, task)
    failed = [(str(one.path), f"{one.path}: {one.reason}") for one in skipped if not one.reason.startswith(NO_SCAN)]
    passed = [one for one in (*walk.skipped, *skipped) if one.reason.startswith(NO_SCAN)]
    found = Inputs((*_listed(listed), *entries), (*refused, *failed), tuple(passed))
    if not found.entries:
        raise _nothing(inputs, found, purpose)
    return found


def _are_labels(paths: Sequence[Path], named: bool) -> list[bool]:
    return map_files(partial(is_label_map, named=named), paths, None, lambda count: None)


def _predictions(files: Sequence[FoundFile], out: Path | None) -> list[Path]:
    """Files that voco predict has written: those of a record among them, and all in a folder for predictions."""
    recorded = {path for found in files if found.path.name == RECORD for path in predicted_files(found.path)}
    own = out.resolve() if out is not None else None

    def is_out(found: FoundFile) -> bool:  # a killed process leaves files that no record names yet
        return own is not None and not found.root.resolve().is_relative_to(own) and own in found.path.resolve().parents

    return [found.path for found in files if found.path in recorded or is_out(found)]


def _listed(entries: Sequence[Entry]) -> list[Entry]:
    """Cases of lists; where numbered files (``volume_0001``) would all get one name, they keep their numbers."""
    names = Counter(entry.name for entry in entries)
    return [
        entry.model_copy(update={"case": stem_of(entry.image)}) if names[entry.name] > 1 and not entry.case else entry
        for entry in entries
    ]


def _cases(scans: Mapping[Path, Candidate], task: Task) -> tuple[list[Entry], list[tuple[str, str]]]:
    names = task.channels
    groups: dict[tuple[Path, str], list[tuple[int | None, Path]]] = defaultdict(list)
    present = {(path.parent, stem_of(path)) for path in scans}
    for path in scans:
        place = _place(path, task, present)
        groups[place.folder, place.case].append((place.channel, path))
    entries, refused = [], []
    for (_, case), members in groups.items():
        numbers = [number for number, _ in members]
        complete = sorted(number for number in numbers if number is not None) == list(range(len(names)))
        if len(members) != len(names) or not (complete or numbers == [None]):
            refused.append((case, channel_fault(case, sorted(path.name for _, path in members), names)))
            continue
        first, *others = (path for _, path in sorted(members, key=lambda one: one[0] or 0))
        candidate = scans[first]
        entries.append(
            Entry(
                image=first,
                case=case,
                patient=candidate.patient,
                channels=tuple(others),
                files=candidate.files,
                modality=candidate.modality,
            )
        )
    return entries, refused


def _place(path: Path, task: Task, present: set[tuple[Path, str]]) -> _Place:
    stem, channels = stem_of(path), task.channels
    match = NUMBERED.fullmatch(stem)
    numbered = match and _is_channel(path.parent, match["case"], len(channels), present)
    if len(channels) == 1 and not numbered:
        return _by_layout(path, task) or _Place(path.parent, stem, 0)
    if len(channels) > 1:
        if (place := _by_layout(path, task)) is not None:
            return place
        for channel, name in enumerate(channels):
            if named := re.fullmatch(rf"(.+)[-_. ]{re.escape(name)}", stem, re.IGNORECASE):
                return _Place(path.parent, named[1], channel)
    return (
        _Place(path.parent, match["case"], int(match["number"]))
        if match and numbered
        else _Place(path.parent, stem, None)
    )


def _by_layout(path: Path, task: Task) -> _Place | None:
    """The place that a layout of the task gives to a file, wherever its folder lies."""
    for layout in task.layouts:
        for channel, pattern in enumerate(layout.image):
            first, *others = pattern.split(FIELD)
            wanted = re.escape(first) + "(?P<case>[^/]+)" + "(?P=case)".join(map(re.escape, others))
            if match := re.search(rf"(?:^|/){wanted}$", path.as_posix()):
                return _Place(path.parents[pattern.count("/")], case_name(layout, match["case"]), channel)
    return None


def _is_channel(folder: Path, case: str, channels: int, present: set[tuple[Path, str]]) -> bool:
    """Whether the number after a case counts its channels, or is what tells it from other cases (``volume_0012``).

    Channels begin at 0. A case without a number of its own, of a network with one channel, is numbered by it.
    """
    if (folder, f"{case}_0000") not in present:
        return False
    alone = (folder, f"{case}_0001") not in present
    return channels > 1 or alone or any(letter.isdigit() for letter in case)


def _nothing(inputs: Sequence[Path], found: Inputs, purpose: str) -> UsageError | DataError:
    where = ", ".join(str(path) for path in inputs)
    if found.refused:
        more = f" The same goes for {len(found.refused) - 1} more." if len(found.refused) > 1 else ""
        return DataError(f"Nothing can be {purpose}: {found.refused[0][1]}{more}", "see docs/guides/predict.md")
    if found.passed_over:
        first = found.passed_over[0]
        return UsageError(f"{where} holds no scan.", f"the first of what is there: {first.path}: {first.reason}")
    return UsageError(f"{where} holds no files.", "give NIfTI, NRRD, MetaImage or DICOM scans, or a data.json")
