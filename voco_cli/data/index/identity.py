"""What the names of a scan and its label map share: their place and words, without those that say image or label."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from voco_cli.data.index.name_words import EVERY_MODALITY_WORD, ROLE_WORDS, words_of
from voco_cli.data.index.patients import case_of, stem_of

PART_OF_A_SET = r"(?P<part>[-_ ]?(tr|ts|va|val|test|train|training))?"
LABEL_FOLDER = re.compile(
    rf"(labels?|lbls?|segs?|segmentations?|masks?|annotations?|labelmaps?|ground[-_ ]?truths?|gts?|rois?|contours?)"
    rf"{PART_OF_A_SET}",
    re.IGNORECASE,
)
KIND_FOLDER = re.compile(
    rf"(images?|imgs?|imaging|volumes?|vols?|scans?|data|raw|nifti|nii|{'|'.join(sorted(EVERY_MODALITY_WORD))})"
    rf"{PART_OF_A_SET}",
    re.IGNORECASE,
)
BIDS_NAME = re.compile(r"sub-[A-Za-z0-9]+_")
BIDS_LABELS = {"dseg", "probseg", "mask"}
BIDS_SHARED = ("sub", "ses", "acq", "run", "rec")
BIDS_FOLDERS = {"derivatives", "rawdata", "sourcedata"}
SLICER_SEGMENTATION = ".seg.nrrd"


@dataclass(frozen=True)
class Identity:
    """The part of a file's name and place that is compared.

    Attributes:
        place: folder, without folders that say image, label or modality.
        words: of the name, without those that say image, label, sequence or modality.
        modalities: the words that say sequence or modality.
    """

    place: str
    words: tuple[str, ...]
    modalities: frozenset[str]


def is_label_folder(folder: Path) -> bool:
    """Return whether a folder is called as those of label maps are: ``labelsTr``, ``masks``, ``segmentations``."""
    return LABEL_FOLDER.fullmatch(folder.name) is not None


def is_label_by_standard(path: Path) -> bool:
    """Return whether a standard makes a file of this name a segmentation: BIDS, or 3D Slicer's ``.seg.nrrd``."""
    return _bids_suffix(path) in BIDS_LABELS or path.name.lower().endswith(SLICER_SEGMENTATION)


def is_probability(path: Path) -> bool:
    """Return whether BIDS makes a file a map of probabilities, which holds no labels."""
    return _bids_suffix(path) == "probseg"


def identity_of(path: Path, *, with_number: bool = True) -> Identity:
    """Return the identity of a scan or label map.

    Args:
        with_number: whether four digits at the end belong to it (``volume_0012``), or are an nnU-Net channel.
    """
    if _bids_suffix(path):
        return _bids_identity(path)
    words = words_of(stem_of(path) if with_number else case_of(path))
    return Identity(_place(path.parent), *_split(word for word in words if word not in ROLE_WORDS))


def _split(words: Iterable[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    listed = tuple(words)
    others = tuple(word for word in listed if word not in EVERY_MODALITY_WORD)
    return others, frozenset(listed) - frozenset(others)


@lru_cache(maxsize=65_536)
def _place(folder: Path) -> str:
    kept = []
    for part in folder.parts:
        match = LABEL_FOLDER.fullmatch(part) or KIND_FOLDER.fullmatch(part)
        kept.append(part.lower() if match is None else (match["part"] or "").lower().strip("-_ "))
    return "/".join(part for part in kept if part)


def _bids_suffix(path: Path) -> str:
    """Return the last word of a BIDS name, in small letters; empty for any other name."""
    stem = stem_of(path)
    return stem.rpartition("_")[2].lower() if BIDS_NAME.match(stem) else ""


def _bids_identity(path: Path) -> Identity:
    """Return subject, session and the like, wherever in the data set the file lies, without what only a label has."""
    *entities, suffix = stem_of(path).split("_")
    values = dict(entity.partition("-")[::2] for entity in entities)
    words = [f"{key}-{values[key]}".lower() for key in BIDS_SHARED if key in values]
    role = is_label_by_standard(path) or suffix.lower() in ROLE_WORDS
    described = [values[key].lower() for key in ("desc", "label") if key in values]
    place: list[str] = []
    for part in path.parent.parts:
        if part.lower() in BIDS_FOLDERS or part.startswith("sub-"):
            break
        place.append(part.lower())
    others, modalities = _split(() if role else (suffix.lower(),))
    return Identity("bids:" + "/".join(place), (*words, *described, *others), modalities)
