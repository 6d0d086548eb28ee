"""Some preprocessed scans to measure with: of the user's own, or generated ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from voco_cli.cache.store import VolumeCache
from voco_cli.dataset.datalist import Entry
from voco_cli.dataset.datalist_file import read_datalist
from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.errors import DataError
from voco_cli.phantom.write import write_phantoms
from voco_cli.settings import Settings

MOST_SCANS = 8
MADE_VOX = (192, 192, 64)


@dataclass(frozen=True)
class MaterialRequest:
    """What to prepare.

    Attributes:
        settings: of the run; ``data.file`` lists the user's scans, or there are none.
        folder: temporary.
        budget_s: time after which no further scan is begun, two being there.
    """

    settings: Settings
    folder: Path
    budget_s: float


@dataclass(frozen=True)
class Material:
    """What was prepared.

    Attributes:
        cases: in a cache of their own.
        build_s: from the file to the cache, of each scan.
        stored_bytes: size of each in the cache.
        failed: scans that could not be used, with the reason.
    """

    cases: tuple[StoredCase, ...]
    build_s: tuple[float, ...]
    stored_bytes: tuple[int, ...]
    failed: tuple[tuple[str, str], ...] = field(default=())


def prepare_material(request: MaterialRequest) -> Material:
    """Preprocess and store scans that the grid of the settings fits, one by one.

    Raises:
        DataError: none of them can be used.
        ResourceError: the disk is full.
    """
    settings = request.settings
    cache = VolumeCache(request.folder / "cache", settings.preprocess, settings.cache)
    cases: list[StoredCase] = []
    build_s: list[float] = []
    stored: list[int] = []
    failed: list[tuple[str, str]] = []
    began_s = time.perf_counter()
    for entry in _entries(request):
        if len(cases) >= MOST_SCANS or (len(cases) >= 2 and time.perf_counter() - began_s > request.budget_s):
            break
        start_s = time.perf_counter()
        report = cache.build([entry], workers=1)
        took_s = time.perf_counter() - start_s
        volume = None if report.failed else cache.lookup(entry)
        if volume is None:
            failed.append((entry.name, report.failed[0][1]))
        elif any(have < need for have, need in zip(volume.shape_xyz, settings.crops.region_vox, strict=True)):
            failed.append((entry.name, "is too small for the grid of crops after preprocessing"))
        else:
            cases.append(StoredCase(entry, (volume,)))
            build_s.append(took_s)
            stored.append(volume.path.stat().st_size)
    if not cases:
        raise DataError(
            f"None of the {len(failed)} scans that were tried can be used; {failed[0][0]}: {failed[0][1]}",
            "look at them with `voco index --check full`",
        )
    return Material(tuple(cases), tuple(build_s), tuple(stored), tuple(failed))


def _entries(request: MaterialRequest) -> list[Entry]:
    """Training scans spread over the whole list, or generated ones."""
    data = request.settings.data.file
    if data is None:
        images = write_phantoms(request.folder / "scans", MOST_SCANS, 0, MADE_VOX)
        return [Entry(image=path, patient=path.stem) for path in images]
    listed = read_datalist(data).training
    if not listed:
        raise DataError(f"{data} lists no training scans.", "index a folder with scans: voco index FOLDER")
    return list(listed[:: max(1, len(listed) // (2 * MOST_SCANS))])
