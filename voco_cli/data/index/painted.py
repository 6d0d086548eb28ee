"""What `voco synthesize` notes of its painted copies: a copy is the patient of its original."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voco_cli.object_stores import is_remote

if TYPE_CHECKING:
    from voco_cli.data.index.datalist import Entry

PAINTED_FORMAT = "voco-painted/1"
IMAGES = "imagesTr"
NIFTI = ".nii.gz"


@dataclass(frozen=True)
class PaintedCopy:
    """A painted copy of a scan.

    Attributes:
        original: the scan that was painted on, where it lay then.
        patient: of the original, as `voco index` tells it.
        notes: files about the copy, which are no scans: its record and its picture.
    """

    original: Path
    patient: str
    notes: tuple[Path, ...]


def painted_copies(paths: Iterable[Path]) -> dict[Path, PaintedCopy]:
    """Return those of some files that are painted copies: ``imagesTr/x.nii.gz`` with a record ``x.json`` above it."""
    images = [path for path in paths if path.parts[-2:-1] == (IMAGES,) and not is_remote(path)]
    folders = {path.parts[:-1]: path for path in images}.values()
    records = {one for path in folders for one in path.parents[1].glob("*.json")}
    found = {}
    for path in images if records else ():
        record = path.parents[1] / f"{path.name.removesuffix(NIFTI)}.json"
        if record in records and (copy := _read(record)) is not None:
            found[path] = copy
    return found


def _read(record: Path) -> PaintedCopy | None:
    try:
        said: Any = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(said, dict) or said.get("format") != PAINTED_FORMAT:
        return None
    patient, original = said.get("patient"), said.get("original")
    if not (isinstance(patient, str) and patient and isinstance(original, str) and "\0" not in original):
        return None
    return PaintedCopy(Path(original), patient, (record, record.with_suffix(".png")))


def with_patients_of_originals(entries: Sequence[Entry]) -> list[Entry]:
    """Return all entries, painted copies with the patient that their original has in the same list.

    A list or a pattern may call the original's patient otherwise than its name does.
    """
    copies = painted_copies(entry.image for entry in entries)
    names = {copy.original.name for copy in copies.values()}  # links of lists of 160,000 are not followed in vain
    others = (entry for entry in entries if entry.image.name in names and entry.image not in copies)
    patients = {entry.image.resolve(): entry.patient for entry in others}
    patient_of = {image: patients.get(copy.original.resolve()) for image, copy in copies.items()}
    return [
        entry.model_copy(update={"patient": known}) if (known := patient_of.get(entry.image)) else entry
        for entry in entries
    ]
