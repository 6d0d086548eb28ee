"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voco_cli.errors import UsageError

RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="Recipe that the settings start from: cvpr, tpami, paper, debug or a YAML file."),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; see `voco config init`.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as train.steps=100; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TaskOption = Annotated[
    str,
    typer.Option("--task", help="A name of `voco tasks list`, or a YAML file such as `voco tasks new` writes."),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder with the data, or a data.json; VOCO_DATA, ./data or the task's own by default.",
    ),
]
RequireCleanOption = Annotated[
    bool,
    typer.Option(
        "--require-clean",
        help="Exit with 1 where evaluated cases were seen in training, or where the weights do not say what they saw.",
    ),
]


def data_flags(data: Path | None) -> tuple[dict[str, object], list[str]]:
    """``--data`` as flags and overrides: a JSON file lists the cases, a folder is searched for the task's layout.

    Raises:
        UsageError: there is nothing.
    """
    if data is None:
        return {}, []
    if not data.exists():
        raise UsageError(f"--data {data} does not exist.", "give the folder of the data set, or a data.json")
    if data.is_file():
        return {"data.file": data}, []
    return {"data.root": data}, ["data.file=null"]  # the folder, and not the list that a task file may name
