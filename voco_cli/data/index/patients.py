"""Patient and modality of a scan, by the words in the names of its file and folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path, PurePath

from voco_cli.data.index.painted import painted_copies

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


SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr")
VOXEL_SUFFIXES = (".img", ".img.gz", ".hdr.gz")
"""Of the files that a pair of header and voxels consists of; a list may name either."""
ARRAY_SUFFIX = ".npy"  # of scans that a task names; a label map or an indexed scan has a place
CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net: case_0000.nii.gz is channel 0 of a case
BIDS_SUBJECT = re.compile(r"(?:^|[/_])sub-([A-Za-z0-9]+)")
# Names that say what a file is and not whose; the folder then tells the patient.
NAMELESS = "|".join(sorted(EVERY_MODALITY_WORD | IMAGE_WORDS | {"data", "series", "input", "nifti", "nii", "dicom"}))
IMPERSONAL = re.compile(rf"({NAMELESS})(?P<number>(?<!pt)(?<!pd)[-_]?\d+)?", re.IGNORECASE)
MOST_SCANS_OF_A_PATIENT = 10
"""More numbered files than this in one folder (``volume-0`` to ``volume-27``) are cases, not visits of one patient."""
TIME_POINTS = {"t1", "t2"}  # or MR sequences
OTHER_TIME_POINTS = tuple(f"{letter}{number}" for letter in "tT" for number in (0, 3, 4, 5, 6))


def stem_of(path: PurePath) -> str:
    """Return a file's name without its image ending (``.nii.gz`` counts as one)."""
    lower = path.name.lower()
    for suffix in (*SUFFIXES, *VOXEL_SUFFIXES, ARRAY_SUFFIX):
        if lower.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem if path.suffix.lower() == ".dcm" else path.name


def case_of(path: Path) -> str:
    """Return the stem without nnU-Net's channel number."""
    return CHANNEL.sub("", stem_of(path))


def patients_of(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the patient of each file: a BIDS subject, else the case, else the folder of a file such as ``ct.nii.gz``.

    What says which sequence or visit a scan is does not count (``P7_t1``, ``P7_t2``, ``P7/baseline/ct``). A name alone
    does not tell ``case_0003`` (a case) from ``case_0003_0001`` (channel 1 of one), nor ``volume-12`` (a case) from
    ``pat7/ct-2`` (a visit), so the files of a folder are judged together. Where it stays open, scans are put
    together rather than apart: that cannot leak a patient from one split into another.

    A copy that `voco synthesize` painted has the patient of its original, as its record says.

    Two scans of one patient under unlike names are two patients here; `--patient-pattern` tells them.
    """
    folders: dict[Path, list[Path]] = {}
    paths = list(paths)
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    repeated = _repeated(folders)
    named = {
        path: patient for folder, files in folders.items() for path, patient in _patients_in(folder, files, repeated)
    }
    return named | {path: copy.patient for path, copy in painted_copies(paths).items()}


def _repeated(folders: Mapping[Path, Sequence[Path]]) -> set[str]:
    """Return names without a number in several folders: they tell what a file is (``P1/abdomen.nii.gz``)."""
    telling = [
        folder for folder in folders if not IMPERSONAL.fullmatch(folder.name) and not VISIT_NAME.fullmatch(folder.name)
    ]
    counts = Counter(stem for folder in telling for stem in {stem_of(path) for path in folders[folder]})
    return {stem for stem, count in counts.items() if count > 1 and not any(letter.isdigit() for letter in stem)}


def _patients_in(folder: Path, files: Sequence[Path], repeated: Set[str]) -> Iterator[tuple[Path, str]]:
    stems = {path: stem_of(path) for path in files}
    present = set(stems.values())
    names = {path: _without_channel(stem, present) for path, stem in stems.items()}
    impersonal = {path: IMPERSONAL.fullmatch(name) for path, name in names.items()}
    numbered = sum(1 for match in impersonal.values() if match and match["number"])
    of_one_patient = numbered <= MOST_SCANS_OF_A_PATIENT and any(letter.isdigit() for letter in folder.name)
    for path, name in names.items():
        subject, match = BIDS_SUBJECT.search(path.as_posix()), impersonal[path]
        if subject:
            yield path, f"sub-{subject[1]}"
        elif folder.name and (name in repeated or (match and (match["number"] is None or of_one_patient))):
            yield path, _of_folder(folder)
        else:
            yield path, without_examination(folder.name if _begins_with(name, folder.name) else name)


def _of_folder(folder: Path) -> str:
    """Return the nearest folder whose name says whose, and not what or when (``P7/baseline/ct.nii.gz``)."""
    for one in (folder, *folder.parents):
        if one.name and not IMPERSONAL.fullmatch(one.name) and not VISIT_NAME.fullmatch(one.name):
            return without_examination(one.name)
    return folder.name


def _begins_with(name: str, folder: str) -> bool:
    """Return whether a file is named by its folder (``P7/P7_left.nii.gz``), and what is added numbers no other case."""
    added = name.removeprefix(folder)
    is_numbered = any(letter.isdigit() for letter in folder)
    return is_numbered and added != name and added[:1] in set("-_. ") and not re.search(r"\d{2}", added)


def _without_channel(stem: str, present: Set[str]) -> str:
    """Return the stem without a channel number: below 10, of a case that has a number itself and a channel 0."""
    case = CHANNEL.sub("", stem)
    is_channel = stem[len(case) : -1] == "_000" and f"{case}_0000" in present
    return case if is_channel and any(letter.isdigit() for letter in case) else stem


def modality_of_word(word: str) -> str:
    """Return CT, MR or PT for a word such as MRI or T1w; the word itself where it is none of theirs."""
    return next((name for name, words in MODALITY_WORDS.items() if word.lower() in words), word or "unknown")


def modality_of(path: Path, root: Path, known: Collection[Path] = ()) -> str:
    """Return CT, MR or PT where the file's name, or else a folder's up to ``root``, holds such a word.

    Args:
        known: what `places_of` says of all files: among ``P7_t0`` and ``P7_t1`` the second is a time point, not an MR
            sequence.
    """
    place = path.with_name(stem_of(path))
    for part in (place, *path.parents):
        words = words_of(part.name)
        time_points = time_points_of(part, known) if known else ()
        found = modality_of_words([word for word in words if word not in time_points])
        if found != "unknown":
            return found
        if part == root:
            break
    return "unknown"


def places_of(paths: Iterable[Path]) -> set[Path]:
    """Return every file without its ending, and every folder above one."""
    places: set[Path] = set()
    for path in paths:
        places.add(path.with_name(stem_of(path)))
        for folder in path.parents:
            if folder in places:
                break
            places.add(folder)
    return places


def time_points_of(path: Path, known: Collection[Path]) -> set[str]:
    """Return which of t1 and t2 count time in a name: the same name exists with a number that no MR sequence has."""
    place = path.with_name(stem_of(path)) if path.name else path
    found = set()
    for word in TIME_POINTS & set(words_of(place.name)):
        alike = re.compile(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])", re.IGNORECASE)
        if any(place.with_name(alike.sub(other, place.name)) in known for other in OTHER_TIME_POINTS):
            found.add(word)
    return found


class PatientNumbers:
    """Numbers in place of patients' names, in the order in which they are met, for files that others may get.

    Who shares a number is one patient; numbers of two files have nothing to do with each other.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, patient: str) -> str:
        """Return ``p001`` for the first patient, always the same for the same one."""
        return f"p{self._numbers.setdefault(patient, len(self._numbers) + 1):03d}"


def numbered(patients: Iterable[str]) -> tuple[str, ...]:
    """Return the number of each scan's patient: ``p001, p002, p001, ...``."""
    return tuple(map(PatientNumbers(), patients))
