"""`voco config`: look at the settings, where they come from, and start a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voco_cli.cli.options import (
    ConfigOption,
    ForceOption,
    JsonOption,
    RecipeOption,
    SetOption,
    complete_tasks,
    given_words,
    require_agreement,
    setting_option,
    settings_words,
)
from voco_cli.document.terminal import done, print_blocks, print_json, shell_words
from voco_cli.errors import UsageError

USUAL = {
    *("recipe", "seed", "run.dir", "run.device", "data.file", "data.root", "cache.dir"),
    *("preprocess.spacing_mm", "preprocess.intensity", "preprocess.window_hu", "preprocess.resize_vox"),
    *("model.backbone", "model.feature_size", "model.weights"),
    *("train.steps", "train.batch_size", "train.lr", "train.validate_every"),
}
"""What people change, or look up; what is set anywhere is shown as well."""
USUAL_IN_PRETRAINING = {"crops.grid", "crops.size", "crops.random_per_volume"}
USUAL_WITH_TASK = {
    *("task.preset", "task.split", "task.fold", "task.cases", "task.patch_size", "task.freeze_encoder"),
    *("predict.overlap", "predict.flips", "evaluate.tolerance_mm"),
}
TaskChoice = Annotated[str | None, setting_option("task.preset", "--task", autocompletion=complete_tasks)]

app = typer.Typer(help="Show the settings and their sources, or start a file.", no_args_is_help=True)


@app.command()
def show(
    recipe: RecipeOption = None,
    task: TaskChoice = None,
    config: ConfigOption = None,
    override: SetOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every setting, not the usual ones alone.")] = False,
    json: JsonOption = False,
) -> None:
    """Print the usual settings, each with its source.

    These are the settings that people change, and all that a file, recipe, task or flag sets.
    """
    from voco_cli.config.load import leaves, load_settings
    from voco_cli.document.blocks import Column, Table

    _require_one_start(recipe, task)
    require_agreement({"recipe": recipe, "task.preset": task}, override or ())
    resolved = load_settings(recipe, config, override or (), task=task)
    settings, sources = resolved.settings, resolved.sources
    if json:
        print_json({"settings": settings.model_dump(mode="json"), "sources": dict(sources)})
        return
    weights = {f"objective.{name}.weight" for name in type(settings.objective).model_fields}
    usual = USUAL | (USUAL_IN_PRETRAINING | weights if settings.task.preset is None else USUAL_WITH_TASK)
    rows = [[key, str(value) or '""', sources[key]] for key, value in leaves(settings)]
    shown = [row for row in rows if everything or row[0] in usual or row[2] != "default"]
    changed = [n for n, row in enumerate(shown) if row[2] != "default"]
    columns = [*map(Column, ("setting", "value", "source"))]
    print_blocks([Table.of("", columns, shown, marked=changed)])
    if len(shown) < len(rows):
        words = [*settings_words(recipe, config, override), *given_words({"--task": task})]
        done([], shell_words("voco", "config", "show", *words, "--all"))


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
    force: ForceOption = False,
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
    """Refuse a recipe and a task together: settings start from one.

    Raises:
        UsageError: both are given.
    """
    if recipe and task:
        raise UsageError(f"--recipe {recipe} and --task {task} cannot be given together.", "settings start from one")
