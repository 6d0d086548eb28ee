"""Which prediction belongs to which label map, by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from voco_cli.data.case_labels import CaseLabels
from voco_cli.data.index.inspect import is_label_map
from voco_cli.data.index.label_pairing import identity_of, is_label_folder
from voco_cli.data.index.patients import BIDS_SUBJECT, ROLE_WORDS, SUFFIXES, case_of, says_label, stem_of, words_of
from voco_cli.errors import DataError, UsageError

# BTCV has img0035 and label0035, others case_seg beside case_pred.
ROLE = r"(?:images?|img|labels?|lbl|seg|segs|segmentations?|masks?|gt|pred|preds|predictions?)"
LEADING_ROLE = re.compile(rf"^{ROLE}(?:[-_.]+|(?=\d))", re.IGNORECASE)
TRAILING_ROLE = re.compile(rf"[-_.]+{ROLE}$", re.IGNORECASE)
MOST_NAMED = 20


@dataclass(frozen=True)
class CasePair:
    """A prediction and the label map that it is measured against.

    Attributes:
        case: stem of the label map.
        patient: identity that resampling goes by.
        labels: what the label map knows of the union of classes that was predicted; none where both maps have the
            same values.
    """

    case: str
    patient: str
    prediction: Path
    label: Path
    labels: CaseLabels | None = None


@dataclass(frozen=True)
class Pairing:
    """All pairs of two folders, and the label maps that nothing was predicted for."""

    pairs: tuple[CasePair, ...]
    unpredicted: tuple[str, ...]


def label_maps(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name; hidden files and folders below it do not count.

    Raises:
        DataError: no such folder.
        UsageError: no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.", "Check the path.")
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        raise UsageError(f"{folder} holds no label maps.", f"They end in {', '.join(SUFFIXES)}.")
    return found


def pair_folders(
    predictions: Path,
    labels: Path,
    patients: Mapping[str, str] | None = None,
    patient_pattern: str | None = None,
) -> Pairing:
    """Pair two folders by name: equal stems; nnU-Net's ``x_0000`` with ``x``; ``img0035`` with ``label0035``.

    Where ``labels`` has a folder for each case (``case_1/segmentation.nii.gz``), the label maps below it are taken,
    under the names of the folders. Scans that lie among the label maps are left aside.

    Args:
        patients: case to patient, as a data.json knows them; others follow from ``patient_pattern``, by a BIDS subject
            in the name, or else are patients of their own.
        patient_pattern: regular expression on a label's path; its first group is the patient.
    Raises:
        DataError: a folder that is missing.
        UsageError: an empty folder, one folder given twice, a pattern that does not fit, predictions that are ambiguous
            or without a label: all named at once.
    """
    if predictions.resolve() == labels.resolve():
        raise UsageError(f"{predictions} is given as predictions and as labels.", "Every Dice would be 1.")
    below = _label_maps_below(labels, predictions)
    case_name: Callable[[Path], str] = below.__getitem__ if below else stem_of
    left_predictions, left_labels = label_maps(predictions), list(below) or _without_scans(label_maps(labels))
    faults = [*_doubles(left_predictions, stem_of), *_doubles(left_labels, case_name)]
    matched: list[tuple[Path, Path]] = []
    if not faults:
        by_name: Keys = partial(_match, key_of_prediction=stem_of, key_of_label=case_name)
        for keys in (by_name,) if below else (by_name, _by_channel, _by_role):
            found, ambiguous = keys(left_predictions, left_labels)
            matched += found
            faults += ambiguous
            done = {path for pair in found for path in pair}
            left_predictions = [path for path in left_predictions if path not in done]
            left_labels = [path for path in left_labels if path not in done]
        if not faults:
            faults = [f"{path.name} has no label map" for path in left_predictions]
    if faults:
        more = f"; and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        raise UsageError(
            f"{predictions} cannot be paired with {labels}: {'; '.join(faults[:MOST_NAMED])}{more}.",
            "Names must be equal but for an ending such as _0000; one file for each case.",
        )
    of = _patients(patients or {}, patient_pattern, case_name)
    pairs = [CasePair(case_name(label), of(label), prediction, label) for prediction, label in matched]
    pairs.sort(key=lambda pair: pair.case)
    return Pairing(tuple(pairs), tuple(case_name(path) for path in left_labels))


def _without_scans(paths: Sequence[Path]) -> list[Path]:
    """Return the label maps alone, where scans lie beside them, which a prediction of the same name would meet.

    Where some names say label, the others are scans of these, or are asked for their voxels.
    """
    named = [path for path in paths if says_label(stem_of(path))]
    if not named:
        return list(paths)
    labelled = {identity_of(path) for path in named}

    def is_scan(path: Path) -> bool:
        own = {identity_of(path), identity_of(path, with_number=False)}
        return not own.isdisjoint(labelled) or not is_label_map(path, named=True)

    return [path for path in paths if path in named or not is_scan(path)]


def _label_maps_below(folder: Path, predictions: Path) -> dict[Path, str]:
    """Return label maps in folders of cases with the names of the cases; empty where the folder itself holds images."""
    if not folder.is_dir() or any(path.name.lower().endswith(SUFFIXES) for path in folder.iterdir() if path.is_file()):
        return {}
    inside = [path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(SUFFIXES) and path.is_file()]
    own = predictions.resolve()
    return {
        path: path.parent.name if ROLE_WORDS.issuperset(words_of(stem_of(path))) else _without_role(path)
        for path in inside
        if (says_label(stem_of(path)) or is_label_folder(path.parent))
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and own not in path.resolve().parents
    }


def _doubles(paths: Sequence[Path], name_of: Callable[[Path], str]) -> list[str]:
    by_stem: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_stem[name_of(path)].append(path.name)
    return [f"{' and '.join(names)} are the same case" for names in by_stem.values() if len(names) > 1]


Found = tuple[list[tuple[Path, Path]], list[str]]
Keys = Callable[[Sequence[Path], Sequence[Path]], Found]


def _by_channel(predictions: Sequence[Path], labels: Sequence[Path]) -> Found:
    """Pair with the channel number dropped on one side only: ``case_0005`` is no prediction of ``case_0004``."""
    first, faults = _match(predictions, labels, case_of, stem_of)
    done = {path for pair in first for path in pair}
    second, more = _match(
        [path for path in predictions if path not in done],
        [path for path in labels if path not in done],
        stem_of,
        case_of,
    )
    return [*first, *second], [*faults, *more]


def _by_role(predictions: Sequence[Path], labels: Sequence[Path]) -> Found:
    return _match(predictions, labels, _without_role, _without_role)


def _without_role(path: Path) -> str:
    stem = stem_of(path)
    return TRAILING_ROLE.sub("", LEADING_ROLE.sub("", stem)) or stem


def _match(
    predictions: Sequence[Path],
    labels: Sequence[Path],
    key_of_prediction: Callable[[Path], str],
    key_of_label: Callable[[Path], str],
) -> Found:
    """Pair equal keys; a key that several files of a side have is ambiguous where the other side has it, too."""
    sides: list[dict[str, list[Path]]] = [defaultdict(list), defaultdict(list)]
    for side, paths, key_of in ((0, predictions, key_of_prediction), (1, labels, key_of_label)):
        for path in paths:
            sides[side][key_of(path)].append(path)
    pairs, faults = [], []
    for key, first in sides[0].items():
        second = sides[1].get(key, [])
        if len(first) == len(second) == 1:
            pairs.append((first[0], second[0]))
        elif second:
            names = [" and ".join(path.name for path in group) for group in (first, second)]
            faults.append(f"{names[0]} could belong to {names[1]}")
    return pairs, faults


def _patients(
    patients: Mapping[str, str], pattern: str | None, case_name: Callable[[Path], str]
) -> Callable[[Path], str]:
    try:
        compiled = re.compile(pattern) if pattern else None
    except re.error as error:
        raise UsageError(f"--patient-pattern {pattern!r} is no regular expression: {error}.") from error
    if compiled is not None and not compiled.groups:
        raise UsageError(f"--patient-pattern {pattern!r} has no group.", "Put the patient in brackets: '(P[0-9]+)_'.")

    def of(label: Path) -> str:
        stem = case_name(label)
        if compiled is not None:
            found = compiled.search(label.as_posix())
            if found is None:
                raise UsageError(f"--patient-pattern {pattern!r} does not fit {label}.")
            return found[1] or stem
        subject = BIDS_SUBJECT.search(label.name)
        return patients.get(stem) or (f"sub-{subject[1]}" if subject else stem)

    return of
