"""Volumes that may be listed, from inspected files: single files, and DICOM slices put together into series."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voco_cli.dataset.datalist import Skipped
from voco_cli.dataset.inspection import Inspected, fault_of
from voco_cli.dataset.patient import modality_of, patients_of, places_of
from voco_cli.errors import VocoError
from voco_cli.scans.dicom_series import Series, group_slices, series_header
from voco_cli.scans.dicom_slices import Slice
from voco_cli.scans.header import Header

DICOM_MODALITIES = {"PET": "PT", "MRI": "MR"}


@dataclass(frozen=True)
class Candidate:
    """A readable volume, scan or label map.

    Attributes:
        header: its shape and place.
        patient: identity.
        modality: CT, MR, PT, another DICOM modality, or unknown.
        files: of a DICOM series that no folder tells apart.
    """

    header: Header
    patient: str
    modality: str
    files: tuple[Path, ...] = ()
    study_uid: str | None = None
    series_uid: str | None = None

    @property
    def path(self) -> Path:
        """What the list will name."""
        return self.header.path


def find_candidates(
    inspected: Iterable[Inspected], roots: Mapping[Path, Path]
) -> tuple[dict[Path, Candidate], list[Skipped]]:
    """Candidates by path, and what is none of them, with reasons.

    Args:
        inspected: looked-at files.
        roots: the input folder of each file.
    """
    candidates: dict[Path, Candidate] = {}
    skipped: list[Skipped] = []
    slices: list[Slice] = []
    inspected = list(inspected)
    volumes = [seen.path for seen in inspected if seen.header is not None]
    patients, places = patients_of(volumes), places_of(volumes)
    for seen in inspected:
        if seen.header is not None:
            modality = modality_of(seen.path, roots[seen.path], places)
            candidates[seen.path] = Candidate(seen.header, patients[seen.path], modality)
        elif seen.slices is not None and seen.slices[0].is_image:
            slices += seen.slices
        elif seen.slices is not None:
            modality = seen.slices[0].modality
            skipped.append(Skipped(path=seen.path, reason=f"no image: a DICOM object of modality {modality}."))
        else:
            skipped.append(Skipped(path=seen.path, reason=seen.fault or "not read."))
    series = group_slices(slices)
    for one, (path, files) in zip(series, _names(series, roots), strict=True):
        candidate = _from_series(one, path, files)
        if isinstance(candidate, Skipped):
            skipped.append(candidate)
        else:
            candidates[candidate.path] = candidate
    return candidates, skipped


def _from_series(series: Series, path: Path, files: tuple[Path, ...]) -> Candidate | Skipped:
    first = series.first
    try:
        header, _ = series_header(series, path)
    except VocoError as error:
        return Skipped(path=path, reason=fault_of(error, series.name))
    return Candidate(
        header=header,
        patient=first.patient or patients_of([path])[path],
        modality=DICOM_MODALITIES.get(first.modality, first.modality),
        files=files,
        study_uid=first.study_uid or None,
        series_uid=first.series_uid or None,
    )


def _names(series: Sequence[Series], roots: Mapping[Path, Path]) -> list[tuple[Path, tuple[Path, ...]]]:
    """What to call each series: its only file, the folder that holds nothing else, else its first file.

    A series over several folders that hold others too is named by its first file and lists all its files.
    """
    holding: dict[Path, set[int]] = defaultdict(set)
    for index, one in enumerate(series):
        for folder in one.folders:
            for above in (folder, *folder.parents):
                holding[above].add(index)
    names: list[tuple[Path, tuple[Path, ...]]] = []
    for index, one in enumerate(series):
        folder = Path(os.path.commonpath(one.folders))
        root = roots[one.first.path]
        files = one.files
        if len(files) == 1:
            names.append((files[0], ()))
        elif holding[folder] == {index} and folder.is_relative_to(root):
            names.append((folder, ()))
        elif len(one.folders) > 1:
            names.append((files[0], files))
        else:
            names.append((files[0], ()))
    return names
