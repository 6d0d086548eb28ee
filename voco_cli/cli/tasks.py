"""`voco tasks`: the labelled tasks that are known, what of a folder fits one, and a task of one's own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voco_cli.cli.left_out import SHOWN
from voco_cli.cli.options import (
    ForceOption,
    JsonOption,
    SetOption,
    TaskOption,
    TrustPickleOption,
    WorkersOption,
    complete_tasks,
    data_flags,
    settings_words,
)
from voco_cli.cli.preview_case import preview_case
from voco_cli.config.backbones import BACKBONES, DRAFTED
from voco_cli.document.terminal import done, print_blocks, print_json, print_line, progress, shell_words, warn
from voco_cli.errors import UsageError, VocoError
from voco_cli.foreign_text import named

if TYPE_CHECKING:
    from voco_cli.config import Settings
    from voco_cli.document.blocks import Block
    from voco_cli.tasks.check import LabelCheck, TaskCheck

BackboneChoice = StrEnum("BackboneChoice", {name: name for name in BACKBONES})  # type: ignore[misc]  # not a literal
"""Networks that are registered."""

app = typer.Typer(help="List labelled tasks, check and draw data, start your own.", no_args_is_help=True)


@app.command("list")
def list_tasks(json: JsonOption = False) -> None:
    """Print the tasks that come with the package."""
    from voco_cli.config import load_settings, task_names
    from voco_cli.document.blocks import Column, Sentence, Table
    from voco_cli.tasks.targets import TARGETS

    rows = [_row(load_settings(task=name).settings) for name in task_names()]
    if json:
        print_json(rows)
        return
    cells = []
    for row in rows:
        one, many = TARGETS[row["kind"]].of_class
        kind = f"{row['classes']} {one if row['classes'] == 1 else many}"
        cases = "/".join(str(row[name]) for name in ("training", "validation", "test"))
        cases += "" if row["test_labelled"] else "*" * bool(row["test"])
        cells.append([row["name"], row["title"], kind, cases, f"{row['folds']} folds" if row["folds"] else "one list"])
    table = Table.of("", [*map(Column, ("name", "title", "kind", "cases", "split"))], cells)
    print_blocks([table, Sentence("Cases: training/validation/test; *: no public test labels.")])
    done([], "voco tasks show btcv")


def _row(settings: Settings) -> dict[str, Any]:
    from voco_cli.data.index.datalist import SPLITS
    from voco_cli.tasks.splits import read_split

    task = settings.task
    assert task.split is not None
    split = read_split(task.split, task.fold)
    return {
        "name": task.name,
        "title": task.title,
        "kind": task.kind,
        "classes": len(task.classes),
        **{name: len(split.cases[name]) for name in SPLITS},
        "test_labelled": split.test_labelled and bool(split.cases["test"]),
        "split": task.split,
        "folds": split.folds,
    }


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", autocompletion=complete_tasks, help="A name of `voco tasks list`, or a YAML file."
        ),
    ],
    override: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Print all of a task: data, classes, preprocessing, training."""
    from voco_cli.config import load_settings
    from voco_cli.document.blocks import Bullets

    settings = load_settings(task=name, overrides=override or ()).settings
    if json:
        print_json(settings.model_dump(mode="json"))
        return
    task = settings.task
    print_line(f"{task.name}: {task.title}" if task.title else task.name, "bold")
    about = [f"source: {task.source}"] if task.source else []
    print_blocks([Bullets((*about, *(f"- {note}" for note in task.notes))), *task_blocks(settings)])
    folder = ["DIR"] if settings.data.file is None and settings.data.root is None else []
    done([], shell_words("voco", "tasks", "check", *folder, "--task", name))


def task_blocks(settings: Settings) -> list[Block]:
    """Return the files of a task, its classes, and the settings that differ from the defaults."""
    from voco_cli.config import Settings as Model
    from voco_cli.config.load import leaves
    from voco_cli.document.blocks import Bullets, Column, Heading, Table
    from voco_cli.tasks.layouts import layout_words

    task, data = settings.task, settings.data
    blocks: list[Block] = [] if data.file is None else [Heading(f"data: {data.file}", 3)]
    if task.layouts:
        below = f", also below {', '.join(task.folders)}" if task.folders else ""
        files = Bullets(tuple(f"  {layout_words(layout)}" for layout in task.layouts))
        blocks += [Heading(f"files from the data folder{below}:", 3), files]
    rows = [
        [str(output), one.name, ", ".join(map(str, one.values))]
        for output, one in enumerate(task.classes, start=task.num_outputs - len(task.classes))
    ]
    rows += [] if task.ignore_value is None else [["", "(ignored)", str(task.ignore_value)]]
    rows += [["", f"{region.name} (region)", " + ".join(region.classes)] for region in task.regions]
    columns = [*map(Column, ("output", "class", "values in the files"))]
    plain = dict(leaves(Model()))
    above = {"name", "title", "source", "notes", "folders", "layouts", "classes", "regions", "preset", "kind"}
    own = [
        f"{key}: {', '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for key, value in leaves(settings)
        if value != plain[key] and not key.startswith("run.") and key not in {f"task.{name}" for name in above}
    ]
    return [*blocks, Heading("classes", 3), Table.of("", columns, rows), Heading("settings", 3), Bullets(tuple(own))]


@app.command()
def check(
    task: TaskOption,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="Folder with the data, or a data.json (by default the task's own, VOCO_DATA or ./data)."
        ),
    ] = None,
    also_data: Annotated[
        Path | None, typer.Option("--data", help="The same as DIR, as the other commands call it.")
    ] = None,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels",
            help="Decode the label maps too: compare their values with the classes, and look for flipped ones.",
        ),
    ] = False,
    override: SetOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Say what of your data matches a task, and what is missing.

    The exit code is 1 where not all is well.
    """
    from voco_cli.config import load_settings
    from voco_cli.tasks.check import check_task
    from voco_cli.tasks.find_data import take_inventory

    if data is not None and also_data is not None and data != also_data:
        raise UsageError(f"The data are given twice: {data}, and {also_data} by --data.", "leave one of them out")
    data = data or also_data
    place, list_off = data_flags(data)
    settings = load_settings(task=task, overrides=[*list_off, *(override or ())], flags=place).settings
    inventory = take_inventory(settings)
    with progress("checking", sum(map(len, inventory.entries.values()))) as advance:
        found = check_task(inventory, settings.task, labels, advance, workers, _label_check() if labels else None)
    if json:
        print_json(found.to_json())
    else:
        print_blocks(check_blocks(found, settings, labels))
    if not found.is_good:
        raise VocoError(_verdict(found), _advice(found))
    if not json:
        where = ["--data", data] if data is not None else []
        same = settings_words(None, None, override)
        done([], shell_words("voco", "finetune", "--task", task, *where, *same))


def _label_check() -> LabelCheck:
    """Return the check for flipped label maps, which takes long to import."""
    from voco_cli.evaluate.label_check import label_faults

    return label_faults


def check_blocks(found: TaskCheck, settings: Settings, decoded: bool) -> list[Block]:
    """Return what of the data matches the task, then the cases that are missing and the first faults."""
    from voco_cli.document.blocks import Bullets, Facts
    from voco_cli.tasks.targets import target_of

    target = target_of(settings.task)
    facts = [("data", found.origin), ("split", found.split_words)]
    for one in found.splits:
        words = f"{one.found} cases, {one.labelled} with a {target.name}"
        if one.missing:
            words += f"; {len(one.missing)} not there" + ("" if one.required else " (labels not public, not needed)")
        facts.append((one.name, words))
    facts += [("layout", f"{layout}: {count}") for layout, count in found.layouts.items()]
    facts.append(("channels", ", ".join(settings.task.channels)))
    labelled = sum(one.labelled for one in found.splits)
    facts += [("class", f"{name}: in {count} of {labelled}") for name, count in found.classes.items()]
    if found.values:
        facts.append(("label values", ", ".join(map(str, found.values))))
    elif target.is_label_map and not decoded:
        facts.append(("label values", "not looked at; --labels decodes the label maps"))
    if found.unlabelled:
        facts.append(("no label map", named(found.unlabelled)))
    facts.append(("faults", str(len(found.faults))))
    what = "left out of" if found.may_lack else "missing in"
    lines = [f"{what} {one.name}: {named(one.missing)}" for one in found.splits if one.missing and one.required]
    lines += [f"fault: {fault}" for fault in found.faults[:SHOWN]]
    if len(found.faults) > SHOWN:
        lines.append(f"and {len(found.faults) - SHOWN} faults more, all in --json")
    return [Facts.of(facts), Bullets(tuple(lines))]


def _verdict(found: TaskCheck) -> str:
    parts = []
    if found.missing and not found.may_lack:
        parts.append(f"{found.missing} {'case' if found.missing == 1 else 'cases'} of the split missing")
    if found.faults:
        parts.append(f"{len(found.faults)} {'fault' if len(found.faults) == 1 else 'faults'} found")
    return f"{found.origin} does not match: {' and '.join(parts)}."


def _advice(found: TaskCheck) -> str | None:
    if not found.missing or found.may_lack:
        return None
    return "task.missing=leave_out trains without them, task.split=seeded splits what is there"


@app.command()
def new(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="data.json or a Decathlon list with labels; or a CSV of categories.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Task file to write.")] = Path("my_task.yaml"),
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="For a CSV: the folder with the scans that its cases name."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="Weights that training is to start from: a run folder, a file, or hf://OWNER/REPO/FILE. The task gets "
            "their network, and patches that it takes.",
        ),
    ] = None,
    trust_pickle: TrustPickleOption = False,
    backbone: Annotated[
        BackboneChoice | None,
        typer.Option("--backbone", help=f"Network to train from fresh weights (by default {DRAFTED})."),
    ] = None,
    modality: Annotated[
        Literal["CT", "MR"] | None,
        typer.Option(
            "--modality", help="CT has one window in HU, MR a range of each scan (by default what the data are)."
        ),
    ] = None,
    workers: WorkersOption = None,
    force: ForceOption = False,
) -> None:
    """Write a commented task file for your own data.

    Classes, spacing, window and sizes are read off the scans and their labels.
    """
    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{output} does not end like a settings file.", "end it with .yaml")
    if output.exists() and not force:
        raise UsageError(f"{output} exists already.", "choose another name with -o, or --force")
    if weights is not None and backbone is not None:
        raise UsageError("--weights and --backbone both say which network.", "leave --backbone out")
    from voco_cli.atomic_files import write_atomic
    from voco_cli.config import load_settings
    from voco_cli.tasks.new_task import source_of_list, source_of_table, task_file
    from voco_cli.tasks.template import network_of

    network = network_of(weights, trust_pickle) if weights is not None else backbone
    if data.suffix.lower() not in (".csv", ".tsv"):
        source = source_of_list(data, modality)
    elif images is None:
        raise UsageError(f"{data} names cases and no files.", "give the folder of the scans with --images")
    else:
        source = source_of_table(data, images, modality)
    with progress("reading scans and labels", len(source.entries)) as advance:
        text = task_file(source, output, network or DRAFTED, advance, workers)
    write_atomic(output, text.encode())
    if source.mixed_names:
        warn(f"warning: {source.mixed_names}", "yellow")
    settings = load_settings(task=str(output)).settings
    task, preprocess = settings.task, settings.preprocess
    low, high = preprocess.window_hu
    of_scan = preprocess.intensity == "percentiles"
    print_line(f"{len(task.classes)} classes: {named(tuple(one.name for one in task.classes))}")
    print_line(f"values: {'percentiles of each scan' if of_scan else f'{low:g} to {high:g} HU (CT)'}")
    training = ["voco", "finetune", "--task", output, *(["--weights", weights] if weights else [])]
    done([output], f"{shell_words('voco', 'tasks', 'check', '--task', output)}, then {shell_words(*training)}")


app.command("preview")(preview_case)
