"""The intensity that a list of scans asks for: the window of the recipe is in HU, and only CT is."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from voco_cli.config.sources import recipe_names, task_names
from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.data.index.patients import modality_of, modality_of_word
from voco_cli.data.io.dicom_slices import looks_like_dicom, read_slices
from voco_cli.data.io.image import Header, Scan, hounsfield_doubt, looks_like_ct
from voco_cli.data.io.reader import file_format
from voco_cli.errors import UsageError, VocoError

if TYPE_CHECKING:
    from voco_cli.config import Resolved, Settings

INTENSITY = "preprocess.intensity"
FOREGROUND = "preprocess.foreground_above"
CHOICES = (INTENSITY, "preprocess.window_hu", "preprocess.percentiles")
"""Who sets one of these has chosen; whoever has not gets what the data ask for."""
NOT_SAID = ("unknown", "mixed")
NO_CT = "no CT"
SAMPLED = 3
"""Scans of unknown modality that are read, spread over the list; the voxels of all would say little more."""

Judge = Callable[[Sequence[Entry]], bool | None]


@dataclass(frozen=True)
class Suited:
    """Settings that suit the modality of the data.

    Attributes:
        resolved: with the source of what was changed.
        notes: what was done and why, one sentence each.
        warnings: what a user may not have meant.
    """

    resolved: Resolved
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def spread(entries: Sequence[Entry]) -> list[Entry]:
    """Return a few entries, evenly over the list."""
    return [entries[i * len(entries) // SAMPLED] for i in range(SAMPLED)] if len(entries) > SAMPLED else [*entries]


def judge_by_values(entries: Sequence[Entry]) -> bool | None:
    """Return whether most of a few scans hold values that only a CT has; None where none of them can be read."""
    votes = []
    for entry in spread(entries):
        try:
            votes.append(looks_like_ct(read_entry(entry).array_zyx))
        except VocoError:
            continue  # whoever uses the scan will name it
    return 2 * sum(votes) > len(votes) if votes else None


def is_chosen(resolved: Resolved) -> bool:
    """Return whether the user has said what maps to [0, 1], and left it to no recipe or task of the package."""
    return any(_is_given(resolved, key) for key in CHOICES)


def _is_given(resolved: Resolved, key: str) -> bool:
    shipped = {"default", *(f"recipe {name}" for name in recipe_names()), *(f"task {name}" for name in task_names())}
    return resolved.sources.get(key, "default") not in shipped


def suit_intensity(
    resolved: Resolved,
    entries: Sequence[Entry],
    inputs: Sequence[Path],
    judge: Judge = judge_by_values,
    settable: bool = True,
) -> Suited:
    """Return settings under which no scan but CT goes through a window in HU, unless the user has chosen so.

    Args:
        entries: all scans.
        inputs: the lists or folders that they come from, for messages and hints.
        judge: asked about scans whose modality nobody says; true is CT in HU, None is no answer.
        settable: whether the command takes settings, for messages.
    Raises:
        UsageError: CT and others are listed together, and nothing is chosen.
    """
    if resolved.settings.preprocess.intensity != "window":
        return Suited(resolved)
    counts = Counter("unknown" if entry.modality in NOT_SAID else entry.modality for entry in entries)
    others, where = sorted(set(counts) - {"CT", "unknown"}), ", ".join(path.name for path in inputs)
    if is_chosen(resolved):
        return Suited(resolved, warnings=_through_window(resolved, others, where))
    is_ct = judge([entry for entry in entries if entry.modality in NOT_SAID]) if counts["unknown"] else None
    notes = () if is_ct is None else (_judged(is_ct, counts["unknown"], where),)
    if not others and is_ct is not False:
        return Suited(resolved, notes)
    if counts["CT"] or is_ct is True:
        _refuse_mix(counts, inputs, settable)
    name = others[0] if len(others) == 1 and not counts["unknown"] else NO_CT
    suited = by_percentiles(resolved, f"modality of {where} ({name})")
    return Suited(suited, (*notes, _taken(name, resolved, settable)))


def suit_scans(
    resolved: Resolved, scans: Sequence[Scan], modality: str = "unknown", *, settable: bool = True
) -> Suited:
    """Do as `suit_intensity` for scans in memory, whose modality their tags, names or else values say.

    Args:
        modality: of all of them, where a list says it.
        settable: whether the command takes settings, for messages.
    Raises:
        UsageError: CT and others together, and nothing is chosen.
    """
    if resolved.settings.preprocess.intensity != "window":
        return Suited(resolved)
    said = {scan.path: said_modality(scan.path) if modality in NOT_SAID else modality for scan in scans}
    where = ", ".join(scan.path.name for scan in scans)
    if is_chosen(resolved):
        return Suited(resolved, warnings=_through_window(resolved, sorted({*said.values()} - {"CT", "unknown"}), where))
    is_ct = [
        said[scan.path] == "CT" or (said[scan.path] == "unknown" and looks_like_ct(scan.array_zyx)) for scan in scans
    ]
    if all(is_ct):
        doubts = {scan.path.name: hounsfield_doubt(scan.array_zyx) for scan in scans}
        warnings = (f"{name}: {doubt}, so the window may not suit it." for name, doubt in doubts.items() if doubt)
        return Suited(resolved, warnings=tuple(warnings))
    if any(is_ct):
        raise UsageError(f"Of {where} one is CT and one is none, and the window is for CT.", "give scans of one kind")
    names = {*said.values()}
    name = names.pop() if len(names) == 1 and "unknown" not in names else NO_CT
    why = [f"{scan.path.name} {_why_no_ct(scan, said[scan.path])}." for scan in scans]
    suited = by_percentiles(resolved, f"modality of {where} ({name})")
    return Suited(suited, (" ".join([*why, _taken(name, resolved, settable)]),))


def _why_no_ct(scan: Scan, said: str) -> str:
    if said != "unknown":
        return f"is {said}"
    return f"says nowhere what it is, and its lowest value {float(scan.array_zyx.min()):g} is no air in HU"


def said_modality(path: Path) -> str:
    """Return CT, MR, PT or unknown: what the DICOM tag says, else the file's or its folder's name."""
    file = next((one for one in sorted(path.rglob("*")) if _is_image(one)), None) if path.is_dir() else path
    if file is not None and file.is_file() and (path.is_dir() or file_format(path) == "dicom"):
        return modality_of_word(read_slices(file)[0].modality)
    return modality_of(path, path.absolute().parent)


def _is_image(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0 and looks_like_dicom(path) and read_slices(path)[0].is_image
    except VocoError:
        return False


def with_preprocess(settings: Settings, suited: Suited) -> Settings:
    """Return other settings of the same run with the suited preprocessing."""
    return settings.model_copy(update={"preprocess": suited.resolved.settings.preprocess})


def by_percentiles(resolved: Resolved, source: str) -> Resolved:
    """Return the settings with each scan's own percentiles, and the whole field of view unless the user cuts it."""
    changes: dict[str, Any] = {"intensity": "percentiles"}
    sources: dict[str, str] = {**resolved.sources, INTENSITY: source}
    if not _is_given(resolved, FOREGROUND):
        changes["foreground_above"], sources[FOREGROUND] = None, source
    preprocess = resolved.settings.preprocess.model_copy(update=changes)
    return replace(resolved, settings=resolved.settings.model_copy(update={"preprocess": preprocess}), sources=sources)


def _taken(name: str, resolved: Resolved, settable: bool) -> str:
    low, high = resolved.settings.preprocess.percentiles
    what = "What is no CT" if name == NO_CT else f"{name} is not in HU: each scan"
    other = f" (--set {INTENSITY}=window takes the window)" if settable else ""
    return f"{what} is scaled by its own percentiles {low:g} to {high:g}, not by the window of a CT{other}."


def _judged(is_ct: bool, count: int, where: str) -> str:
    verdict = "CT in HU" if is_ct else "no CT in HU"
    which = "one scan" if count == 1 else f"{count} scans"
    return (
        f"{where} does not say the modality of {which}; by the values of some of them, this is "
        f"{verdict} (voco index --modality says it for good)."
    )


def _through_window(resolved: Resolved, others: Sequence[str], where: str) -> tuple[str, ...]:
    if not others:
        return ()
    low, high = resolved.settings.preprocess.window_hu
    return (
        f"{where} is {' and '.join(others)}, and goes through the window {low:g} to {high:g} as it was asked for; "
        f"{INTENSITY}=percentiles scales each scan by itself.",
    )


def _refuse_mix(counts: Mapping[str, int], inputs: Sequence[Path], settable: bool) -> NoReturn:
    found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)
    first = inputs[0]
    output = first.with_name(f"{first.stem}_CT.json") if first.suffix == ".json" else Path("CT.json")
    alone = shlex.join(["voco", "index", *map(str, inputs), "--modality", "CT", "-o", str(output)])
    hint = f"`{alone}` lists the CTs alone"
    if settable:
        hint += f"; `--set {INTENSITY}=percentiles` scales each scan by its own range"
    where = ", ".join(map(str, inputs))
    raise UsageError(f"{where} has CT beside scans that are none ({found}), and the window in HU is for CT.", hint)


DOUBTED = "may not be in HU: "


def header_doubt(header: Header) -> str | None:
    """Return the doubt that a CT's header alone raises: numbers without a sign, and no tags that would move them."""
    if np.dtype(header.dtype).kind != "u":
        return None
    return "it is stored without a sign and without an offset (rescale tags), and air in a CT is near -1000 HU"


def with_doubt(entry: Entry, doubt: str | None) -> Entry:
    """Return the entry of a CT with a note of the doubt; any other as it is."""
    if doubt is None or entry.modality != "CT" or is_doubted(entry):
        return entry
    return entry.model_copy(update={"notes": (*entry.notes, f"{DOUBTED}{doubt}")})


def is_doubted(entry: Entry) -> bool:
    """Return whether an entry has such a note."""
    return any(note.startswith(DOUBTED) for note in entry.notes)


def doubt_some(entries: Sequence[Entry], advance: Callable[[int], object]) -> list[Entry]:
    """Read a few CTs, spread over the list; return all entries, with a note where values are doubted."""
    sample = spread([entry for entry in entries if entry.modality == "CT" and not is_doubted(entry)])
    noted = {}
    for entry in sample:
        noted[entry.image] = with_doubt(entry, _doubt_of(entry))
        advance(1)
    return [noted.get(entry.image, entry) for entry in entries]


def _doubt_of(entry: Entry) -> str | None:
    try:
        return hounsfield_doubt(read_entry(entry).array_zyx)
    except VocoError:
        return None  # whoever uses the scan will name it; a full check does
