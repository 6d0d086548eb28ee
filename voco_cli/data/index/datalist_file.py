"""Reading and writing data.json, and reading the Decathlon datalists of others."""

from __future__ import annotations

import codecs
import difflib
import gc
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_jsonable_python

from voco_cli.atomic_files import whole_file
from voco_cli.data.index.datalist import FORMAT, SPLITS, Datalist, Entry, absolute_name, distinct_names
from voco_cli.data.index.patients import case_of, modality_of_words, patients_of, words_of
from voco_cli.data.parallel import map_waiting
from voco_cli.errors import DataError, UsageError
from voco_cli.foreign_text import named, visible_json
from voco_cli.object_stores import ask_of_many, is_remote, location

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """Read UTF-8 with or without a byte order mark, or UTF-16 with one, as PowerShell and Excel write it.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is neither, so no text.
    """
    return decode_text(path.read_bytes())


def decode_text(content: bytes) -> str:
    """Decode what `read_text` reads.

    Raises:
        ValueError: it is no text in these encodings.
    """
    encoding = "utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text in {encoding.removesuffix('-sig').upper()}") from error


MAX_NAMED = 10
OF_LABELS = ("classes", "regions", "label_sets", "scan_classes", "class_notes")
"""Keys that a list without named labels does not have."""
MOST_SHOWN = 60
DICOM_CODE = re.compile(r"[A-Z]{2}")
FOREIGN_KEYS = ("image", "label", "patient", "case", "category", "modality", "channels", "files")
"""What an entry of another program's list is asked for; keys that only an index writes are its own business there."""


def read_datalist(path: Path, *, check_files: bool = True) -> Datalist:
    """Read data.json, or a plain Decathlon datalist, whose patients are then taken from the file names.

    Args:
        path: the JSON file; relative paths in it are relative to its folder.
        check_files: see that every image and label exists (one `stat` each).
    Raises:
        DataError: no such file, not JSON, or images that are missing (all counted, the first ten named).
        UsageError: unknown or wrong keys, all at once, each with the nearest valid key.
    """
    with _without_collector():
        datalist = _parse(path)
    if check_files:
        _check_files(datalist, path)
    return datalist


@contextmanager
def _without_collector() -> Iterator[None]:
    """Hold the collector off: of a million new objects none is garbage, and its passes would take most of the time."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def _parse(path: Path) -> Datalist:
    raw = _load(path)
    if "format" in raw:
        if raw["format"] != FORMAT:
            raise UsageError(
                f"{path} has format {raw['format']!r}, and this version reads {FORMAT!r}.", "Run `voco index` again."
            )
    else:
        raw = _from_decathlon(raw, path)
    folder = path.resolve().parent
    for items in filter(None, map(raw.get, SPLITS)):
        _validate_each(items, folder)
    try:
        return Datalist.model_validate(raw, context=folder)
    except ValidationError as error:
        raise UsageError(_describe(error, path), "Correct the keys, or write the file with `voco index`.") from error


def _validate_each(items: Any, folder: Path) -> None:
    """Put entries in the place of what was read of them, so that 160,000 are never held in both forms.

    Entries for which the same fields were given share the set of these names: each its own would be 0.1 GB of 160,000.
    What is wrong stays as it is, and is named where the whole list is validated.
    """
    given: dict[frozenset[str], set[str]] = {}
    for place, item in enumerate(items if isinstance(items, list) else []):
        with suppress(ValidationError):
            entry = Entry.model_validate(item, context=folder)
            names = entry.model_fields_set
            object.__setattr__(entry, "__pydantic_fields_set__", given.setdefault(frozenset(names), names))
            items[place] = entry


def write_datalist(datalist: Datalist, path: Path) -> None:
    """Write data.json, one scan a line; it is there whole or not at all.

    Raises:
        ResourceError: the disk is full or does not allow it.
    """
    folder = str(path.parent.resolve())
    with whole_file(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.writelines(_lines(datalist, folder))


def is_written(datalist: Datalist, path: Path) -> bool:
    """Return whether a file holds what `write_datalist` would write there, in less time and memory than reading it."""
    lines = iter(_lines(datalist, str(path.parent.resolve())))
    try:
        with path.open(encoding="utf-8") as file:
            return all(file.read(len(line)) == line for line in lines) and not file.read(1)
    except (OSError, ValueError):
        return False


def _load(path: Path) -> dict[str, Any]:
    try:
        raw = from_json(decode_text(path.read_bytes()))
    except IsADirectoryError as error:
        command = f"voco index {shlex.quote(str(path))} -o data.json"
        raise UsageError(f"{path} is a folder, and a data.json is needed.", command) from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}.", "Make it with `voco index`.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}.", "Write it again with `voco index`.") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path} is not a datalist: it holds a {type(raw).__name__}, not keys and values.")
    return raw


def _from_decathlon(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return our keys of a foreign list. Other keys are its own business; a misspelt split is not."""
    if not any(isinstance(raw.get(split), list) for split in SPLITS):
        if wrong := [split for split in SPLITS if split in raw]:
            raise UsageError(f"{path} is not a datalist: {wrong[0]} is no list.")
        near = [key for split in SPLITS for key in difflib.get_close_matches(split, raw, 1, 0.75)]
        found = (
            f"did you mean training by {near[0]!r}?" if near else f"it has {', '.join(sorted(raw)[:8]) or 'no keys'}."
        )
        raise UsageError(
            f"{path} is not a datalist: it has no list named training, validation or test; {found}",
            f"voco index {shlex.quote(str(path.parent))} -o data.json lists the scans below its folder",
        )
    listed = {
        split: [_from_item(item, split, i, path) for i, item in enumerate(raw.get(split) or ())] for split in SPLITS
    }
    modality = raw.get("modality", "unknown")
    one = only_modality(modality)
    items = [item for items in listed.values() for item in items]
    folder = path.resolve().parent
    images = [location(absolute_name(item["image"], folder)) for item in items]
    patients = patients_of(images)
    names = distinct_names(
        {image: case_of(image) for item, image in zip(items, images, strict=True) if "case" not in item}
    )
    for item, image in zip(items, images, strict=True):
        item["modality"] = only_modality(item["modality"]) if item.get("modality") else one
        item["patient"] = item.get("patient") or patients[image]
        if names.get(image, case_of(image)) != case_of(image):
            item["case"] = names[image]
    labels = raw.get("labels")
    called, told = label_names(labels, path) if isinstance(labels, dict) else ({}, ())
    return {
        **{str(split): items for split, items in listed.items()},
        "name": str(raw.get("name", path.parent.name)),
        "modality": one,
        "labels": called,
        "class_notes": told,
    }


def _from_item(item: Any, split: str, index: int, path: Path) -> dict[str, Any]:
    """Return an item's keys: it may be a file name (in the Decathlon's test lists); several images are channels."""
    known = dict(item) if isinstance(item, dict) else {"image": item}
    images = known.get("image") if isinstance(known.get("image"), list) else [known.get("image")]
    if not images or not all(isinstance(image, str) and image for image in images):
        raise UsageError(
            f"{path}: {split}[{index}] has no image that is a path, or a list of paths.",
            'An item is {"image": path, "label": path}.',
        )
    known["image"], *channels = images
    if not isinstance(known.get("label"), str | None) or known.get("label") == "":
        raise UsageError(f"{path}: {split}[{index}] has a label that is not a path: {_short(known['label'])}.")
    taken = {key: known[key] for key in FOREIGN_KEYS if known.get(key) is not None}
    # Numbers are as good names as any.
    taken |= {key: str(taken[key]) for key in ("patient", "case", "category") if isinstance(taken.get(key), int)}
    return {**taken, "channels": channels} if channels else taken


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}..."


def only_modality(modality: Any) -> str:
    """Return CT, MR or PT from what a Decathlon or nnU-Net file says; ``mixed`` where channels differ."""
    values = modality.values() if isinstance(modality, dict) else [modality]
    found = {_modality(str(value)) for value in values}
    return found.pop() if len(found) == 1 else "mixed"


def _modality(said: str) -> str:
    """Return CT, MR or PT for ``MRI``, ``T1-weighted``; another code of DICOM as it is; unknown for other text."""
    known = modality_of_words(words_of(said))
    return said if known == "unknown" and DICOM_CODE.fullmatch(said) else known


def label_names(labels: Mapping[str, Any], path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return label value to name, and what is to be told; nnU-Net writes it the other way round.

    Regions (names of several values) are not read, and that is told; a list of one value is that value.

    Args:
        path: where they stand, for messages.
    Raises:
        UsageError: a key or value that is no label value, a name that is no text, or two names for one value.
    """
    by_value = all(key.isdecimal() for key in labels) or not any(map(_values_in, labels.values()))
    names: dict[str, str] = {}
    regions = []
    for key, value in labels.items():
        values, name = (_values_in(key), value) if by_value else (_values_in(value), key)
        if not values or not isinstance(name, str | int):
            raise UsageError(
                f"{path} has {_short(key)}: {_short(value)} among its labels, which names no label value.",
                'labels are {"0": "background", "1": "liver"}, or as nnU-Net has it {"background": 0, "liver": 1}',
            )
        if len(values) > 1:
            regions.append(str(name))
        elif names.setdefault(str(values[0]), str(name)) != str(name):
            both = f"{_short(names[str(values[0])])} and {_short(name)}"
            raise UsageError(f"{path} calls the label value {values[0]} both {both}.", "keep one of them")
    if not regions:
        return names, ()
    return names, (
        f"{path} names regions of several label values, which are not read: {named(regions)}. The class map says what "
        f"lies inside what (`unions`, `regions`).",
    )


def _values_in(said: Any) -> list[int]:
    """Return the label values that JSON says, one or a list; nothing where it says none."""
    values = said if isinstance(said, list) else [said]
    numbers = [int(one) for one in values if not isinstance(one, bool) and str(one).isdecimal()]
    return numbers if len(numbers) == len(values) else []


def _describe(error: ValidationError, path: Path) -> str:
    faults = error.errors(include_url=False)
    lines = [f"{_place(fault['loc'])} {_fault(fault)}" for fault in faults[:MAX_NAMED]]
    more = f"; and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
    count = "a wrong key" if len(faults) == 1 else f"{len(faults)} wrong keys"
    return f"{path} has {count}: {'; '.join(lines)}{more}."


def _place(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _fault(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        valid = list((Entry if fault["loc"][0] in SPLITS and len(fault["loc"]) > 1 else Datalist).model_fields)
        near = difflib.get_close_matches(str(fault["loc"][-1]), valid, 1, 0.5)
        return "is not a key" + (f", did you mean {near[0]!r}?" if near else f" (there are {', '.join(valid)})")
    if fault["type"] == "missing":
        return "is missing"
    said = fault["msg"].removeprefix("Value error, ")
    return f"is wrong: {said[0].lower()}{said[1:]}"


def _check_files(datalist: Datalist, path: Path) -> None:
    wanted = ((one.image, one.label, *one.files, *one.channels) for _, one in datalist.entries())
    files = [file for of_entry in wanted for file in of_entry if file]
    ask_of_many({file for file in files if is_remote(file)})
    there = map_waiting(lambda file: file.is_file() if is_remote(file) else os.path.exists(file), files)  # noqa: PTH110
    missing = [file for file, exists in zip(files, there, strict=True) if not exists]
    if missing:
        count = "1 file that is" if len(missing) == 1 else f"{len(missing)} files that are"
        raise DataError(
            f"{path} lists {count} missing: {named(map(str, missing), MAX_NAMED)}.",
            "Copy them back, or run `voco index` again.",
        )


def _lines(datalist: Datalist, folder: str) -> Iterator[str]:
    yield "{"
    separator = "\n"
    for key in Datalist.model_fields:
        value = getattr(datalist, key)
        if key in OF_LABELS and not value:
            continue
        yield f"{separator}  {json.dumps(key)}: "
        separator = ",\n"
        if key in (*SPLITS, "skipped"):
            items = [visible_json(json.dumps(_on_disk(item, folder), ensure_ascii=False)) for item in value]
            yield "[" + ",".join(f"\n    {item}" for item in items) + ("\n  ]" if items else "]")
        else:
            plain = to_jsonable_python(value, exclude_none=key in OF_LABELS)
            yield visible_json(json.dumps(plain, indent=2, ensure_ascii=False)).replace("\n", "\n  ")
    yield "\n}\n"


def _on_disk(item: BaseModel, folder: str) -> dict[str, Any]:
    plain = item.model_dump(exclude_defaults=True, context=folder)
    if isinstance(item, Entry):
        plain.setdefault("modality", item.modality)
    return plain
