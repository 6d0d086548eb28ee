"""`voco index`: one datalist from folders, files and lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voco_cli.data.index.case_table import ScanLabelTable, read_scan_labels, with_scan_labels
from voco_cli.data.index.class_map import ClassMap, read_class_map
from voco_cli.data.index.data_sets import with_data_sets
from voco_cli.data.index.datalist import (
    OTHER_NAMES,
    Datalist,
    Entry,
    Skipped,
    SplitRule,
    assign_splits,
    stricter,
    summarise,
    with_distinct_names,
)
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.file_reader import FileReader, Progress
from voco_cli.data.index.inspect import Candidate, VoxelCheck, find_candidates, inspect_file
from voco_cli.data.index.intensity import NOT_SAID, SAMPLED, doubt_some, header_doubt, with_doubt
from voco_cli.data.index.label_pairing import grid_fault, identity_of, pair_labels
from voco_cli.data.index.label_sets import (
    MergedClasses,
    merge_classes,
    names_of_set,
    sets_of_labels,
    with_label_sets,
)
from voco_cli.data.index.painted import with_patients_of_originals
from voco_cli.data.index.patients import stem_of
from voco_cli.data.index.reasons import count_kinds
from voco_cli.data.index.scan_files import FoundFile, Sources, Walk, add_listed, read_sources, walk_inputs
from voco_cli.data.parallel import HERE, Runner
from voco_cli.data.shards import digest_of, parts_folder
from voco_cli.errors import UsageError, VocoError
from voco_cli.object_stores import is_remote, location

COLLECTION = "collection"
"""What an index of a collection has in its statistics: which collection it is, and what is missing of it."""
KEPT_SPLITS = "kept_splits"
"""What an index has in its statistics: lists whose splits were kept, with the scans that they hold out."""


@dataclass(frozen=True)
class IndexOptions:
    """Options of `voco index`.

    Attributes:
        name: of the dataset; empty takes the first input's.
        full: decode voxels too.
        label_pattern: path of a label from its scan's folder (see `pair_labels`).
        patient_pattern: regular expression on the path, whose first group is the patient.
        modality: keep scans of this one; those of unknown modality are taken to be of it.
        class_map: rules by which the classes of several data sets become one list; none takes names as they are.
        scan_labels: table of labels of whole scans.
        workers: processes; none chooses.
    """

    name: str = ""
    full: bool = False
    label_pattern: str | None = None
    patient_pattern: str | None = None
    modality: str | None = None
    rule: SplitRule = field(default_factory=SplitRule)
    class_map: Path | None = None
    scan_labels: Path | None = None
    workers: int | None = None


def build_index(
    inputs: Sequence[Path],
    output: Path,
    options: IndexOptions,
    progress: Progress = lambda *_: nullcontext(lambda *_: None),
    runner: Runner = HERE,
) -> Datalist:
    """Read all inputs and put together what `write_datalist` writes to ``output``.

    Args:
        output: is never a candidate itself; an index that the same rule made there keeps its patients where they are.
        progress: opens a progress bar, from a description and a count.
        runner: reads the files.
    Raises:
        DataError: an input that does not exist.
        UsageError: nothing that can be listed, a bad pattern or class map, or ``output`` is another program's file.
    """
    _check_patient_pattern(options.patient_pattern)
    class_map, table = _rules(options)
    earlier = earlier_splits(output, options.rule)
    walk, sources = _walk(inputs, output)
    runner.begin(_identity(walk, options))
    reader = FileReader(options.workers, progress, runner)
    candidates, skipped = reader.inspect(walk)
    entries, refused = _list_scans(walk, sources, candidates, skipped, options, reader)
    entries = with_patients_of_originals(entries)
    skipped = [*walk.skipped, *sources.skipped, *skipped, *refused]
    if options.full:
        entries, refused = check_all_voxels(entries, reader)
        skipped += refused
    else:
        with progress("reading a few CTs", min(SAMPLED, len(entries))) as advance:
            entries = doubt_some(entries, advance)
    if not entries:
        raise _nothing(inputs, skipped)
    sets = sets_of_labels(sources, entries)
    named = {name: names_of_set(sources, name, members, class_map) for name, members in sets.items()}
    listed = dict.fromkeys(name for entry in entries for name in entry.scan_labels)
    of_scans = {"": tuple(listed), **({table.path.stem: table.columns} if table else {})}
    merged = merge_classes(named, class_map, str(options.class_map), of_scans)
    entries = with_distinct_names(with_label_sets(entries, sets, merged))
    entries, scan_classes, told = with_scan_labels(entries, table, class_map)
    entries = with_data_sets(entries, walk, sources.listed)
    datalist = _assemble(entries, skipped, sources, earlier, options, inputs, merged)
    return datalist.model_copy(
        update={"scan_classes": scan_classes, "class_notes": (*dict.fromkeys(sources.told), *merged.told, *told)}
    )


def index_shard(
    inputs: Sequence[Path],
    output: Path,
    options: IndexOptions,
    progress: Progress = lambda *_: nullcontext(lambda *_: None),
    runner: Runner = HERE,
) -> int:
    """Read the files of one shard as `build_index` reads all, for its runner to keep what was found.

    A scan and its label map fall into the same shard as a rule. Where they do not, or only the whole tells what a file
    is, the merge asks what no shard was asked.

    Args:
        inputs, output, options, progress: of `build_index`.
        runner: of the shard.
    Returns:
        number of files.
    Raises:
        DataError, UsageError: as `build_index`, but for what only the whole tells.
    """
    _check_patient_pattern(options.patient_pattern)
    _rules(options)
    walk, sources = _walk(inputs, output)
    runner.begin(_identity(walk, options))
    walk.files = [found for found in walk.files if runner.owns(case_key(found))]
    reader = FileReader(options.workers, progress, runner)
    candidates, skipped = reader.inspect(walk)
    entries, _ = _list_scans(walk, sources, candidates, skipped, options, reader)
    if options.full:
        reader.check_scans(entries)
        maps = candidates.keys() - {entry.image for entry in entries}
        reader.check_labels(sorted(maps.union(entry.label for entry in entries if entry.label is not None)))
    return len(walk.files)


def _rules(options: IndexOptions) -> tuple[ClassMap, ScanLabelTable | None]:
    class_map = read_class_map(options.class_map) if options.class_map else ClassMap()
    return class_map, read_scan_labels(options.scan_labels) if options.scan_labels else None


def case_key(found: FoundFile) -> str:
    """Return what the shard of a file goes by: its case, or the folder of what is named like no volume (DICOM)."""
    within = found.path.relative_to(found.root)
    if stem_of(within) == within.name or within.suffix.lower() == ".dcm":
        return f"{within.parent.as_posix()}/"
    case = identity_of(within)
    return "|".join([case.place, *case.words])


def _walk(inputs: Sequence[Path], output: Path) -> tuple[Walk, Sources]:
    """Return all files of inputs and lists, and what lists say of them."""
    walk = walk_inputs(inputs, exclude=[output, parts_folder(output)])
    sources = read_sources(walk.datalists, walk.dataset_files)
    add_listed(walk, ((entry.image, entry.files) for entry in sources.listed.values()))
    add_listed(walk, ((label, ()) for label in dict.fromkeys(sources.label_of.values())))
    return walk, sources


def _identity(walk: Walk, options: IndexOptions) -> dict[str, str]:
    said = filter(None, (options.class_map, options.scan_labels))
    lists = [path.read_text(errors="replace") for path in (*walk.datalists, *walk.dataset_files, *said)]
    return {
        "lists": digest_of(lists),
        "files in the inputs": digest_of(str(found.path) for found in walk.files),
        "options": str(replace(options, workers=None)),
    }


def _list_scans(
    walk: Walk,
    sources: Sources,
    candidates: dict[Path, Candidate],
    skipped: Sequence[Skipped],
    options: IndexOptions,
    reader: FileReader,
) -> tuple[list[Entry], list[Skipped]]:
    listed = {walk.standing_for(image): walk.standing_for(label) for image, label in sources.label_of.items()}
    images = {walk.standing_for(image) for image in sources.listed}
    files = [found.path for found in walk.files]
    headers = {path: candidate.header for path, candidate in candidates.items()}
    pairs = pair_labels(headers, files, listed, options.label_pattern, reader.are_labels, images)
    faulty = {one.path for one in skipped}
    elsewhere = sorted({label for label in pairs.label_of.values() if label not in candidates and label not in faulty})
    more, refused = find_candidates(map(inspect_file, elsewhere), {path: path.parent for path in elsewhere})
    known, labels = {**candidates, **more}, set(pairs.label_of.values())
    refused += [Skipped(path=path, reason=reason) for path, reason in pairs.unpaired.items()]
    entries = []
    for path in sorted(set(candidates) - labels - pairs.unpaired.keys()):
        entry = _to_entry(candidates[path], sources, options)
        label = pairs.label_of.get(path)
        if options.modality and entry.modality != options.modality:
            refused.append(
                Skipped(path=path, reason=f"modality {entry.modality}, and {options.modality} was asked for.")
            )
            continue
        if label is not None and label in known:
            fault = grid_fault(known[label].header, candidates[path].header)
            if fault is None:
                entry = entry.model_copy(update={"label": label})
            else:
                refused.append(Skipped(path=label, reason=fault))
        entries.append(entry)
    return entries, refused


def _to_entry(candidate: Candidate, sources: Sources, options: IndexOptions) -> Entry:
    header, path = candidate.header, candidate.path
    listed = sources.listed.get(path.resolve()) if sources.listed else None
    patient, modality = candidate.patient, candidate.modality
    is_stated = header.format == "dicom" and modality not in NOT_SAID
    if header.format != "dicom":
        said = listed.modality if listed and listed.modality not in NOT_SAID else sources.modality_at(path)
        is_stated = said not in NOT_SAID
        modality = said if is_stated else modality
        patient = listed.patient if listed else patient
    if options.patient_pattern and (match := re.search(options.patient_pattern, path.as_posix())):
        patient = match[1]
    notes = header.notes
    if options.modality and modality != options.modality and not is_stated:
        guess = "not known" if modality == "unknown" else f"{modality} by the name alone"
        modality, notes = options.modality, (*notes, f"modality is {guess} and was taken to be {options.modality}")
    entry = Entry(
        image=path,
        patient=patient,
        shape=header.shape_xyz,
        spacing_mm=header.placement.spacing_xyz_mm,
        orientation=header.orientation,
        modality=modality,
        files=candidate.files,
        study_uid=candidate.study_uid,
        series_uid=candidate.series_uid,
        notes=notes,
        case=listed.case if listed else None,
        category=listed.category if listed else None,
        scan_labels=listed.scan_labels if listed else {},
    )
    return entry if options.full else with_doubt(entry, header_doubt(header))


def check_all_voxels(entries: Sequence[Entry], reader: FileReader) -> tuple[list[Entry], list[Skipped]]:
    """Decode all scans with their labels; return those that can be used, and the others with the reason."""
    checks = reader.check_scans(entries)
    sound = [entry for entry, check in zip(entries, checks, strict=True) if check.fault is None]
    labels = reader.check_labels(entry.label for entry in sound if entry.label is not None)
    kept: list[Entry] = []
    refused: list[Skipped] = []
    first_with: dict[str, Path] = {}
    for entry, check in zip(entries, checks, strict=True):
        fault = check.fault
        if fault is None and check.content is not None:
            first = first_with.setdefault(check.content, entry.image)
            fault = None if first == entry.image else f"same content as {first}, under another name."
        if fault is not None:
            refused.append(Skipped(path=entry.image, reason=fault))
            continue
        label, of_label = entry.label, VoxelCheck()
        if label is not None:
            of_label = labels[label]
        if of_label.fault is not None and label is not None:
            refused.append(Skipped(path=label, reason=of_label.fault))
            label = None
        notes = (*entry.notes, *of_label.notes)
        checked = entry.model_copy(update={"content": check.content, "label": label, "notes": notes})
        kept.append(with_doubt(checked, check.doubt))
    return kept, refused


def _assemble(
    entries: Sequence[Entry],
    skipped: Iterable[Skipped],
    sources: Sources,
    earlier: dict[str, str],
    options: IndexOptions,
    inputs: Sequence[Path],
    merged: MergedClasses,
) -> Datalist:
    listed: dict[str, str] = {}
    for entry in entries:
        split = sources.split_of.get(entry.image.resolve()) if sources.split_of else None
        if split is not None:
            listed[entry.patient] = stricter(listed.get(entry.patient, split), split)
    split_of = assign_splits((entry.patient for entry in entries), options.rule, listed, earlier)
    splits: dict[str, list[Entry]] = {"training": [], "validation": [], "test": []}
    for entry in entries:
        splits[split_of[entry.patient]].append(entry)
    named = sources.label_names((entry.image, entry.label) for entry in entries if entry.label is not None)
    splits = {split: [_with_note(entry, named.contradicting) for entry in members] for split, members in splits.items()}
    modalities = {entry.modality for entry in entries}
    kept = {f"{path.parent.name}/{path.name}": counts for path, counts in sources.kept_splits.items()}
    parts: dict[str, Any] = {name: tuple(members) for name, members in splits.items()}
    first = location(inputs[0]).resolve()
    is_folder = first.is_dir() or (is_remote(first) and all(entry.image != first for entry in entries))
    return Datalist(
        name=options.name or (first.name if is_folder else first.parent.name) or "dataset",
        modality=modalities.pop() if len(modalities) == 1 else "mixed",
        labels=named.names,
        classes=merged.classes,
        regions=merged.regions,
        label_sets=merged.sets,
        split=options.rule,
        skipped=tuple(
            sorted((one for one in skipped if one.path not in named.files), key=lambda one: (str(one.path), one.reason))
        ),
        statistics={**summarise(splits), **({KEPT_SPLITS: kept} if kept else {})},
        **parts,
    )


def _with_note(entry: Entry, contradicting: Mapping[Path, str]) -> Entry:
    if entry.image not in contradicting:
        return entry
    note = f"{OTHER_NAMES} ({contradicting[entry.image]}), so there are none that hold for the whole list"
    return entry.model_copy(update={"notes": (*entry.notes, note)})


def earlier_splits(output: Path, rule: SplitRule | None) -> dict[str, str]:
    """Return the splits of the index that is about to be replaced, if it was drawn by the same rule.

    Raises:
        UsageError: what is there is no index, or that of another program.
    """
    if not output.exists():
        return {}
    try:
        before = read_datalist(output, check_files=False)
    except VocoError as error:
        raise UsageError(
            f"{output} is there and is not an index that can be replaced: {error.message}", "Choose another name."
        ) from error
    if before.split is None and COLLECTION not in before.statistics:
        raise UsageError(f"{output} is there and was not written by `voco index`.", "Choose another name.")
    return {entry.patient: split for split, entry in before.entries()} if before.split == rule else {}


def _check_patient_pattern(pattern: str | None) -> None:
    try:
        groups = re.compile(pattern).groups if pattern is not None else 1
    except re.error as error:
        raise UsageError(f"--patient-pattern {pattern!r} is not a regular expression: {error}.") from error
    if groups < 1:
        raise UsageError(f"--patient-pattern {pattern!r} needs one group, which is the patient.", "Put it in brackets.")


def _nothing(inputs: Sequence[Path], skipped: Sequence[Skipped]) -> UsageError:
    where = ", ".join(str(path) for path in inputs)
    if not skipped:
        return UsageError(f"{where} holds no files.", "Give a folder with NIfTI, NRRD, MetaImage or DICOM scans.")
    kinds = ", ".join(f"{count} {kind}" for kind, count in count_kinds(skipped).items())
    first = skipped[0]
    return UsageError(
        f"{where} holds no scan that can be listed; found: {kinds}.", f"The first: {first.path}: {first.reason}"
    )
