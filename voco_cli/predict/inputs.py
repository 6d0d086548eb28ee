"""Inputs of a prediction: files, folders and lists in, cases out, each with as many channels as the network needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Entry, Skipped, with_distinct_names
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.inspect import Candidate, find_candidates, inspect_file, is_label_map
from voco_cli.data.index.label_pairing import pair_labels
from voco_cli.data.index.patients import stem_of
from voco_cli.data.index.scan_files import FoundFile, walk_inputs
from voco_cli.data.parallel import map_files
from voco_cli.errors import DataError, UsageError
from voco_cli.predict.output_dir import RECORD, predicted_files
from voco_cli.predict.predictor import channel_fault
from voco_cli.tasks.channels import merge_channels, place_of_file

NO_SCAN = ("not an image", "no image", "reached twice", "label map", "prediction")
"""How the reasons begin of what was met in a folder and is no scan that failed."""


@dataclass(frozen=True)
class Inputs:
    """Cases to predict, and what else lies there.

    Attributes:
        entries: cases with all their channels.
        refused: cases that cannot be predicted, and why.
        passed_over: what is no scan to predict: label maps, text files.
    """

    entries: tuple[Entry, ...]
    refused: tuple[tuple[str, str], ...]
    passed_over: tuple[Skipped, ...]


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
    listed = list({entry.image.resolve(): entry for entry in reversed(listed)}.values())[::-1]
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
    known = {entry.image.resolve() for entry in listed}
    entries = [entry for entry in entries if entry.image.resolve() not in known]
    found = Inputs(
        tuple(with_distinct_names([*merge_channels(listed, task), *entries])), (*refused, *failed), tuple(passed)
    )
    if not found.entries:
        raise _nothing(inputs, found, purpose)
    return found


def _are_labels(paths: Sequence[Path], named: bool) -> list[bool]:
    return map_files(partial(is_label_map, named=named), paths, None, lambda count: None)


def _predictions(files: Sequence[FoundFile], out: Path | None) -> list[Path]:
    """Return files that voco predict has written: those of a record among them, and all in a folder for predictions."""
    recorded = {path for found in files if found.path.name == RECORD for path in predicted_files(found.path)}
    own = out.resolve() if out is not None else None

    def is_out(found: FoundFile) -> bool:  # a killed process leaves files that no record names yet
        return own is not None and not found.root.resolve().is_relative_to(own) and own in found.path.resolve().parents

    return [found.path for found in files if found.path in recorded or is_out(found)]


def _cases(scans: Mapping[Path, Candidate], task: Task) -> tuple[list[Entry], list[tuple[str, str]]]:
    names = task.channels
    groups: dict[tuple[Path, str], list[tuple[int | None, Path]]] = defaultdict(list)
    present = {(path.parent, stem_of(path)) for path in scans}
    for path in scans:
        place = place_of_file(path, task, present)
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


def _nothing(inputs: Sequence[Path], found: Inputs, purpose: str) -> UsageError | DataError:
    where = ", ".join(str(path) for path in inputs)
    if found.refused:
        more = f" The same goes for {len(found.refused) - 1} more." if len(found.refused) > 1 else ""
        return DataError(f"Nothing can be {purpose}: {found.refused[0][1]}{more}", "see docs/guides/predict.md")
    if found.passed_over:
        first = found.passed_over[0]
        return UsageError(f"{where} holds no scan.", f"the first of what is there: {first.path}: {first.reason}")
    return UsageError(f"{where} holds no files.", "give NIfTI, NRRD, MetaImage or DICOM scans, or a data.json")
