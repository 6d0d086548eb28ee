"""Whose scan a file is, from its name, and what the name says of the modality."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
ARRAY_SUFFIX = ".npy"  # of scans that a task names; a label map or an indexed scan has a place
CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net: case_0000.nii.gz is channel 0 of a case
BIDS_SUBJECT = re.compile(r"(?:^|[/_])sub-([A-Za-z0-9]+)")
# Names that say what a file is and not whose; the folder then tells the patient.
IMPERSONAL = re.compile(
    r"(ct|cta|cbct|mr|mri|pt|pet|t1|t1w|t2|t2w|flair|image|img|imaging|scan|volume|vol|data|series|input|original)"
    r"(?P<number>[-_]?\d+)?",
    re.IGNORECASE,
)
MOST_SCANS_OF_A_PATIENT = 10
"""More numbered files than this in one folder (``volume-0`` to ``volume-27``) are cases, not visits of one patient."""
MODALITY_WORDS = {
    "CT": {"ct", "cta", "cect", "ncct", "cbct", "ldct"},
    "MR": {"mr", "mri", "t1", "t1w", "t2", "t2w", "t1ce", "flair", "dwi", "adc", "pd"},
    "PT": {"pt", "pet"},
}


def stem_of(path: Path) -> str:
    """File name without its image ending (``.nii.gz`` counts as one)."""
    lower = path.name.lower()
    for suffix in (*SUFFIXES, ARRAY_SUFFIX):
        if lower.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem if path.suffix.lower() == ".dcm" else path.name


def case_of(path: Path) -> str:
    """The stem without nnU-Net's channel number."""
    return CHANNEL.sub("", stem_of(path))


def patients_of(paths: Iterable[Path]) -> dict[Path, str]:
    """Patient of each file: a BIDS subject, else the case, else the folder of a file such as ``ct.nii.gz``.

    A name alone does not tell ``case_0003`` (a case) from ``case_0003_0001`` (channel 1 of one), nor ``volume-12`` (a
    case) from ``pat7/ct-2`` (a visit), so the files of a folder are looked at together. Where it stays open, scans are
    put together rather than apart: that cannot leak a patient from one split into another.

    Two scans of one patient under unlike names are two patients here; `--patient-pattern` tells them.
    """
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    return {path: patient for folder, files in folders.items() for path, patient in _patients_in(folder, files)}


def _patients_in(folder: Path, files: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    stems = {path: stem_of(path) for path in files}
    present = set(stems.values())
    impersonal = {path: IMPERSONAL.fullmatch(_without_channel(stem, present)) for path, stem in stems.items()}
    numbered = sum(1 for match in impersonal.values() if match and match["number"])
    of_one_patient = numbered <= MOST_SCANS_OF_A_PATIENT and any(letter.isdigit() for letter in folder.name)
    for path, stem in stems.items():
        subject, match = BIDS_SUBJECT.search(path.as_posix()), impersonal[path]
        if subject:
            yield path, f"sub-{subject[1]}"
        elif match and folder.name and (match["number"] is None or of_one_patient):
            yield path, folder.name
        else:
            yield path, _without_channel(stem, present)


def _without_channel(stem: str, present: Set[str]) -> str:
    """The stem without a channel number: one below 10, of a case that has a number itself and a channel 0."""
    case = CHANNEL.sub("", stem)
    is_channel = stem[len(case) : -1] == "_000" and f"{case}_0000" in present
    return case if is_channel and any(letter.isdigit() for letter in case) else stem


def modality_of_word(word: str) -> str:
    """CT, MR or PT for a word such as MRI or T1w; the word itself where it is none of theirs."""
    return next((name for name, words in MODALITY_WORDS.items() if word.lower() in words), word or "unknown")


def modality_of(path: Path, root: Path) -> str:
    """CT, MR or PT where the file's name, or else a folder's name below and including ``root``, holds such a word."""
    parts = [stem_of(path)]
    for folder in path.parents:
        parts.append(folder.name)
        if folder == root:
            break
    for part in parts:
        words = set(re.split(r"[^a-z0-9]+", part.lower()))
        for modality, names in MODALITY_WORDS.items():
            if words & names:
                return modality
    return "unknown"
