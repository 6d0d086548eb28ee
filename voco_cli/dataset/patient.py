"""Whose scan a file is, from its name, and what the name says of the modality."""

from __future__ import annotations

import re
from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net: case_0000.nii.gz is channel 0 of a case
BIDS_SUBJECT = re.compile(r"(?:^|[/_])sub-([A-Za-z0-9]+)")
# Names that say what a file is and not whose; the folder then tells the patient.
IMPERSONAL = re.compile(
    r"(ct|cta|cbct|mr|mri|pt|pet|t1|t1w|t2|t2w|flair|image|img|imaging|scan|volume|vol|data|series|input|original)"
    r"[-_]?\d{0,2}",
    re.IGNORECASE,
)
MODALITY_WORDS = {
    "CT": {"ct", "cta", "cect", "ncct", "cbct", "ldct"},
    "MR": {"mr", "mri", "t1", "t1w", "t2", "t2w", "t1ce", "flair", "dwi", "adc", "pd"},
    "PT": {"pt", "pet"},
}


def stem_of(path: Path) -> str:
    """File name without its image ending (``.nii.gz`` counts as one)."""
    lower = path.name.lower()
    for suffix in SUFFIXES:
        if lower.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem if path.suffix.lower() == ".dcm" else path.name


def case_of(path: Path) -> str:
    """The stem without nnU-Net's channel number."""
    return CHANNEL.sub("", stem_of(path))


def patient_of(path: Path) -> str:
    """Identity of the patient: a BIDS subject, else the case, else the folder of a file such as ``ct.nii.gz``.

    Two scans of one patient under unlike names are two patients here; `--patient-pattern` tells them.
    """
    subject = BIDS_SUBJECT.search(path.as_posix())
    if subject:
        return f"sub-{subject[1]}"
    case = case_of(path)
    if IMPERSONAL.fullmatch(case) and path.parent.name:
        return path.parent.name
    return case


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
