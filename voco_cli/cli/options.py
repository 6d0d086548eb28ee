"""The options that commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voco_cli.document.terminal import warn
from voco_cli.errors import UsageError

if TYPE_CHECKING:
    from voco_cli.config import Resolved, Settings


PICTURE_FORMATS = (".png", ".pdf", ".svg")


def picture_path(scan: Path, output: Path | None, what: str, as_json: bool) -> Path | None:
    """Where the picture goes: as asked, or SCAN_what.png here; none where only JSON is wanted.

    Raises:
        UsageError: another format.
    """
    if output is None:
        stem = scan.resolve().name.removesuffix(".gz").rsplit(".", 1)[0]
        return None if as_json else Path(f"{stem}_{what}.png")
    if output.suffix.lower() not in PICTURE_FORMATS:
        raise UsageError(f"{output} does not end like a picture.", f"end it with one of {', '.join(PICTURE_FORMATS)}")
    return output


def crop_centre(text: str) -> list[int]:
    """``X,Y`` or ``X,Y,Z`` as whole voxels.

    Raises:
        UsageError: anything else.
    """
    try:
        centre = [int(part) for part in text.split(",")]
    except ValueError:
        centre = []
    if len(centre) not in (2, 3):
        hint = "give two or three whole numbers of voxels, such as --at 120,96"
        raise UsageError(f"--at {text} is not the centre of a crop.", hint)
    return centre


def _recipes(incomplete: str) -> list[str]:
    from voco_cli.config.sources import recipe_names

    return list(recipe_names())


def complete_tasks(incomplete: str) -> list[str]:
    """Names of the tasks that come with the package, for the shell."""
    from voco_cli.config.sources import task_names

    return list(task_names())


def complete_devices(incomplete: str) -> list[str]:
    """Devices, for the shell."""
    return ["auto", "cpu", "cuda", "cuda:0", "mps"]


def _settings(incomplete: str) -> list[tuple[str, str]]:
    from voco_cli.config.load import field_descriptions

    return [(f"{key}=", description) for key, description in field_descriptions()]


RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        autocompletion=_recipes,
        help="Recipe that the settings start from: cvpr (by default), tpami, paper, debug or a YAML file.",
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings, such as `voco config init` writes.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=_settings,
        help="One setting, such as train.steps=100; repeatable. `voco config show` lists all.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        autocompletion=complete_devices,
        help="Device to compute on: auto (by default: a GPU if there is one), cpu, cuda, cuda:N or mps.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else on stdout.")]
TaskOption = Annotated[
    str,
    typer.Option(
        "--task",
        autocompletion=complete_tasks,
        help="A name of `voco tasks list`, or a YAML file such as `voco tasks new` writes.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder with the data, or a data.json (by default the task's own, VOCO_DATA or ./data).",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights", help="Start from these: a run folder, a file, or hf://OWNER/REPO/FILE (by default fresh weights)."
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Optimizer steps of the whole run (by default the recipe's or the task's)."),
]
CasesOption = Annotated[
    int | None,
    typer.Option(
        "--cases",
        min=1,
        help="Train on that many cases only, drawn by patient; a smaller draw is part of a larger one.",
    ),
]
FractionOption = Annotated[
    float | None,
    typer.Option("--fraction", min=0, max=1, help="Train on that share of the training patients only."),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Name of a split that comes with the package, a JSON file of cases, or seeded: drawn by patient "
        "(by default the task's).",
    ),
]
FreezeEncoderOption = Annotated[
    bool, typer.Option("--freeze-encoder", help="Train the decoder or head only; the encoder stays as it is loaded.")
]
MinLoadedOption = Annotated[
    float | None,
    typer.Option(
        "--min-loaded",
        min=0,
        max=1,
        help="Refuse weights that fill less than this share of the encoder's parameters.",
    ),
]
TrustPickleOption = Annotated[
    bool,
    typer.Option(
        "--trust-pickle",
        help="DANGEROUS: read weights from a pickle that names foreign code, and run that code with your rights.",
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Take three real steps in a temporary folder, say what the whole run will take here, and leave nothing.",
    ),
]
RequireCleanOption = Annotated[
    bool,
    typer.Option(
        "--require-clean",
        help="Refuse, with exit code 1, where measured cases were seen in training, or where that cannot be known.",
    ),
]


def settings_words(recipe: str | None, config: Path | None, overrides: Sequence[str] | None) -> list[str]:
    """``--recipe``, ``--config`` and ``--set`` as they were given, for the command that is to be run next."""
    words = ["--recipe", recipe] if recipe else []
    words += ["--config", str(config)] if config else []
    return words + [word for one in overrides or () for word in ("--set", one)]


def spoken_recipe(resolved: Resolved) -> str | None:
    """The recipe to name in a command for a machine without a GPU, which asks for it aloud; none elsewhere.

    Args:
        resolved: settings whose recipe may be the one that is taken where none is named.
    """
    from voco_cli.operating_system import seems_to_have_gpu

    unnamed = resolved.sources["recipe"] == "default"
    return resolved.settings.recipe if unnamed and not seems_to_have_gpu() else None


def given_words(options: Mapping[str, Any]) -> list[str]:
    """Options that were given, as one would type them."""
    return [str(word) for name, value in options.items() if value is not None for word in (name, value)]


def require_agreement(flags: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse a setting that an option of its own and ``--set`` give different values: neither is stronger.

    Args:
        flags: dotted key to value of the command's own options; None counts as not given.
    Raises:
        UsageError: the first that is given twice.
    """
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        own = flags.get(key)
        if equals and own is not None and text != str(own):
            raise UsageError(
                f"{key} is given twice: {text} by --set, and {own} by an option of its own.", "leave one of them out"
            )


def warn_of_untrained_flips(settings: Settings) -> None:
    """Say where predictions will be averaged over flips that training never shows the network."""
    from voco_cli.tasks.targets import target_of

    task, flips = settings.task, settings.predict.flips
    if flips and target_of(task).is_label_map and settings.augment.flip_prob == 0:
        text = "warning: predict.flips averages over flips that the network does not see in training"
        warn(f"{text} (augment.flip_prob is 0), which as a rule makes it worse.", "yellow")


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
