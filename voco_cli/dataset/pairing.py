"""Which file is the label map of which scan, by the conventions that datasets go by."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voco_cli.dataset.patient import case_of, stem_of
from voco_cli.errors import UsageError
from voco_cli.scans.geometry import grid_shift_mm, same_grid
from voco_cli.scans.header import Header

LABEL_ENDINGS = tuple(
    f"{joint}{word}"
    for word in ("seg", "label", "labels", "mask", "gt", "segmentation", "labelmap", "roi")
    for joint in ("_", "-", ".")
)
LABEL_WORDS = {"seg", "segs", "label", "labels", "mask", "masks", "gt", "segmentation", "segmentations", "labelmap"}
LABEL_FOLDER = re.compile(
    r"(labels?(tr|ts|va|val|test)?|segs?|segmentations?|masks?|annotations?|labelmaps?|ground[-_]?truth)", re.IGNORECASE
)
IMAGE_FOLDER = re.compile(r"(images?)", re.IGNORECASE)


@dataclass
class Pairs:
    """Labels of scans, and label maps without one.

    Attributes:
        label_of: scan to label map.
        unpaired: label maps that belong to no scan here.
    """

    label_of: dict[Path, Path] = field(default_factory=dict)
    unpaired: list[Path] = field(default_factory=list)


def pair_labels(
    scans: Iterable[Path],
    files: Iterable[Path],
    listed: Mapping[Path, Path],
    pattern: str | None,
    is_label_like: Callable[[Path], bool],
) -> Pairs:
    """Find the label map of each scan.

    In this order: what a datalist says; ``pattern``; Decathlon and nnU-Net (``imagesTr/x[_0000]`` with ``labelsTr/x``);
    ``x_seg`` beside ``x``; ``labels`` beside the only scan of a folder.

    Args:
        scans: readable volumes, label maps still among them.
        files: every image file that was found, readable or not.
        listed: image to label, from datalists.
        pattern: path of a label from its scan's folder, with ``{stem}``, ``{case}``, ``{name}`` or ``{folder}``.
        is_label_like: decodes a file whose name says label and tells whether it is one.
    Raises:
        UsageError: a pattern with another field.
    """
    volumes, known = sorted(scans), _by_stem(files)
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in volumes:
        by_folder[path.parent].append(path)
    pairs, labels = Pairs(), set(listed.values())
    for path in volumes:
        if path in labels or LABEL_FOLDER.fullmatch(path.parent.name):
            continue
        label = listed.get(path) or _by_pattern(path, pattern) or _by_convention(path, known)
        if label is not None and label != path:
            pairs.label_of[path] = label
    labels |= set(pairs.label_of.values())
    for path in volumes:
        if path in labels:
            pairs.label_of.pop(path, None)
        elif LABEL_FOLDER.fullmatch(path.parent.name) or (_says_label(path) and is_label_like(path)):
            scan = _only_scan(path, by_folder, labels)
            if scan is not None and scan not in pairs.label_of:
                pairs.label_of[scan] = path
            else:
                pairs.unpaired.append(path)
    return pairs


def grid_fault(label: Header, scan: Header) -> str | None:
    """Why a label map does not fit its scan; none where it does."""
    if label.shape_xyz != scan.shape_xyz:
        shapes = ["x".join(str(n) for n in header.shape_xyz) for header in (label, scan)]
        return f"label on another grid than {scan.path}: {shapes[0]} voxels against {shapes[1]}."
    if not same_grid(label.placement, scan.placement, scan.shape_xyz):
        shift_mm = grid_shift_mm(label.placement, scan.placement, scan.shape_xyz)
        return f"label on another grid than {scan.path}: voxels lie up to {shift_mm:.2f} mm apart."
    return None


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
    label = Path(os.path.normpath(path.parent / relative))
    return label if label.is_file() else None


def _by_stem(files: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """Files by folder and stem: asking a dictionary is a hundred times faster than making paths to ask for."""
    return {(str(path.parent), stem_of(path)): path for path in sorted(files, reverse=True)}


def _by_convention(path: Path, known: Mapping[tuple[str, str], Path]) -> Path | None:
    return next((known[key] for key in _candidates(path) if key in known), None)


def _candidates(path: Path) -> Iterator[tuple[str, str]]:
    stems = dict.fromkeys((case_of(path), stem_of(path)))
    folder = path.parent
    if IMAGE_FOLDER.match(folder.name):
        above = str(folder.parent)
        for twin in (IMAGE_FOLDER.sub("labels", folder.name, 1), IMAGE_FOLDER.sub("label", folder.name, 1), "masks"):
            yield from ((os.path.join(above, twin), stem) for stem in stems)  # noqa: PTH118
    for stem in stems:
        yield from ((str(folder), stem + ending) for ending in LABEL_ENDINGS)


def _says_label(path: Path) -> bool:
    return bool(set(re.split(r"[^a-z]+", stem_of(path).lower())) & LABEL_WORDS)


def _only_scan(label: Path, by_folder: Mapping[Path, list[Path]], labels: set[Path]) -> Path | None:
    """The scan of a folder for each case: ``ct.nii.gz`` beside ``labels.nii.gz``."""
    if stem_of(label).lower() not in LABEL_WORDS:
        return None
    others = [path for path in by_folder[label.parent] if path not in labels and not _says_label(path)]
    return others[0] if len(others) == 1 else None
