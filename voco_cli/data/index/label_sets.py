"""The classes of several data sets as one list: which set labels what, and what its label values are in it."""

from __future__ import annotations

import difflib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from voco_cli.data.index.class_map import ClassMap, all_inside
from voco_cli.data.index.datalist import Entry, LabelSet
from voco_cli.data.index.patients import words_of
from voco_cli.data.index.scan_files import NamedValues, Sources
from voco_cli.data.io.image import IGNORE
from voco_cli.errors import UsageError
from voco_cli.foreign_text import named, quoted

NO_CLASS = {"background", IGNORE}
SIDES = {"left", "right", "l", "r"}
LESIONS = {
    *("tumour", "tumours", "tumor", "tumors", "cancer", "cancers", "carcinoma", "lesion", "lesions", "cyst", "cysts"),
    *("mass", "masses", "metastasis", "metastases", "nodule", "nodules", "neoplasm", "neoplasms"),
}
"""Words of classes that some label as a part of their organ, and others cut out of it."""


@dataclass(frozen=True)
class MergedClasses:
    """The classes of all sets.

    Attributes:
        classes: merged names, in the order of a network's outputs.
        regions: class to those inside it.
        sets: by name.
        complete: set to the classes that its label maps are complete for.
        told: what does not agree between sets and what became of it, a sentence each.
    """

    classes: tuple[str, ...]
    regions: dict[str, tuple[str, ...]]
    sets: dict[str, LabelSet]
    complete: dict[str, tuple[str, ...]]
    told: tuple[str, ...]


def sets_of_labels(sources: Sources, entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return the entries with a label map by the set that it belongs to, so that all of a set name values alike.

    A set is called as the list or folder that names its values; one without names as its folder.
    """
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Entry]] = defaultdict(list)
    origins: dict[tuple[str, tuple[tuple[str, str], ...]], NamedValues] = {}
    for entry in entries:
        if entry.label is not None:
            values = sources.values_of(entry.image, entry.label)
            content = tuple(sorted(values.names.items()))
            key = ("" if values.has_own_file else values.origin, content)
            groups[key].append(entry)
            origins[key] = values
    found: dict[str, list[Entry]] = {}
    for key, members in groups.items():
        name = origins[key].origin
        if origins[key].has_own_file:
            folders = [entry.label.parent for entry in members if entry.label is not None]
            name = Path(os.path.commonpath(folders)).name or name
        numbered = (name if n == 1 else f"{name} ({n})" for n in range(1, len(groups) + 1))
        found[next(one for one in numbered if one not in found)] = members
    return found


def names_of_set(sources: Sources, name: str, members: Sequence[Entry], class_map: ClassMap) -> dict[int, str]:
    """Return label value to name of a set: those that the map gives it, else those of its files."""
    if name in class_map.names:
        return dict(class_map.names[name])
    first = members[0]
    assert first.label is not None
    stated = sources.values_of(first.image, first.label).names
    return {int(value): said for value, said in sorted(stated.items(), key=lambda item: int(item[0])) if int(value)}


def merge_classes(
    sets: Mapping[str, Mapping[int, str]],
    class_map: ClassMap,
    origin: str = "",
    of_scans: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> MergedClasses:
    """Put the classes of all sets into one list, by the rules of a map.

    A name that may mean two things, with and without what lies inside it, belongs to no list until a rule says what it
    means; classes that may be the same, or a whole and its parts, stay apart until a rule joins them. What is left out
    is not learned, and counts as a part of its whole all the same.

    Args:
        sets: set to its label values and their names.
        origin: file of the map, for messages.
        of_scans: table of scan labels to its classes, which a map may name, too.
    Raises:
        UsageError: the map has nothing to do with these classes.
    """
    inside = class_map.inside()
    members = {
        name: {v: [class_map.merged_name(name, said)] for v, said in values.items() if said.lower() not in NO_CLASS}
        for name, values in sets.items()
    }
    own = {
        name: list(dict.fromkeys(one for found in values.values() for one in found)) for name, values in members.items()
    }
    told = _of_nobody(own, sets, class_map, origin, of_scans)
    doubtful, doubts = _two_meanings(own, class_map, inside)
    for name in own:
        _add_wholes(own[name], members[name], class_map, doubtful)
        out = {one for one in own[name] if {one, f"{name}/{one}"} & set(class_map.leave_out)} | doubtful
        out |= {class_map.merged_name(name, said) for said in sets[name].values() if class_map.leaves_out(name, said)}
        own[name] = [one for one in own[name] if one not in out]
        members[name] = {value: [one for one in found if one not in out] for value, found in members[name].items()}
    classes = tuple(dict.fromkeys(one for name in sorted(own) for one in own[name]))
    regions = {
        whole: parts
        for whole in inside
        if whole in classes and (parts := tuple(part for part in all_inside(whole, inside) if part in classes))
    }
    if silent := [name for name, found in own.items() if sets[name] and not found]:
        told.append(f"The label maps of {named(silent)} teach nothing: all of their classes are in doubt or left out.")
    told += doubts + _whole_and_sides(own) + _spelled_alike(classes)
    result = {name: _label_set(values, members[name]) for name, values in sets.items()}
    return MergedClasses(classes, regions, result, {name: tuple(found) for name, found in own.items()}, tuple(told))


def _label_set(values: Mapping[int, str], members: Mapping[int, Sequence[str]]) -> LabelSet:
    return LabelSet(
        names={str(value): said for value, said in values.items()},
        values={str(value): tuple(found) for value, found in members.items() if found},
        ignore=next((value for value, said in values.items() if said.lower() == IGNORE), None),
    )


def with_label_sets(
    entries: Iterable[Entry], sets: Mapping[str, Sequence[Entry]], merged: MergedClasses
) -> list[Entry]:
    """Return all entries, those whose label map has named values with its set and the classes it is complete for."""
    set_of = {entry.image: name for name, members in sets.items() for entry in members if merged.sets[name].names}
    return [
        entry.model_copy(
            update={"label_set": set_of[entry.image], "labelled_classes": merged.complete[set_of[entry.image]]}
        )
        if entry.image in set_of
        else entry
        for entry in entries
    ]


def _of_nobody(
    own: Mapping[str, Sequence[str]],
    sets: Mapping[str, Mapping[int, str]],
    class_map: ClassMap,
    origin: str,
    of_scans: Mapping[str, Iterable[str]],
) -> list[str]:
    """Tell which names of a map are of no class here, such as misspelt ones.

    Raises:
        UsageError: all of them.
    """
    said = {name: set(values.values()) for name, values in sets.items()}
    for table, names in of_scans.items():
        said[table] = said.get(table, set()) | set(names)
    written = {form for one, names in said.items() for name in names for form in (name, f"{one}/{name}")}
    merged = {form for one, names in own.items() for name in names for form in (name, f"{one}/{name}")}
    merged |= {class_map.merged_name(table, name) for table, names in of_scans.items() for name in names}
    classes = merged | set(class_map.unions)
    parts = [name for names in (*class_map.unions.values(), *class_map.regions.values()) for name in names]
    used = [(name, written) for names in class_map.synonyms.values() for name in names]
    used += [(name, classes) for name in (*parts, *class_map.regions, *class_map.same)]
    used += [(name, classes | written) for name in class_map.leave_out]
    lost = list(dict.fromkeys(name for name, there in used if name not in there))
    named_here = set().union(*said.values())
    if (
        class_map.mentioned
        and not (written | merged) & set(class_map.mentioned)
        and not set(class_map.names) & set(sets)
    ):
        have = (
            f"the classes here are {named(sorted(named_here))}"
            if named_here
            else f"nobody names the values of {named(sets)}"
        )
        raise UsageError(f"{origin} names no class of these label maps ({named(class_map.mentioned)}).", have)
    near = {name: difflib.get_close_matches(name, sorted(classes | named_here), 1, 0.8) for name in lost}
    return [
        f"{origin} names {quoted(name)}, which no class here is called"
        + (f"; did you mean {quoted(near[name][0])}?" if near[name] else ".")
        for name in lost
    ]


def _add_wholes(own: list[str], members: dict[int, list[str]], class_map: ClassMap, doubtful: Set[str]) -> None:
    """Add to a set the classes that its parts make up, and to the voxels of parts the classes that they lie in.

    A part in doubt makes up nothing; it lies in its whole all the same.
    """
    inside = class_map.inside()
    for _ in inside:  # a whole may be a part of another
        for whole, parts in class_map.unions.items():
            if whole not in own and set(parts) <= set(own) - doubtful:
                own.append(whole)
        for whole, within in inside.items():
            if whole in own:
                for found in members.values():
                    if whole not in found and set(within) & set(found):
                        found.append(whole)


def _two_meanings(
    own: Mapping[str, Sequence[str]], class_map: ClassMap, inside: Mapping[str, Sequence[str]]
) -> tuple[set[str], list[str]]:
    """Return names that may not mean the same in all sets, and what is to be told of them.

    They are organs that some label beside a lesion of theirs and others without (with the lesion, or not?), and lesions
    called so alone in sets with different organs.
    """
    names_of = {s: [one for one in names if one not in class_map.same] for s, names in own.items()}
    groups: dict[tuple[tuple[str, ...], str, str], list[str]] = defaultdict(list)
    for name in dict.fromkeys(one for names in names_of.values() for one in names):
        beside = {s: _lesion_of(name, own[s], inside) for s, names in names_of.items() if name in names}
        cut = {s: lesion for s, lesion in beside.items() if lesion is not None}
        whole = tuple(s for s in beside if s not in cut)
        if cut and whole:
            groups[whole, *next(iter(cut.items()))].append(name)
    told = []
    for (whole, first, lesion), names in groups.items():
        verb, them = ("is", names[0]) if len(names) == 1 else ("are", "them")
        told.append(
            f"{named(names)} {verb} labelled by {named(whole)}, and by {first} beside {lesion}: with it or without? "
            f"Nobody learns {them} until the class map says `regions: {{{names[0]}: [{lesion}]}}` (with it), "
            f"`same: [{', '.join(names)}]` (both alike), or a name of its own under synonyms for {first}/{names[0]}."
        )
    doubtful = {name for names in groups.values() for name in names}
    alone = dict.fromkeys(one for names in names_of.values() for one in names if _is_lesion_alone(one))
    for name in [one for one in alone if one not in class_map.synonyms]:  # these, the map says, are the same
        beside_organs = {
            s: {one for one in own[s] if not LESIONS & set(words_of(one))}
            for s, names in names_of.items()
            if name in names
        }
        first, *others = beside_organs
        other = next((s for s in others if beside_organs[s] != beside_organs[first] or not beside_organs[s]), None)
        if other is not None:
            doubtful.add(name)
            told.append(
                f"{name} is labelled by {first} and by {other}, which label different organs: is it the same? Nobody "
                f"learns {name} until the class map says `same: [{name}]`, or a name of its own under synonyms for "
                f"{first}/{name}."
            )
    return doubtful, told


def _is_lesion_alone(name: str) -> bool:
    """Return whether a class is called as a lesion without its organ."""
    return bool(words_of(name)) and set(words_of(name)) <= LESIONS


def _lesion_of(name: str, names: Iterable[str], inside: Mapping[str, Sequence[str]]) -> str | None:
    """Return a class that may be cut out of an organ: a lesion with its name, or one called so alone.

    The former is none where the map puts it inside this organ, the latter where the map puts it inside any.
    """
    words = set(words_of(name))
    if words & LESIONS:
        return None
    within, placed = all_inside(name, inside), {part for parts in inside.values() for part in parts}
    for one in names:
        more = set(words_of(one)) - words
        named_so = bool(more) and more <= LESIONS and words <= set(words_of(one)) and one not in within
        if named_so or (_is_lesion_alone(one) and one not in placed):
            return one
    return None


def _whole_and_sides(own: Mapping[str, Sequence[str]]) -> list[str]:
    """Tell of a class that some sets label as a whole and others by sides."""
    told = []
    for name in dict.fromkeys(one for names in own.values() for one in names):
        words = frozenset(words_of(name))
        if words & SIDES:
            continue
        for label_set, names in own.items():
            sides = [one for one in names if (w := frozenset(words_of(one))) - SIDES == words and w & SIDES]
            if len(sides) == 2 and name not in names:
                wholes = [other for other, found in own.items() if name in found]
                told.append(
                    f"{named(wholes)} labels {name}, and {label_set} {' and '.join(sides)}: they are learned as "
                    f"classes of their own; `unions: {{{name}: [{', '.join(sides)}]}}` in the class map learns {name} "
                    f"from both."
                )
                break
    return told


def _spelled_alike(classes: Sequence[str]) -> list[str]:
    """Tell of classes whose names are the same words."""
    by_words: dict[frozenset[str], list[str]] = defaultdict(list)
    for name in classes:
        by_words[frozenset(words_of(name))].append(name)
    return [
        f"{' and '.join(names)} have the same words, and are learned as classes of their own; `synonyms: "
        f"{{{names[0]}: [{', '.join(names[1:])}]}}` in the class map makes them one."
        for names in by_words.values()
        if len(names) > 1
    ]
