"""`voco collections`: the scans that published weights were pre-trained on, and what of them lies in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voco_cli.cli.options import JsonOption, complete_collections
from voco_cli.document.terminal import done, print_blocks, print_json, print_line, shell_words
from voco_cli.errors import VocoError
from voco_cli.foreign_text import named

if TYPE_CHECKING:
    from voco_cli.data.collections.check import CollectionCheck
    from voco_cli.data.collections.schema import Collection, PublicSet
    from voco_cli.document.blocks import Block, Value

SHOWN = 3
NOT_KNOWN = "?"

app = typer.Typer(help="Show and check lists of scans that others pre-trained on.", no_args_is_help=True)

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=complete_collections,
        help="A name of `voco collections list`, a set of theirs, or a YAML file.",
    ),
]


@app.command("list")
def list_collections(json: JsonOption = False) -> None:
    """Print the collections that come with the package."""
    from voco_cli.data.collections.catalogue import collection_names, load_collection
    from voco_cli.document.blocks import Column, Sentence, Table

    found = [load_collection(name) for name in collection_names()]
    if json:
        print_json([_row(one) for one in found])
        return
    columns = [
        Column("name"),
        Column("title"),
        *(Column(heading, True) for heading in ("sets", "training", "held out")),
    ]
    rows: list[list[Value]] = []
    for one in found:
        count = f"{one.count('training')}{'+' * bool(one.unnamed)}"
        rows.append([one.name, one.title, len(one.sets), count, one.count("validation")])
    more = Sentence("Scans as the authors list them; +: and scans of sets whose lists are not known here.")
    print_blocks([Table.of("", columns, rows), more])
    done([], "voco collections show voco_10k")


def _row(one: Collection) -> dict[str, Any]:
    from voco_cli.data.index.datalist import SPLITS

    counts = {role: one.count(role) for role in SPLITS}
    sets = [member.set.name for member in one.sets]
    return {"name": one.name, "title": one.title, "sets": sets, "scans": counts, "unnamed": list(one.unnamed)}


@app.command()
def show(name: NameArgument, json: JsonOption = False) -> None:
    """Print the sets of a collection: how many scans, where they are to be had, in which folder they are expected."""
    from voco_cli.data.collections.catalogue import load_collection

    collection = load_collection(name)
    if json:
        print_json(collection.model_dump(mode="json"))
        return
    print_line(f"{collection.name}: {collection.title}" if collection.title else collection.name, "bold")
    print_blocks(collection_blocks(collection))
    done([], shell_words("voco", "collections", "check", name, "DIR"))


def collection_blocks(collection: Collection) -> list[Block]:
    """Return a table of the sets, where they are to be had, and what is known of the whole."""
    from voco_cli.document.blocks import Bullets, Column, Heading, Table

    rows: list[list[Value]] = []
    for member in collection.sets:
        counts = [member.set.count(getattr(member, role)) for role in ("training", "validation", "test")]
        first = next((paths[0] for paths in member.set.cases.values() if paths), "")
        layout = f"{member.set.places[0]}/{first}"
        rows.append([member.set.name, *(NOT_KNOWN if count is None else count for count in counts), layout])
    numbers = [Column(heading, True) for heading in ("training", "held out", "test")]
    table = Table.of("", [Column("set"), *numbers, Column("first file, from the data folder")], rows)
    places = [f"{_title(one.set)}: {one.set.where}; {one.set.terms}" for one in collection.sets]
    notes = [f"- {note}" for note in collection.notes]
    for member in collection.sets:
        notes += [f"- {member.set.name}: {note}" for note in (*member.set.notes, member.note) if note]
    source = [f"source: {collection.source}"] if collection.source else []
    blocks: list[Block] = [table, Heading("where they are to be had, and on which terms", 3), Bullets(tuple(places))]
    return [*blocks, Heading("known", 3), Bullets((*source, *notes))] if source or notes else blocks


def _title(one: PublicSet) -> str:
    return f"{one.name} ({one.title})" if one.title else one.name


@app.command()
def check(
    name: NameArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds a folder for each set.")],
    json: JsonOption = False,
) -> None:
    """Say what of a collection lies in a folder, what is missing, and what lies there beside the list.

    No file is opened. The exit code is 1 where scans are missing.
    """
    from voco_cli.data.collections.catalogue import load_collection
    from voco_cli.data.collections.check import check_collection

    found = check_collection(load_collection(name), folder)
    if json:
        print_json(found.to_json())
    else:
        print_blocks(check_blocks(found))
    if found.missing:
        raise VocoError(
            f"{found.missing} of {found.found + found.missing} scans of {found.collection} are not in {folder}.",
            f"voco collections show {name} says where they are to be had; voco index lists what is there",
        )
    if not json:
        done([], shell_words("voco", "index", folder, "--collection", name, "-o", "data.json"))


def check_blocks(found: CollectionCheck) -> list[Block]:
    """Return a row for each set, then the first names of what is missing and of what lies beside the list."""
    from voco_cli.document.blocks import Bullets, Column, Table

    rows: list[list[Value]] = []
    lines = []
    for one in found.sets:
        place = "not there" if one.place is None else one.place.relative_to(found.root).as_posix()
        listed = NOT_KNOWN if one.listed is None else one.listed
        counts = [len(one.found), len(one.missing)] if one.is_named else [NOT_KNOWN, NOT_KNOWN]
        rows.append([one.name, listed, *counts, len(one.beside), place if one.place else f"{place}: {one.expected}"])
        if one.missing:
            lines.append(f"missing: {one.name}: {named(one.missing, SHOWN)}")
        if one.beside and one.is_named:
            lines.append(f"beside the list: {one.name}: {named(one.beside, SHOWN)}")
    if found.unnamed:
        lines.append(f"{NOT_KNOWN}: the scans of {', '.join(found.unnamed)} are not known by name")
    if found.others:
        lines.append(f"of no set: {named(found.others, SHOWN)}")
    numbers = [Column(heading, True) for heading in ("listed", "there", "missing", "beside")]
    table = Table.of(f"{found.collection} in {found.root}", [Column("set"), *numbers, Column("folder")], rows)
    return [table, Bullets(tuple(lines))]
