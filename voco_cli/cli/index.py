"""`voco index`: what is there, what is usable, split by patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voco_cli.cli.options import JsonOption, WorkersOption, complete_collections, given_words
from voco_cli.cli.shards import SchedulerOption, ShardOption, spread_out
from voco_cli.document.terminal import done, note, print_blocks, print_json, progress, shell_words, warn
from voco_cli.errors import UsageError
from voco_cli.object_stores import location, name_below, shared_folder
from voco_cli.operating_system import seems_to_have_gpu

if TYPE_CHECKING:
    from voco_cli.data.index.datalist import Datalist, Entry
    from voco_cli.document.blocks import Block, Table, Value

SHOWN_FOLDERS = 12
SHOWN_PER_KIND = 3
SHOWN_CLASSES = 20


def index(
    context: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="Folders, files (NIfTI, NRRD, MetaImage, DICOM) and datalists (.json), any number; s3://BUCKET/FOLDER "
            "too, gs:// and az://.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The data.json to write.")] = Path("data.json"),
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the dataset (by default the first input's).")] = "",
    check: Annotated[
        Literal["headers", "full"],
        typer.Option(
            help="headers reads the voxels of three CTs at most; full decodes all, and finds damage, NaN, constant "
            "scans and copies."
        ),
    ] = "headers",
    label_pattern: Annotated[
        str | None,
        typer.Option(
            help="Where the label map of a scan is, seen from its folder, with {stem}, {case}, {name} or {folder} for "
            "parts of its own name. Decathlon, nnU-Net and x_seg beside x are found without a pattern."
        ),
    ] = None,
    patient_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression on the path of a scan; its first group is the patient."),
    ] = None,
    class_map: Annotated[
        Path | None,
        typer.Option(
            "--class-map",
            metavar="FILE",
            help="YAML file of rules by which classes of several data sets become one list: names, synonyms, unions, "
            "regions (docs/guides/omni.md).",
        ),
    ] = None,
    scan_labels: Annotated[
        Path | None,
        typer.Option(
            "--scan-labels",
            metavar="FILE",
            help="CSV of labels of whole scans: the column case (a scan's name or file), and one for each class with "
            "1, 0, or nothing where it is not known.",
        ),
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            help="Keep scans of this modality (CT, MR, PT) only; where the files say none, it is taken to be this."
        ),
    ] = None,
    validation: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=0.9, help="Share of the patients that is held out for validation."),
    ] = 0.1,
    test: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=0.9, help="Share of the patients that is held out for testing.")
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Seed of the split; with the same seed no patient changes split as folders grow.")
    ] = 0,
    collection: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_collections,
            help="List exactly the scans of a collection, a name of `voco collections list` or a YAML file, with the "
            "split that it gives them; INPUT is the folder that holds its sets.",
        ),
    ] = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    shard: ShardOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the scans of folders, and split them by patient.

    Label maps are found beside the scans; validation and test lists of a dataset.json are kept. What cannot be used is
    listed with the reason, and the rest goes on.
    """
    from voco_cli.data.index.build import IndexOptions, build_index, index_shard
    from voco_cli.data.index.datalist import SplitRule
    from voco_cli.data.index.datalist_file import write_datalist
    from voco_cli.data.index.patients import modality_of_word

    if validation + test >= 1:
        raise UsageError(
            f"--validation {validation:g} and --test {test:g} leave nobody to train on.", "lower one of them"
        )
    changed = {"--check": (check, "headers"), "--validation": (validation, 0.1), "--test": (test, 0.0)}
    changed["--seed"] = (seed, 0)
    given = {"--name": name or None, "--label-pattern": label_pattern, "--patient-pattern": patient_pattern}
    given |= {"--class-map": str(class_map) if class_map else None}
    given |= {"--scan-labels": str(scan_labels) if scan_labels else None}
    given |= {option: str(value) for option, (value, usual) in changed.items() if value != usual}
    if collection is not None:
        if scheduler or shard:
            raise UsageError("--collection lists all of its scans here, without --scheduler and --shard.")
        _refuse_beside_collection(inputs, {**given, "--modality": modality})
        _index_collection(collection, inputs[0], output, name, check == "full", workers, as_json)
        return
    inputs = [location(one) for one in inputs]
    options = IndexOptions(
        name=name,
        full=check == "full",
        label_pattern=label_pattern,
        patient_pattern=patient_pattern,
        modality=modality_of_word(modality).upper() if modality else None,
        rule=SplitRule(seed=seed, validation=validation, test=test),
        class_map=class_map,
        scan_labels=scan_labels,
        workers=workers,
    )
    with spread_out(context, output, scheduler, shard) as spread:
        if spread.is_part:
            spread.finish_part(as_json, "files", index_shard(inputs, output, options, progress, spread.runner))
            return
        datalist = build_index(inputs, output, options, progress, spread.runner)
        write_datalist(datalist, output)
        spread.finish()
    if as_json:
        print_json(_for_machines(datalist, output))
        return
    print_blocks(index_blocks(datalist))
    _say_kept_splits(datalist)
    for told in datalist.class_notes:
        warn(f"warning: {told}", style="yellow")
    _warn_of_units(datalist)
    _hint_at_modality(datalist, [*inputs, "-o", output, *given_words(given)])
    labels = any(entry.label for _, entry in datalist.entries())
    labelled = f", or with the labels: {shell_words('voco', 'tasks', 'new', output)}" if labels else ""
    recipe = [] if seems_to_have_gpu() else ["--recipe", "debug"]
    done([output], shell_words("voco", "pretrain", output, *recipe) + labelled)


def _say_kept_splits(datalist: Datalist) -> None:
    """Say whose splits were taken as they are."""
    from voco_cli.data.index.build import KEPT_SPLITS

    for path, counts in datalist.statistics.get(KEPT_SPLITS, {}).items():
        held = " and ".join(f"{count} for {split}" for split, count in counts.items())
        note(f"{path} holds out {held}: kept; index the folder of its images to split them anew")


def _refuse_beside_collection(inputs: Sequence[Path], given: Mapping[str, Any]) -> None:
    """Refuse what a collection decides itself.

    Raises:
        UsageError: several inputs, or options of splits, labels, patients and modality.
    """
    if len(inputs) > 1:
        raise UsageError("--collection takes one folder, which holds the sets.", "give the folder above them")
    beside = [option for option, value in given.items() if value is not None and option not in ("--name", "--check")]
    if beside:
        raise UsageError(f"--collection and {beside[0]} do not go together: the collection says it.", "leave it out")


def _index_collection(
    collection: str, root: Path, output: Path, name: str, full: bool, workers: int | None, as_json: bool
) -> None:
    """Write the list of a collection's scans, and tell which are missing."""
    from voco_cli.data.collections.catalogue import load_collection
    from voco_cli.data.collections.index import index_collection
    from voco_cli.data.index.datalist_file import write_datalist

    datalist, check = index_collection(load_collection(collection), root, output, name, full, workers, progress)
    write_datalist(datalist, output)
    if as_json:
        print_json(_for_machines(datalist, output))
        return
    print_blocks(index_blocks(datalist))
    for one in check.sets:
        if one.missing:
            all_of = "all" if not one.found else f"{len(one.missing)} of"
            warn(f"missing: {one.name}: {all_of} {len(one.found) + len(one.missing)} scans", style="yellow")
    if check.unnamed:
        warn(f"not listed, as their scans are not known by name: {', '.join(check.unnamed)}", style="yellow")
    _warn_of_units(datalist)
    done([output], shell_words("voco", "pretrain", output, "--recipe", "tpami"))


def _warn_of_units(datalist: Datalist) -> None:
    """Warn of CT scans whose numbers the window of a recipe, which is in HU, would cut in the wrong place."""
    from voco_cli.data.index.intensity import DOUBTED, is_doubted

    doubted = [entry for _, entry in datalist.entries() if is_doubted(entry)]
    if doubted:
        reason = next(note for note in doubted[0].notes if note.startswith(DOUBTED)).removeprefix(DOUBTED)
        which = "1 CT scan" if len(doubted) == 1 else f"{len(doubted)} CT scans"
        warn(
            f"warning: {which} may not be in HU, which windows are in; {doubted[0].image}: {reason}. "
            f"Look with voco preview-labels; --set preprocess.intensity=percentiles scales each scan by itself.",
            style="yellow",
        )


def _hint_at_modality(datalist: Datalist, words: Sequence[object]) -> None:
    """Show the command that states the modality, where files do not."""
    from voco_cli.data.index.intensity import NOT_SAID, judge_by_values

    entries = [entry for _, entry in datalist.entries()]
    unknown = [entry for entry in entries if entry.modality in NOT_SAID]
    is_ct = judge_by_values(unknown) if unknown else None
    if is_ct is None:
        return
    looks = "are those of a CT" if is_ct else "are not those of a CT"
    command = shell_words("voco", "index", *words, "--modality", "CT" if is_ct else "MR")
    which = "all scans" if len(unknown) == len(entries) else f"{len(unknown)} of {len(entries)} scans"
    note(
        f"hint: the modality of {which} is unknown (the values of the first {looks}); say it: {command}", style="yellow"
    )


def _for_machines(datalist: Datalist, output: Path) -> dict[str, Any]:
    from voco_cli.data.index.reasons import count_kinds

    return {
        "output": str(output),
        "name": datalist.name,
        "modality": datalist.modality,
        "statistics": datalist.statistics,
        "classes": datalist.classes,
        "scan_classes": datalist.scan_classes,
        "class_notes": datalist.class_notes,
        "skipped_kinds": count_kinds(datalist.skipped),
        "skipped": [{"path": str(one.path), "reason": one.reason} for one in datalist.skipped],
    }


def index_blocks(datalist: Datalist) -> list[Block]:
    """Return what was found folder by folder, what could not be used, the sum of it, and notes on single scans."""
    from voco_cli.data.index.datalist import OTHER_NAMES
    from voco_cli.data.index.intensity import is_doubted
    from voco_cli.document.blocks import Bullets, Sentence

    blocks = [_folder_table(datalist), *_class_table(datalist), *_scan_label_table(datalist), *_skipped_table(datalist)]
    numbers = datalist.statistics
    splits = ", ".join(
        f"{name} {split['scans']} ({split['patients']} patients)" for name, split in numbers["splits"].items()
    )
    kinds = ", ".join(f"{count} {name}" for name, count in numbers["modalities"].items())
    summary = (
        f"{numbers['scans']} scans of {numbers['patients']} patients, {numbers['labelled']} with labels "
        f"({kinds}): {splits}; {len(datalist.skipped)} not listed"
    )
    told_by_sets = OTHER_NAMES if len(datalist.label_sets) > 1 else None  # each set has values of its own
    told = {
        entry.image: [note for note in entry.notes if not (told_by_sets and note.startswith(told_by_sets))]
        for _, entry in datalist.entries()
        if not is_doubted(entry)
    }
    noted = [(image, said) for image, said in told.items() if said]
    notes = [f"note: {image}: {'; '.join(said)}" for image, said in noted[:SHOWN_PER_KIND]]
    if len(noted) > SHOWN_PER_KIND:
        notes.append(f"and notes on {len(noted) - SHOWN_PER_KIND} more scans, all in the file")
    return [*blocks, Sentence(summary), Bullets(tuple(notes))]


def _folder_table(datalist: Datalist) -> Table:
    """Return a row for each folder: enough to see whether sizes, labels and splits came out right."""
    from voco_cli.document.blocks import Column, Table

    folders: dict[Path, list[tuple[str, Entry]]] = {}
    for split, entry in datalist.entries():
        folders.setdefault(entry.image.parent, []).append((split, entry))
    largest = sorted(folders, key=lambda folder: (-len(folders[folder]), str(folder)))
    above = shared_folder(folders) if len(folders) > 1 else largest[0].parent
    rows: list[list[Value]] = []
    for folder in largest[:SHOWN_FOLDERS]:
        entries = [entry for _, entry in folders[folder]]
        splits = Counter(split for split, _ in folders[folder])
        rows.append(
            [
                name_below(folder, above),
                len(entries),
                sum(entry.label is not None for entry in entries),
                ", ".join(sorted({entry.modality for entry in entries})),
                _medians([entry.shape for entry in entries if entry.shape], ".0f"),
                _medians([entry.spacing_mm for entry in entries if entry.spacing_mm], ".2g"),
                f"{splits['training']}/{splits['validation']}/{splits['test']}",
            ]
        )
    more = f"; {len(largest) - SHOWN_FOLDERS} more folders" if len(largest) > SHOWN_FOLDERS else ""
    columns = [
        Column("folder"),
        *(Column(heading, True) for heading in ("scans", "labels")),
        *map(Column, ("modality", "median size", "median mm", "split")),
    ]
    return Table.of(f"scans of {datalist.name} (split: training/validation/test){more}", columns, rows)


def _class_table(datalist: Datalist) -> list[Block]:
    """Return which set labels what, a row for each class, most labelled first.

    One set without a class that is in doubt has a line in its place: how many classes there are.
    """
    from voco_cli.document.blocks import Column, Sentence, Table

    if not datalist.classes or (len(datalist.label_sets) < 2 and not datalist.class_notes):
        name = next(iter(datalist.label_sets), "")
        return [Sentence(f"{len(datalist.classes)} classes of label set {name}")] if datalist.classes else []
    scans = Counter(name for _, entry in datalist.entries() for name in entry.labelled_classes)
    sets: dict[str, list[str]] = {name: [] for name in datalist.classes}
    for _, entry in datalist.entries():
        for name in entry.labelled_classes:
            if entry.label_set and entry.label_set not in sets[name]:
                sets[name].append(entry.label_set)
    order = sorted(datalist.classes, key=lambda name: -scans[name])
    rows: list[list[Value]] = [
        [name, scans[name], ", ".join(sets[name]), ", ".join(datalist.regions.get(name, ()))]
        for name in order[:SHOWN_CLASSES]
    ]
    more = f"; {len(order) - SHOWN_CLASSES} more classes in the file" if len(order) > SHOWN_CLASSES else ""
    columns = [Column("class"), Column("scans", True), Column("labelled by"), Column("inside it")]
    return [Table.of(f"classes of {len(datalist.label_sets)} label sets{more}", columns, rows)]


def _scan_label_table(datalist: Datalist) -> list[Table]:
    """Return of how many scans each scan label says yes, no and nothing."""
    from voco_cli.document.blocks import Column, Table

    everyone = [entry.scan_labels for _, entry in datalist.entries()]
    rows: list[list[Value]] = []
    for name in datalist.scan_classes[:SHOWN_CLASSES]:
        said = Counter(one.get(name) for one in everyone)
        rows.append([name, said[True], said[False], said[None]])
    hidden = len(datalist.scan_classes) - SHOWN_CLASSES
    more = f"; {hidden} more classes in the file" if hidden > 0 else ""
    columns = [Column("class"), *(Column(heading, True) for heading in ("yes", "no", "not known"))]
    return [Table.of(f"scan labels, by scans{more}", columns, rows)] if rows else []


def _medians(rows: Sequence[tuple[float, ...]], digits: str) -> str:
    return "x".join(format(median(column), digits) for column in zip(*rows, strict=True))


def _skipped_table(datalist: Datalist) -> list[Table]:
    """Return what could not be used, a row for each of the first few of a kind; nothing where all was used."""
    from voco_cli.data.index.reasons import count_kinds, kind_of
    from voco_cli.document.blocks import Column, Table

    rows: list[list[Value]] = []
    for kind, count in count_kinds(datalist.skipped).items():
        some = [one for one in datalist.skipped if kind_of(one.reason) == kind][:SHOWN_PER_KIND]
        names = ["/".join(one.path.parts[-2:]) for one in some]
        # Where all say the same, the kind says it.
        alike = count > 1 and len({one.reason for one in some}) == 1
        lines = names if alike else [f"{name}: {one.reason}" for name, one in zip(names, some, strict=True)]
        lines += [f"and {count - len(some)} more"] if count > len(some) else []
        first: list[Value] = [kind, count]
        rows += [[*(["", ""] if n else first), line] for n, line in enumerate(lines)]
    columns = [Column("kind"), Column("count", True), Column("where")]
    return [Table.of("not listed", columns, rows)] if rows else []
