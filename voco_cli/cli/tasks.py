"""`voco tasks`: the labelled tasks that are known, what of a folder fits one, and a task of one's own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voco_cli.cli.options import (
    JsonOption,
    SetOption,
    TaskOption,
    TrustPickleOption,
    complete_tasks,
    data_flags,
    settings_words,
)
from voco_cli.config.backbones import BACKBONES, DRAFTED
from voco_cli.document.terminal import done, folded, out, print_json, progress, shell_words, warn
from voco_cli.errors import UsageError, VocoError
from voco_cli.foreign_text import named

if TYPE_CHECKING:
    from voco_cli.config import Settings
    from voco_cli.tasks.check import LabelCheck, TaskCheck

BackboneChoice = StrEnum("BackboneChoice", {name: name for name in BACKBONES})  # type: ignore[misc]  # not a literal
"""Networks that are registered."""

app = typer.Typer(help="List labelled tasks, check data against one, start your own.", no_args_is_help=True)

SHOWN_FAULTS = 20


WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes (by default one a core, where it pays).")
]


@app.command("list")
def list_tasks(json: JsonOption = False) -> None:
    """Print the tasks that come with the package."""
    from voco_cli.config import load_settings, task_names

    rows = [_row(load_settings(task=name).settings) for name in task_names()]
    if json:
        print_json(rows)
        return
    from rich.table import Table

    from voco_cli.tasks.targets import TARGETS

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("name", "title", "kind", "cases", "split"):
        table.add_column(heading, no_wrap=heading not in ("title", "kind"), overflow="fold")
    for row in rows:
        one, many = TARGETS[row["kind"]].of_class
        kind = f"{row['classes']} {one if row['classes'] == 1 else many}"
        cases = "/".join(str(row[name]) for name in ("training", "validation", "test"))
        cases += "" if row["test_labelled"] else "*" * bool(row["test"])
        table.add_row(row["name"], row["title"], kind, cases, f"{row['folds']} folds" if row["folds"] else "one list")
    out.print(table)
    out.print("Cases: training/validation/test; * test labels are not public.", highlight=False)
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

    settings = load_settings(task=name, overrides=override or ()).settings
    if json:
        print_json(settings.model_dump(mode="json"))
        return
    task = settings.task
    out.print(f"{task.name}: {task.title}" if task.title else task.name, style="bold", markup=False, highlight=False)
    _lines([f"source: {task.source}"] if task.source else [])
    _lines([f"- {note}" for note in task.notes])
    _print_layouts(settings)
    _print_classes(settings)
    _print_settings(settings)
    folder = ["DIR"] if settings.data.file is None and settings.data.root is None else []
    done([], shell_words("voco", "tasks", "check", *folder, "--task", name))


def _lines(lines: list[str]) -> None:
    for line in lines:
        out.print(line, markup=False, highlight=False)


def _print_layouts(settings: Settings) -> None:
    from voco_cli.tasks.layouts import layout_words

    task, data = settings.task, settings.data
    if data.file is not None:
        _lines(["", f"data: {data.file}"])
    if task.layouts:
        below = f", also below {', '.join(task.folders)}" if task.folders else ""
        _lines(["", f"files from the data folder{below}:"])
        _lines([f"  {layout_words(layout)}" for layout in task.layouts])


def _print_classes(settings: Settings) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(*folded("output", "class", "values in the files"), box=None, header_style="bold", pad_edge=False)
    background = settings.task.num_outputs - len(settings.task.classes)
    for output, one in enumerate(settings.task.classes, start=background):
        table.add_row(str(output), Text(one.name), ", ".join(map(str, one.values)))
    if settings.task.ignore_value is not None:
        table.add_row("", "(ignored)", str(settings.task.ignore_value))
    for region in settings.task.regions:
        table.add_row("", Text(f"{region.name} (region)"), Text(" + ".join(region.classes)))
    out.print()
    out.print(table, markup=False, highlight=False)


def _print_settings(settings: Settings) -> None:
    """Print what differs from the defaults, section by section; words and files are shown above."""
    from voco_cli.config import Settings as Model
    from voco_cli.config.load import leaves

    plain = dict(leaves(Model()))
    above = {"name", "title", "source", "notes", "folders", "layouts", "classes", "regions", "preset", "kind"}
    out.print()
    for key, value in leaves(settings):
        section, _, name = key.partition(".")
        if value != plain[key] and section != "run" and not (section == "task" and name in above):
            _lines([f"{key}: {', '.join(map(str, value)) if isinstance(value, tuple) else value}"])


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
        _print_check(found, settings, labels)
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


def _print_check(found: TaskCheck, settings: Settings, decoded: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from voco_cli.tasks.targets import target_of

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    target = target_of(settings.task)
    table.add_row("data", Text(found.origin))
    table.add_row("split", Text(found.split_words))
    for one in found.splits:
        words = f"{one.found} cases, {one.labelled} with a {target.name}"
        if one.missing:
            words += f"; {len(one.missing)} not there" + ("" if one.required else " (labels not public, not needed)")
        table.add_row(one.name, words)
    for layout, count in found.layouts.items():
        table.add_row("layout", Text(f"{layout}: {count}"))
    table.add_row("channels", ", ".join(settings.task.channels))
    for name, count in found.classes.items():
        table.add_row("class", Text(f"{name}: in {count} of {sum(one.labelled for one in found.splits)}"))
    if found.values:
        table.add_row("label values", ", ".join(map(str, found.values)))
    elif target.is_label_map and not decoded:
        table.add_row("label values", "not looked at; --labels decodes the label maps")
    if found.unlabelled:
        table.add_row("no label map", Text(named(found.unlabelled)))
    table.add_row("faults", str(len(found.faults)))
    out.print(table)
    for one in found.splits:
        if one.missing and one.required:
            what = "left out of" if found.may_lack else "missing in"
            _lines([f"{what} {one.name}: {named(one.missing)}"])
    _lines([f"fault: {fault}" for fault in found.faults[:SHOWN_FAULTS]])
    if len(found.faults) > SHOWN_FAULTS:
        _lines([f"and {len(found.faults) - SHOWN_FAULTS} faults more, all in --json"])


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
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
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
    _lines([f"{len(task.classes)} classes: {named(tuple(one.name for one in task.classes))}"])
    _lines([f"values: {'percentiles of each scan' if of_scan else f'{low:g} to {high:g} HU (CT)'}"])
    training = ["voco", "finetune", "--task", output, *(["--weights", weights] if weights else [])]
    done([output], f"{shell_words('voco', 'tasks', 'check', '--task', output)}, then {shell_words(*training)}")
