"""The words of a file's or folder's name, and which of them say what it is rather than whose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

MODALITY_WORDS = {
    "CT": {"ct", "cta", "cect", "ncct", "cbct", "ldct", "hrct", "ctpa", "ctres"},
    "MR": {
        *("mr", "mri", "t1", "t1w", "t1n", "t1c", "t1ce", "t1gd", "t1post", "t2", "t2w", "t2f", "t2star"),
        *("flair", "dwi", "adc", "pd", "pdw", "swi", "mprage", "hbv"),
    },
    "PT": {"pt", "pet", "suv", "fdg"},
}
EVERY_MODALITY_WORD = frozenset(word for words in MODALITY_WORDS.values() for word in words)
# A number behind one of these counts patients: Parkinson's disease 7, adenocarcinoma 7.
ALSO_NAMES_OF_PATIENTS = {"pt", "pd", "adc"}
IMAGE_WORDS = frozenset(
    {"image", "images", "img", "imgs", "imaging", "scan", "volume", "vol", "orig", "original", "raw"}
)
LABEL_WORDS = frozenset(
    {
        *("seg", "segs", "segm", "segmentation", "segmentations", "dseg", "probseg", "label", "labels", "labelmap"),
        *("lbl", "mask", "masks", "msk", "gt", "groundtruth", "truth", "roi", "rois", "annotation", "annotations"),
        *("contour", "contours", "lesion", "lesions", "tumor", "tumour", "gtv", "gtvp", "gtvn", "gtvt", "ctv", "ptv"),
    }
)
ROLE_WORDS = IMAGE_WORDS | LABEL_WORDS
VISIT = (
    r"(t[-_]?\d|(tp|time|timepoint|visit|ses|session|frame|phase|fu|followup)[-_]?\d{0,3}|baseline|pre|post|preop|postop"
    r"|(19|20)\d\d-?[01]\d-?[0-3]\d)"
)
"""Which examination of a patient; a date is one too."""
NUMBERED_ROLE = re.compile(rf"({'|'.join(sorted(ROLE_WORDS, key=len, reverse=True))})(\d+)")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
BRATS_EXAMINATION = re.compile(r"(BraTS-[A-Z]+-\d+)-\d{3}", re.IGNORECASE)
"""Since 2023: patient, then examination."""
VISIT_NAME = re.compile(VISIT, re.IGNORECASE)
VISIT_BEHIND = re.compile(rf"[-_. ]+{VISIT}$", re.IGNORECASE)
SEQUENCE_BEHIND = re.compile(rf"[-_. ]+({'|'.join(sorted(EVERY_MODALITY_WORD))})$", re.IGNORECASE)


@lru_cache(maxsize=65_536)  # folders have many files
def words_of(name: str) -> tuple[str, ...]:
    """Return words in small letters: ``img0035`` is ``img`` and ``0035``, ``LiverSeg`` is ``liver`` and ``seg``."""
    words: list[str] = []
    for part in re.split(r"[\W_]+", CAMEL.sub("_", name)):
        match = NUMBERED_ROLE.fullmatch(part.lower())
        words += match.groups() if match else [part.lower()]
    return tuple(word for word in words if word)


def says_label(name: str) -> bool:
    """Return whether a word of a name says label map; its voxels have to agree."""
    return not LABEL_WORDS.isdisjoint(words_of(name))


def modality_of_words(words: Sequence[str]) -> str:
    """Return CT, MR or PT for the words of a name; unknown where none of them says so."""
    said = {
        word
        for word, behind in zip(words, (*words[1:], ""), strict=False)
        if not (word in ALSO_NAMES_OF_PATIENTS and behind.isdigit())
    }
    return next((name for name, known in MODALITY_WORDS.items() if said & known), "unknown")


def without_examination(name: str) -> str:
    """Return a name without the sequence or the visit of a patient: ``P7_t1ce`` and ``P7_visit2`` are P7.

    A visit is only dropped behind a number, without which a name tells nobody from another.
    """
    if match := BRATS_EXAMINATION.match(name):
        return match[1]
    while True:
        sequence, visit = SEQUENCE_BEHIND.search(name), VISIT_BEHIND.search(name)
        if sequence and sequence.start():
            name = name[: sequence.start()]
        elif visit and any(letter.isdigit() for letter in name[: visit.start()]):
            name = name[: visit.start()]
        else:
            return name
