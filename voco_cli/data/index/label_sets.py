"""The classes of several data sets as one list: which set labels what, and what its label values are in it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voco_cli.data.index.class_map import ClassMap, all_inside
from voco_cli.data.index.datalist import Entry, LabelSet
from voco_cli.data.index.patients import words_of
from voco_cli.data.index.scan_files import NamedValues, Sources
from voco_cli.data.io.image import IGNORE
from voco_cli.errors import UsageError
from voco_cli.foreign_text import named

NO_CLASS = {"background", IGNORE}
SIDES = {"left", "right", "l", "r"}
LESIONS = {"tumour", "tumor", "cancer", "carcinoma", "lesion", "lesions", "cyst", "mass", "metastasis", "nodule"}
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
    sets: Mapping[str, Mapping[int, str]], class_map: ClassMap, origin: str = "", of_scans: Iterable[str] = ()
) -> MergedClasses:
    """Put the classes of all sets into one list, by the rules of a map.

    A name that may mean two things, with and without what lies inside it, belongs to no list until a rule says what it
    means; classes that may be the same, or a whole and its parts, stay apart until a rule joins them.

    Args:
        sets: set to its label values and their names.
        origin: file of the map, for messages.
        of_scans: classes of scan labels, which a map may name, too.
    Raises:
        UsageError: the map has nothing to do with these classes.
    """
    if not set(of_scans) & set(class_map.mentioned):
        _refuse_foreign_map(sets, class_map, origin)
    members = {name: _renamed(name, values, class_map) for name, values in sets.items()}
    own = {
        name: list(dict.fromkeys(one for found in values.values() for one in found)) for name, values in members.items()
    }
    doubtful, told = _two_meanings(own, class_map)
    for name in own:
        own[name] = [one for one in own[name] if one not in doubtful]
        members[name] = {value: [one for one in found if one not in doubtful] for value, found in members[name].items()}
    inside = class_map.inside()
    for name in own:
        _add_wholes(own[name], members[name], class_map, inside)
    classes = tuple(dict.fromkeys(one for name in sorted(own) for one in own[name]))
    regions = {
        whole: tuple(part for part in all_inside(whole, inside) if part in classes)
        for whole in inside
        if whole in classes
    }
    told += _whole_and_sides(own) + _spelled_alike(classes)
    result = {name: _label_set(values, members[name]) for name, values in sets.items()}
    regions = {whole: parts for whole, parts in regions.items() if parts}
    return MergedClasses(classes, regions, result, {name: tuple(found) for name, found in own.items()}, tuple(told))


def _renamed(name: str, values: Mapping[int, str], class_map: ClassMap) -> dict[int, list[str]]:
    """Return label value to what its class is called in the merged list; background and what is left out is not in."""
    renamed = {value: class_map.renamed(name, said) for value, said in values.items() if said.lower() not in NO_CLASS}
    return {value: [to] for value, to in renamed.items() if to is not None}


def _label_set(values: Mapping[int, str], members: Mapping[int, Sequence[str]]) -> LabelSet:
    return LabelSet(
        names={str(value): said for value, said in values.items()},
        values={str(value): tuple(found) for value, found in members.items() if found},
        ignore=next((value for value, said in values.items() if said.lower() == IGNORE), None),
    )


def with_label_sets(
    entries: Iterable[Entry], sets: Mapping[str, Sequence[Entry]], complete: Mapping[str, tuple[str, ...]]
) -> list[Entry]:
    """Return all entries, those with a label map with the name of its set and the classes that it is complete for."""
    set_of = {entry.image: name for name, members in sets.items() for entry in members if complete[name]}
    return [
        entry.model_copy(update={"label_set": set_of[entry.image], "labelled_classes": complete[set_of[entry.image]]})
        if entry.image in set_of
        else entry
        for entry in entries
    ]


def _refuse_foreign_map(sets: Mapping[str, Mapping[int, str]], class_map: ClassMap, origin: str) -> None:
    """Raise a UsageError if no name of a map is that of a class or set here."""
    if not class_map.mentioned:
        return
    said = {name for values in sets.values() for name in values.values()}
    there = said | {f"{one}/{name}" for one, values in sets.items() for name in values.values()}
    if not there & set(class_map.mentioned) and not set(class_map.names) & set(sets):
        have = f"the classes here are {named(sorted(said))}" if said else f"nobody names the values of {named(sets)}"
        raise UsageError(f"{origin} names no class of these label maps ({named(class_map.mentioned)}).", have)


def _add_wholes(
    own: list[str], members: dict[int, list[str]], class_map: ClassMap, inside: Mapping[str, Sequence[str]]
) -> None:
    """Add to a set the classes that its parts make up, and to the voxels of parts the classes that they lie in."""
    for _ in inside:  # a whole may be a part of another
        for whole, parts in class_map.unions.items():
            if whole not in own and set(parts) <= set(own):
                own.append(whole)
        for whole, within in inside.items():
            if whole in own:
                for found in members.values():
                    if whole not in found and set(within) & set(found):
                        found.append(whole)


def _two_meanings(own: Mapping[str, Sequence[str]], class_map: ClassMap) -> tuple[set[str], list[str]]:
    """Return names that some sets label beside a lesion of theirs and others without: with the lesion, or not?"""
    settled = {*class_map.regions, *class_map.unions, *class_map.same}
    doubtful, told = set(), []
    for name in dict.fromkeys(one for names in own.values() for one in names if one not in settled):
        cut = {s: lesion for s, names in own.items() if name in names and (lesion := _lesion_of(name, names))}
        whole = [s for s, names in own.items() if name in names and s not in cut]
        if cut and whole:
            first, lesion = next(iter(cut.items()))
            doubtful.add(name)
            told.append(
                f"{name} is labelled by {named(whole)}, and by {first} beside {lesion}: with it or without? Nobody "
                f"learns {name} until the class map says `regions: {{{name}: [{lesion}]}}` (with it), "
                f"`same: [{name}]` (both alike), or a name of its own under synonyms for {first}/{name}."
            )
    return doubtful, told


def _lesion_of(name: str, names: Iterable[str]) -> str | None:
    """Return the class that is called as an organ and a lesion."""
    words = set(words_of(name))
    for one in names:
        more = set(words_of(one)) - words
        if more and more <= LESIONS and words <= set(words_of(one)):
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
