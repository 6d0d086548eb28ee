"""The options that commands share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voco_cli.document.terminal import warn
from voco_cli.errors import UsageError

if TYPE_CHECKING:
    from voco_cli.config import Resolved, Settings


PICTURE_FORMATS = (".png", ".pdf", ".svg")


def picture_path(scan: Path, output: Path | None, what: str, as_json: bool) -> Path | None:
    """Return where the picture goes: as asked, or SCAN_what.png here; none where only JSON is wanted.

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
    """Return ``X,Y`` or ``X,Y,Z`` as whole voxels.

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


def intensity_window(text: str) -> tuple[float, float]:
    """Return ``LOW,HIGH`` as two numbers.

    Raises:
        UsageError: anything but two rising numbers.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high:
        raise UsageError(
            f"--window {text} is no range of intensities.", "give two rising numbers, such as --window -175,250"
        )
    return low, high


def _recipes(incomplete: str) -> list[str]:
    from voco_cli.config.sources import recipe_names

    return list(recipe_names())


def complete_tasks(incomplete: str) -> list[str]:
    """Return the names of the tasks that come with the package, for the shell."""
    from voco_cli.config.sources import task_names

    return list(task_names())


def complete_collections(incomplete: str) -> list[str]:
    """Return the names of the collections that come with the package, for the shell."""
    from voco_cli.data.collections.catalogue import collection_names

    return collection_names()


def complete_devices(incomplete: str) -> list[str]:
    """Return devices, for the shell."""
    return ["auto", "cpu", "cuda", "cuda:0", "mps"]


def _settings(incomplete: str) -> list[tuple[str, str]]:
    from voco_cli.config.validation import field_descriptions

    return [(f"{key}=", description) for key, description in field_descriptions()]


SETTING = "setting "
"""What the help of an option begins with that is still to be read from the settings."""


def setting_option(key: str, *flags: str, default: str = "", **named: Any) -> Any:
    """Return an option that sets a setting; its help is the description of the setting.

    The description is read when it is shown (`setting_help`): a call that shows no help need not load the settings.

    Args:
        key: dotted, such as ``train.steps``.
        default: what holds where the option is not given, where that is not the setting's own default.
        named: of `typer.Option`.
    """
    return typer.Option(*flags, help=f"{SETTING}{key}{f' (by default {default})' if default else ''}", **named)


def setting_help(text: str) -> str:
    """Return the help of an option that `setting_option` made: a sentence, which ends with what holds without it."""
    from voco_cli.config.validation import field_descriptions

    key, _, default = text.removeprefix(SETTING).partition(" ")
    description = dict(field_descriptions())[key]
    text, unset = re.fullmatch(r"(.*?)(?:; (?:none|auto) (?:is|takes) (.*))?", description).groups()  # type: ignore
    default = default or (f"(by default {unset})" if unset else "")
    return f"{text[0].upper()}{text[1:]}{f' {default}' if default else ''}."


DataArgument = Annotated[Path | None, typer.Argument(metavar="DATA", help="data.json as `voco index` writes it.")]
InputsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT", help="Scans: NIfTI, NRRD, MetaImage, DICOM series, folders, data.json."),
]
SCAN_HELP = "NIfTI, NRRD or MetaImage file, folder with a DICOM series"
ScanArgument = Annotated[
    Path, typer.Argument(metavar="SCAN", help="NIfTI, NRRD or MetaImage file, or folder with a DICOM series.")
]
ListedScanArgument = Annotated[Path, typer.Argument(metavar="SCAN", help=f"{SCAN_HELP}, or a data.json.")]
AtOption = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="X,Y[,Z]",
        help="Centre of a crop in place of a random one, in voxels of the preprocessed scan; repeatable.",
    ),
]
PictureOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Picture to write: .png, .pdf or .svg (by default a .png in this folder).",
    ),
]
PretrainedArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of voco pretrain.")]
FinetunedArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of voco finetune.")]
RecipeOption = Annotated[str | None, setting_option("recipe", "--recipe", default="cvpr", autocompletion=_recipes)]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings, such as `voco config init` writes.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=_settings,
        help="One setting, such as train.steps=100; repeatable. `voco config show --all` lists all.",
    ),
]
DeviceOption = Annotated[str | None, setting_option("run.device", "--device", autocompletion=complete_devices)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else on stdout.")]
TaskOption = Annotated[str, setting_option("task.preset", "--task", autocompletion=complete_tasks)]
TasksOption = Annotated[
    list[str],
    typer.Option(
        "--task",
        autocompletion=complete_tasks,
        help="Task: a preset or a YAML file; repeatable, with one table over all of them.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder with the data, or a data.json (by default the task's own, VOCO_DATA or ./data).",
    ),
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="NAMES",
        help="What is learned, in place of the recipe's: voco, mae, ...; A+B sums two over one encoder, A:B trains "
        "first A, then B, A=0.5 gives a weight.",
    ),
]
WeightsOption = Annotated[str | None, setting_option("model.weights", "--weights")]
WeightsCollectionOption = Annotated[
    str | None, setting_option("model.weights_collection", "--weights-collection", autocompletion=complete_collections)
]
StepsOption = Annotated[
    int | None, setting_option("train.steps", "--steps", default="the recipe's or the task's", min=1)
]
CasesOption = Annotated[int | None, setting_option("task.cases", "--cases", min=1)]
FractionOption = Annotated[float | None, setting_option("task.fraction", "--fraction", min=0, max=1)]
SplitOption = Annotated[str | None, setting_option("task.split", "--split", default="the task's")]
FreezeEncoderOption = Annotated[bool, setting_option("task.freeze_encoder", "--freeze-encoder")]
MinLoadedOption = Annotated[float | None, setting_option("model.min_loaded", "--min-loaded", min=0, max=1)]
TrustPickleOption = Annotated[bool, setting_option("model.trust_pickle", "--trust-pickle")]
RunDirOption = Annotated[
    Path | None, setting_option("run.dir", "--run-dir", "-o", default="runs/pretrain or runs/finetune")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Processes (by default one a core).")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
FlipsOption = Annotated[bool | None, setting_option("predict.flips", "--flips")]
OverlapOption = Annotated[
    float | None, setting_option("predict.overlap", "--overlap", default="the run's", metavar="SHARE")
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Take three real steps in a temporary folder, say what the whole run will take here, and leave nothing.",
    ),
]
SplitChoice = Annotated[
    Literal["test", "validation"] | None,
    typer.Option("--split", help="Cases of a run (by default test where these have labels, or else validation)."),
]
RecheckOption = Annotated[
    bool,
    typer.Option(
        "--recheck",
        help="Open all scans and cached volumes, and make again those that do not open, whatever the manifest says.",
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
    """Return ``--recipe``, ``--config`` and ``--set`` as they were given, for the command that is to be run next."""
    words = ["--recipe", recipe] if recipe else []
    words += ["--config", str(config)] if config else []
    return words + [word for one in overrides or () for word in ("--set", one)]


def spoken_recipe(resolved: Resolved) -> str | None:
    """Return the recipe to name in a command for a machine without a GPU, which asks for it; none elsewhere.

    Args:
        resolved: settings whose recipe may be the one that is taken where none is named.
    """
    from voco_cli.operating_system import seems_to_have_gpu

    unnamed = resolved.sources["recipe"] == "default"
    return resolved.settings.recipe if unnamed and not seems_to_have_gpu() else None


def given_words(options: Mapping[str, Any]) -> list[str]:
    """Return options that were given, as one would type them."""
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
    """Return ``--data`` as flags and overrides: a JSON file lists the cases, a folder is searched for the layout.

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
