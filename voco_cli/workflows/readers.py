"""The reader kit of `voco synthesize`: a page of shuffled crops, a key that stays with you, and what readers saw."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from voco_cli.atomic_files import write_atomic
from voco_cli.csv_text import csv_records, csv_text
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist, read_text
from voco_cli.data.index.painted import IMAGES, NIFTI, PAINTED_FORMAT
from voco_cli.data.io.reader import read_scan
from voco_cli.data.synthetic.tumours import is_any
from voco_cli.document.html import render_readers
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.patient_case import patient_case
from voco_cli.evaluate.readers import PAINTED, REAL, ReaderResult, measure_reader
from voco_cli.figures.tumour_views import Window, three_planes
from voco_cli.foreign_text import quoted

PAGE, KEY = "readers.html", "key.csv"
COLUMNS = ("crop", "truth", "case", "volume_ml")
VIEW_PX = 384
DIAGONAL = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Lesion:
    """A lesion that may be shown.

    Attributes:
        truth: ``real`` or ``painted``.
        image, label: its files; a lesion has one of these values.
        number: among the connected parts of all of them.
    """

    truth: str
    case: str
    image: Path
    label: Path
    values: tuple[int, ...]
    number: int
    volume_ml: float


@dataclass(frozen=True)
class Kit:
    """A kit that was written, with the numbers of its crops."""

    page: Path
    key: Path
    real: int
    painted: int


def make_kit(
    painted: Path,
    real: Path,
    lesion: str,
    output: Path,
    *,
    crops: int,
    width_mm: float,
    window: Window,
    seed: int,
    on_done: Callable[[], None] = lambda: None,
) -> Kit:
    """Write a page of shuffled crops, half of them painted, and the key to it.

    Real and painted lesions are found in their label maps in the same way and drawn by the same function.

    Args:
        painted: folder that `voco synthesize` wrote.
        real: data.json of scans with lesions.
        lesion: name of their class in it.
        crops: in all; fewer where there are not as many lesions of both kinds.
        on_done: is called after each crop.
    Raises:
        UsageError: no lesions of a kind.
        DataError: files that cannot be read.
    """
    rng = np.random.default_rng(seed)
    groups = [_painted_lesions(painted), _real_lesions(real, lesion)]
    for found, where in zip(
        groups, (f"{painted} holds no painted", f"{real} lists no {lesion} among its"), strict=True
    ):
        if not found:
            raise UsageError(f"{where} lesions.", "give what `voco synthesize` wrote, and labelled scans with --real")
    count = min(crops // 2, *(len(found) for found in groups))
    chosen = [found[n] for found in groups for n in sorted(rng.choice(len(found), count, replace=False))]
    tokens = [f"{number:06x}" for number in rng.choice(16**6, len(chosen), replace=False)]
    shown: list[tuple[str, bytes]] = []
    for token, one in zip(tokens, chosen, strict=True):
        shown.append((token, _picture(one, width_mm, window)))
        on_done()
    order = rng.permutation(len(chosen))
    page = render_readers([shown[n] for n in order], width_mm, f"{window[0]:g} to {window[1]:g} HU")
    rows = [COLUMNS, *((tokens[n], chosen[n].truth, chosen[n].case, f"{chosen[n].volume_ml:.4g}") for n in order)]
    write_atomic(output / KEY, csv_text(rows).encode())
    write_atomic(output / PAGE, page.encode())
    return Kit(output / PAGE, output / KEY, count, count)


def _painted_lesions(folder: Path) -> list[Lesion]:
    found: list[Lesion] = []
    for path in sorted(folder.glob("*.json")):
        try:
            record: Any = json.loads(read_text(path))
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("format") == PAINTED_FORMAT:
            name, value = str(record["case"]), int(record["lesion"]["value"])
            image, label = (folder / part / f"{Path(name).name}{NIFTI}" for part in (IMAGES, "labelsTr"))
            found += _lesions_in(PAINTED, name, image, label, (value,))
    return found


def _real_lesions(path: Path, lesion: str) -> list[Lesion]:
    datalist = read_datalist(path, check_files=False)
    known = datalist.classes or tuple(datalist.labels.values())
    if lesion not in known:
        have = f"it has {', '.join(known)}" if known else "`voco index` says what label values are called"
        raise UsageError(f"{path} has no class {lesion!r}.", have)
    found: list[Lesion] = []
    for _, entry in datalist.entries():
        if entry.label is not None and (values := _values_of(datalist, entry, lesion)):
            found += _lesions_in(REAL, entry.name, entry.image, entry.label, values)
    return found


def _values_of(datalist: Datalist, entry: Entry, lesion: str) -> tuple[int, ...]:
    """Return the values that a class has in a label map: those of its set, or else of the whole list."""
    own = datalist.label_sets.get(entry.label_set) if entry.label_set else None
    classes = own.values if own else {value: (name,) for value, name in datalist.labels.items()}
    return tuple(int(value) for value, names in classes.items() if lesion in names)


def _lesions_in(truth: str, case: str, image: Path, label: Path, values: tuple[int, ...]) -> Iterator[Lesion]:
    """Yield the connected parts of a few label values."""
    scan = read_scan(label)
    parts, count = ndimage.label(is_any(scan.array_zyx, values), DIAGONAL)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    voxel_ml = float(np.prod(scan.spacing_xyz_mm)) / 1000
    for number in range(1, count + 1):
        yield Lesion(truth, case, image, label, values, number, float(sizes[number]) * voxel_ml)


def _picture(one: Lesion, width_mm: float, window: Window) -> bytes:
    """Return a PNG of three planes through the voxel that lies deepest in a lesion."""
    label = read_scan(one.label)
    parts, _ = ndimage.label(is_any(label.array_zyx, one.values), DIAGONAL)
    mask = replace(label, array_zyx=(parts == one.number).astype(np.uint8))
    case = patient_case(read_scan(one.image), mask, None)
    assert case.label_xyz is not None
    box = ndimage.find_objects(case.label_xyz)[0]
    depth = ndimage.distance_transform_edt(np.pad(case.label_xyz[box], 1), sampling=case.spacing_mm)
    deepest = np.unravel_index(int(depth.argmax()), depth.shape)
    centre = [int(place) - 1 + part.start for place, part in zip(deepest, box, strict=True)]
    stream = io.BytesIO()
    Image.fromarray(three_planes(case, centre, width_mm, window, VIEW_PX)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def read_answers(kit: Path, answers: Sequence[Path]) -> list[ReaderResult]:
    """Compare the answers of readers with the key of their kit.

    Args:
        kit: folder that `make_kit` wrote.
        answers: what the page saved, a file a reader.
    Raises:
        DataError: a file that is missing or damaged, or has other columns, crops or answers than the page writes.
    """
    truth = {row["crop"]: row["truth"] for row in _records(kit / KEY, COLUMNS)}
    results = []
    for path in answers:
        given: dict[str, str] = {}
        for row in _records(path, ("crop", "answer")):
            crop, answer = row["crop"], row["answer"]
            if crop not in truth:
                raise DataError(f"{path} has the crop {quoted(crop)}, which {kit} does not have.", "give its own kit")
            if answer not in (REAL, PAINTED, "") or crop in given:
                what = "answered twice" if crop in given else f"answered {quoted(answer)}"
                raise DataError(
                    f"{path} has the crop {quoted(crop)} {what}.", "answers are real or painted, one a crop"
                )
            given[crop] = answer
        results.append(measure_reader(path.stem, truth, given))
    return results


def _records(path: Path, columns: Sequence[str]) -> list[Mapping[str, str]]:
    try:
        found, records = csv_records(read_text(path))
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}.", "check the path") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}.", "save it again from the page") from error
    if tuple(found) != tuple(columns):
        raise DataError(f"{path} has not the columns {', '.join(columns)}.", "save it again from the page")
    return [row for _, row in records]
