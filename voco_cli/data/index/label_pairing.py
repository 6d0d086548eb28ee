"""Label maps among files, and the scan of each, by the conventions that datasets go by.

Names are compared by place and words, without those that say image or label.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from voco_cli.data.index.patients import (
    EVERY_MODALITY_WORD,
    ROLE_WORDS,
    case_of,
    places_of,
    says_label,
    stem_of,
    time_points_of,
    words_of,
)
from voco_cli.data.io.geometry import grid_shift_mm, storage_order
from voco_cli.data.io.image import Header
from voco_cli.errors import UsageError
from voco_cli.object_stores import location

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


LONE = "label map without a scan."
Fault = Callable[[Header, Header], str | None]


def pair_alike(
    scans: Mapping[Path, Header], labels: Mapping[Path, Header], grid_fault: Fault
) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Give each scan the one label map that its name allows, on its grid.

    ``img0001`` and ``label0001``, ``volume-3`` and ``segmentation-3``, ``ct`` and ``labels`` of a folder have the same
    name but for what says image or label. ``P7_t1``, ``P7_t2`` and ``P7_seg`` are the sequences of a case with one
    label map. ``P7`` and ``P7_liver_seg`` are a scan with the only map of a structure.

    Args:
        scans: scans without a label map.
        labels: label maps without a scan.
        grid_fault: why a label does not lie on the grid of a scan; none where it does.
    Returns:
        label map by scan; and why each of the others has no scan.
    """
    index = _Index(labels, places_of((*scans, *labels)))
    choices: dict[Path, list[Path]] = {scan: index.choices(scan, scans[scan], grid_fault) for scan in sorted(scans)}
    reasons = dict.fromkeys(labels, LONE)
    scans_of: dict[Path, list[Path]] = defaultdict(list)
    for scan, found in choices.items():
        if len(found) == 1:
            scans_of[found[0]].append(scan)
        for label in found if len(found) > 1 else ():
            reasons[label] = f"label map beside others of {scan}: --label-pattern says which is meant."
    pairs: dict[Path, Path] = {}
    for label, found in scans_of.items():
        if len(found) == 1 or _are_channels(found):
            pairs |= dict.fromkeys(found, label)
            del reasons[label]
        else:
            others = f"{found[0]} or {found[1]}"
            reasons[label] = f"label map that could belong to {others}: --label-pattern says to which."
    return pairs, reasons


class _Index:
    """Label maps by place and words, as a scan asks for them."""

    def __init__(self, labels: Mapping[Path, Header], places: Collection[Path]) -> None:
        self.headers, self.places = labels, places
        self.same: dict[tuple[str, tuple[str, ...]], list[tuple[Path, Identity]]] = defaultdict(list)
        self.longer: dict[tuple[str, tuple[str, ...]], list[tuple[Path, Identity]]] = defaultdict(list)
        for path in labels:
            if is_probability(path):
                continue
            one = identity_of(path)
            self.same[one.place, one.words].append((path, one))
            for count in range(len(one.words)):
                if not count or not any(word.isdigit() for word in one.words[count:]):
                    self.longer[one.place, one.words[:count]].append((path, one))

    def choices(self, scan: Path, header: Header, grid_fault: Fault) -> list[Path]:
        """Return the label maps of the nearest kind of name that has any: all of them, where it has several."""
        times = time_points_of(scan, self.places)
        if times:  # P7_seg need not belong to P7_t1 where there is a P7_t0
            return list(self._exact(identity_of(scan)))
        identities = dict.fromkeys((identity_of(scan), identity_of(scan, with_number=False)))
        exact = [found for one in identities for found in self._exact(one)]
        if len(exact) == 1:
            return exact  # also on another grid, which is then said of it
        for found in (exact, *self._further(identities)):
            fitting = [path for path in dict.fromkeys(found) if grid_fault(self.headers[path], header) is None]
            if fitting:
                return fitting
        return []

    def _exact(self, one: Identity) -> Iterator[Path]:
        return (path for path, label in self.same[one.place, one.words] if label.modalities == one.modalities)

    def _further(self, identities: Mapping[Identity, None]) -> Iterator[list[Path]]:
        for table in (self.same, self.longer):
            yield [
                path
                for one in identities
                for path, label in table.get((one.place, one.words), ())
                if label.modalities <= one.modalities
            ]


def _are_channels(scans: Sequence[Path]) -> bool:
    """Return whether scans of one name differ by sequence or modality alone, or by nnU-Net's channel numbers."""
    kinds = {identity_of(scan).modalities for scan in scans}
    cases = {scan.parent / case_of(scan) for scan in scans}
    return len(kinds) == len(scans) or (len(cases) == 1 and all(case_of(scan) != stem_of(scan) for scan in scans))


LABEL_ENDINGS = tuple(
    f"{joint}{word}"
    for word in ("seg", "label", "labels", "mask", "gt", "segmentation", "labelmap", "roi")
    for joint in ("_", "-", ".")
)
IMAGE_FOLDER = re.compile(r"(images?)", re.IGNORECASE)
EIGHT_BITS = {"uint8", "int8", "bool"}
AreLabels = Callable[[Sequence[Path], bool], Sequence[bool]]


@dataclass
class Pairs:
    """Labels of scans, and label maps without one.

    Attributes:
        label_of: scan to label map.
        unpaired: label maps that belong to no scan here, or not to one alone, and why.
    """

    label_of: dict[Path, Path] = field(default_factory=dict)
    unpaired: dict[Path, str] = field(default_factory=dict)


def pair_labels(
    scans: Mapping[Path, Header],
    files: Iterable[Path],
    listed: Mapping[Path, Path],
    pattern: str | None,
    are_labels: AreLabels,
    images: Collection[Path] = (),
) -> Pairs:
    """Find the label maps among readable volumes, and the scan of each.

    Scans get a label map in this order: what a datalist says; ``pattern``; Decathlon and nnU-Net (``imagesTr/x[_0000]``
    with ``labelsTr/x``) and ``x_seg`` beside ``x``; then names that are alike (see `pair_alike`). Whatever a name says,
    voxels decide in the end: a CT called ``mask_off`` is a scan.

    Args:
        scans: headers of readable volumes, label maps still among them.
        files: every image file that was found, readable or not.
        listed: image to label, from datalists; these are label maps, whatever becomes of their images.
        pattern: path of a label from its scan's folder, with ``{stem}``, ``{case}``, ``{name}`` or ``{folder}``.
        are_labels: decodes files and tells which are label maps; the second argument says whether their names say so.
        images: volumes that a datalist names as images.
    Raises:
        UsageError: a pattern with another field.
    """
    stated, said = set(listed.values()), {}
    known = _by_stem(files)
    guessed: dict[Path, Path] = {}
    for path in sorted(scans):
        if path in stated or (is_label_folder(path.parent) and path not in images):
            continue
        if (label := listed.get(path) or _by_pattern(path, pattern)) not in (None, path):
            said[path] = label
        elif (label := next(filter(None, map(known.get, _conventional_places(path))), None)) not in (None, path):
            guessed[path] = label
    labels = stated | set(said.values())
    labels |= _found_labels(scans, labels, said.keys(), guessed, are_labels, images)
    chosen = {**said, **guessed}
    pairs = Pairs({scan: label for scan, label in chosen.items() if scan not in labels and label in labels})
    taken = set(pairs.label_of.values())
    free = {path: header for path, header in scans.items() if path not in labels and path not in pairs.label_of}
    lone = {path: scans[path] for path in sorted(labels - taken) if path in scans}
    alike, pairs.unpaired = pair_alike(free, lone, grid_fault)
    pairs.label_of |= alike
    return pairs


def grid_fault(label: Header, scan: Header) -> str | None:
    """Return why a label map does not fit its scan; none where it does, in whichever order its voxels are stored."""
    if storage_order(label.placement, label.shape_xyz, scan.placement, scan.shape_xyz) is not None:
        return None
    if label.shape_xyz != scan.shape_xyz:
        shapes = ["x".join(str(n) for n in header.shape_xyz) for header in (label, scan)]
        return f"label on another grid than {scan.path}: {shapes[0]} voxels against {shapes[1]}."
    shift_mm = grid_shift_mm(label.placement, scan.placement, scan.shape_xyz)
    return f"label on another grid than {scan.path}: voxels lie up to {shift_mm:.2f} mm apart."


def _found_labels(
    scans: Mapping[Path, Header],
    labels: Collection[Path],
    with_label: Collection[Path],
    guessed: Mapping[Path, Path],
    are_labels: AreLabels,
    images: Collection[Path],
) -> set[Path]:
    """Find label maps that nobody stated; voxels are decoded where neither place nor number format settles it."""
    of: dict[Path, Path] = {label: scan for scan, label in guessed.items()}
    found, named, nameless = set(of.keys() - scans.keys()), [], []  # what cannot be read is no scan either
    for path, header in sorted(scans.items()):
        if path in labels:
            continue
        small, in_folder = header.dtype in EIGHT_BITS, is_label_folder(path.parent)
        says = in_folder or path in of or is_label_by_standard(path) or says_label(stem_of(path))
        fits = path in of and (small or in_folder or grid_fault(header, scans[of[path]]) is None)
        if path not in images and (fits or is_label_by_standard(path) or (in_folder and small)):
            found.add(path)
        elif says:
            named.append(path)
        elif small and path not in images and path not in with_label and path not in guessed:
            nameless.append(path)
    for asked, by_name in ((named, True), (nameless, False)):
        found.update(path for path, is_label in zip(asked, are_labels(asked, by_name), strict=True) if is_label)
    return found


def _by_pattern(path: Path, pattern: str | None) -> Path | None:
    if pattern is None:
        return None
    fields = {"stem": stem_of(path), "case": case_of(path), "name": path.name, "folder": path.parent.name}
    try:
        relative = pattern.format(**fields)
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError(
            f"--label-pattern {pattern!r} has a field that is not known: {error}.",
            "Use {stem}, {case}, {name} or {folder}, as in '../masks/{stem}_mask.nii.gz'.",
        ) from error
    label = location(os.path.normpath(path.parent / relative))
    return label if label.is_file() else None


def _by_stem(files: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """Return files by folder and stem: a dictionary is a hundred times faster than making paths to ask for."""
    return {(str(path.parent), stem_of(path)): path for path in sorted(files, reverse=True)}


def _conventional_places(path: Path) -> Iterator[tuple[str, str]]:
    stems = dict.fromkeys((case_of(path), stem_of(path)))
    folder = path.parent
    if IMAGE_FOLDER.match(folder.name):
        above = str(folder.parent)
        for twin in (IMAGE_FOLDER.sub("labels", folder.name, 1), IMAGE_FOLDER.sub("label", folder.name, 1), "masks"):
            yield from ((os.path.join(above, twin), stem) for stem in stems)  # noqa: PTH118
    for stem in stems:
        yield from ((str(folder), stem + ending) for ending in LABEL_ENDINGS)
