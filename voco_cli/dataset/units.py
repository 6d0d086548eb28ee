"""CT scans whose numbers may not be Hounsfield units: told while they are listed, before a window cuts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from voco_cli.dataset.datalist import Entry, read_entry
from voco_cli.dataset.intensity import spread
from voco_cli.errors import VocoError
from voco_cli.scans.header import Header
from voco_cli.scans.hounsfield import hounsfield_doubt

DOUBTED = "may not be in HU: "


def header_doubt(header: Header) -> str | None:
    """What a CT's header alone gives away: numbers without a sign, and no rescale tags that would move them."""
    if np.dtype(header.dtype).kind != "u":
        return None
    return "it is stored without a sign and without an offset (rescale tags), and air in a CT is near -1000 HU"


def with_doubt(entry: Entry, doubt: str | None) -> Entry:
    """The entry of a CT with a note of the doubt; any other as it is."""
    if doubt is None or entry.modality != "CT" or is_doubted(entry):
        return entry
    return entry.model_copy(update={"notes": (*entry.notes, f"{DOUBTED}{doubt}")})


def is_doubted(entry: Entry) -> bool:
    """Whether an entry has such a note."""
    return any(note.startswith(DOUBTED) for note in entry.notes)


def doubt_some(entries: Sequence[Entry], advance: Callable[[int], object]) -> list[Entry]:
    """All entries, a few CTs of which were read, spread over the list, and noted where their values are doubted."""
    looked_at = spread([entry for entry in entries if entry.modality == "CT" and not is_doubted(entry)])
    noted = {}
    for entry in looked_at:
        noted[entry.image] = with_doubt(entry, _doubt_of(entry))
        advance(1)
    return [noted.get(entry.image, entry) for entry in entries]


def _doubt_of(entry: Entry) -> str | None:
    try:
        return hounsfield_doubt(read_entry(entry).array_zyx)
    except VocoError:
        return None  # whoever uses the scan will name it; a full check does
