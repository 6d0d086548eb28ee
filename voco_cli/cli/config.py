"""`voco config`: look at the settings, where they come from, and start a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from voco_cli.cli.options import ConfigOption, JsonOption, RecipeOption, SetOption, complete_tasks, require_agreement
from voco_cli.document.terminal import done, out, print_json, shell_words
from voco_cli.errors import UsageError

WIDEST_VALUE = 72
"""Columns; longer values, such as the classes of a task, go on in the next line."""
TaskChoice = Annotated[
    str | None,
    typer.Option(
        "--task", autocompletion=complete_tasks, help="Task that the settings start from, in place of a recipe."
    ),
]

app = typer.Typer(help="Show the settings and their sources, or start a file.", no_args_is_help=True)


@app.command()
def show(
    recipe: RecipeOption = None,
    task: TaskChoice = None,
    config: ConfigOption = None,
    override: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Print every setting with the source it came from."""
    from voco_cli.config.load import leaves, load_settings

    _require_one_start(recipe, task)
    require_agreement({"recipe": recipe, "task.preset": task}, override or ())
    resolved = load_settings(recipe, config, override or (), task=task)
    if json:
        print_json({"settings": resolved.settings.model_dump(mode="json"), "sources": dict(resolved.sources)})
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, widest in (("setting", None), ("value", WIDEST_VALUE), ("source", None)):
        table.add_column(heading, overflow="fold", max_width=widest)
    for key, value in leaves(resolved.settings):
        source = resolved.sources[key]
        table.add_row(key, Text(str(value) or '""'), Text(source), style=None if source != "default" else "dim")
    out.print(table)


@app.command()
def schema() -> None:
    """Print the JSON schema of the settings."""
    from voco_cli.config import Settings

    print_json(Settings.model_json_schema())


@app.command()
def init(
    output: Annotated[Path, typer.Option("--output", "-o", help="YAML file to write.")] = Path("voco.yaml"),
    recipe: RecipeOption = None,
    task: TaskChoice = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented settings file to start from."""
    from voco_cli.atomic_files import write_atomic
    from voco_cli.config import load_settings
    from voco_cli.config.load import commented_file

    _require_one_start(recipe, task)
    if output.exists() and not force:
        raise UsageError(f"{output} exists already.", "choose another name with -o, or --force")
    write_atomic(output, commented_file(load_settings(recipe, task=task)).encode())
    command = ("finetune", "--task", task) if task else ("pretrain", "data.json")
    done([output], shell_words("voco", *command, "--config", output))


def _require_one_start(recipe: str | None, task: str | None) -> None:
    """Settings start from a recipe or from a task.

    Raises:
        UsageError: both are given.
    """
    if recipe and task:
        raise UsageError(f"--recipe {recipe} and --task {task} cannot be given together.", "settings start from one")
