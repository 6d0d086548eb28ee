"""Options that several commands take, listed once: a dataclass whose fields are options, handed on whole."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from typer.core import TyperGroup

from voco_cli.cli.options import (
    SETTING,
    CasesOption,
    ConfigOption,
    DataArgument,
    DataOption,
    DeviceOption,
    FractionOption,
    FreezeEncoderOption,
    MinLoadedOption,
    ObjectiveOption,
    RecipeOption,
    RunDirOption,
    SetOption,
    SplitOption,
    StepsOption,
    TaskOption,
    TrustPickleOption,
    WeightsCollectionOption,
    WeightsOption,
    data_flags,
    require_agreement,
)
from voco_cli.object_stores import location

if TYPE_CHECKING:
    from voco_cli.config import Resolved


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """Options as fields, each an ``Annotated`` type with what Typer is to know of it."""

    def given(self) -> Iterator[tuple[Any, Any]]:
        """Yield what Typer knows of each option that was given, and its value; in the order of the fields."""
        for field, option in _options(type(self)):
            value = getattr(self, field.name)
            if value is not None and value is not False:
                yield option, value

    def flags(self) -> dict[str, Any]:
        """Return the settings that were given as options of their own, by dotted key."""
        return {_setting(option): value for option, value in self.given() if _setting(option)}

    def words(self) -> list[str]:
        """Return all that was given as one would type it, for the command that is to be run next."""
        words: list[str] = []
        for option, value in self.given():
            # In an annotation Typer holds the first name of an option as its default; an argument has no name.
            names = [one for one in (option.default, *(option.param_decls or ())) if isinstance(one, str)]
            name = min(names, key=len, default="")
            for one in value if isinstance(value, list | tuple) else [value]:
                text = str(location(one) if isinstance(one, Path) else one)
                words += [word for word in (name, "" if value is True else text) if word]
        return words

    def resolve(self, place: dict[str, Any] | None = None, first: Sequence[str] = ()) -> Resolved:
        """Load the settings.

        Args:
            place: flags beside those of the options, by dotted key.
            first: overrides that ``--set`` may change again.
        Raises:
            UsageError: a setting that is wrong, or given twice.
        """
        from voco_cli.config import load_settings
        from voco_cli.data.io.scratch import use_scratch

        own, flags = vars(self), {**(place or {}), **self.flags()}
        overrides = own.get("override") or ()
        require_agreement(flags, overrides)
        recipe, task = flags.pop("recipe", None), flags.pop("task.preset", None)
        resolved = load_settings(recipe, own.get("config"), [*first, *overrides], flags, task=task)
        use_scratch(resolved.settings.data)
        return resolved


def _options(kind: type[OptionGroup]) -> list[tuple[Any, Any]]:
    """Return the fields of a group, each with what Typer is to know of it."""
    hints = get_type_hints(kind, include_extras=True)
    return [(field, hints[field.name].__metadata__[0]) for field in fields(kind)]


def _setting(option: Any) -> str:
    """Return the key of the setting that an option stands for; empty where it stands for none."""
    text = option.help or ""
    return text.removeprefix(SETTING).split()[0] if text.startswith(SETTING) else ""


def with_option_group(command: Callable[..., None]) -> Callable[..., None]:
    """Let Typer see the fields of a group in place of the one parameter whose type is an `OptionGroup`."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if not (isinstance(hint, type) and issubclass(hint, OptionGroup)):
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hint))
            continue
        group, kind, types = parameter.name, hint, get_type_hints(hint, include_extras=True)
        for field in fields(hint):
            default = parameter.empty if field.default is MISSING else field.default
            annotation = types[field.name]
            parameters.append(
                inspect.Parameter(field.name, parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            )

    @wraps(command)
    def run(**given: Any) -> None:
        own = {field.name: given.pop(field.name) for field in fields(kind)}
        command(**given, **{group: kind(**own)})

    vars(run).update(__signature__=inspect.Signature(parameters))
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(OptionGroup):
    """What a pre-training, and its plan, are given."""

    data: DataArgument = None
    recipe: RecipeOption = None
    objective: ObjectiveOption = None
    config: ConfigOption = None
    override: SetOption = None
    run_dir: RunDirOption = None
    steps: StepsOption = None
    weights: WeightsOption = None
    weights_collection: WeightsCollectionOption = None
    trust_pickle: TrustPickleOption = False
    device: DeviceOption = None

    def flags(self) -> dict[str, Any]:
        """Return the settings that were given as options of their own, data file and objectives, by dotted key.

        Raises:
            UsageError: an objective that there is not, or one without a weight.
        """
        from voco_cli.config.stages import objective_flags

        return {"data.file": self.data, **super().flags(), **objective_flags(self.objective)}


@dataclass(frozen=True, kw_only=True)
class TaskOptions(OptionGroup):
    """A labelled task, and where its data lie."""

    task: TaskOption
    data: DataOption = None

    def load(self) -> Resolved:
        """Load the settings, with the data where they lie now.

        Raises:
            UsageError: a setting that is wrong, or data that are not there.
        """
        return self.resolve(*data_flags(self.data))


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TaskOptions):
    """What a fine-tuning, and its plan, are given."""

    weights: WeightsOption = None
    weights_collection: WeightsCollectionOption = None
    run_dir: RunDirOption = None
    config: ConfigOption = None
    override: SetOption = None
    steps: StepsOption = None
    cases: CasesOption = None
    fraction: FractionOption = None
    split: SplitOption = None
    min_loaded: MinLoadedOption = None
    freeze_encoder: FreezeEncoderOption = False
    trust_pickle: TrustPickleOption = False
    device: DeviceOption = None


def group_with_default(default: str) -> type[TyperGroup]:
    """Return a kind of group in which one command may go without its name: `voco plan x` is `voco plan pretrain x`."""

    class DefaultCommandGroup(TyperGroup):
        default_command = default

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in self.commands and args[0] != "--help":
                args = [default, *args]
            return super().parse_args(ctx, args)

    return DefaultCommandGroup
