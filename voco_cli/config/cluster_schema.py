"""What `voco submit` asks SLURM for: a small file of its own, checked as the settings are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from voco_cli.config.load import nearest_key
from voco_cli.config.schema import Auto, Section
from voco_cli.config.sources import Layer, merge, nest, yaml_layer
from voco_cli.errors import UsageError

USUAL_FILE = Path("~/.config/voco/cluster.yaml")
UNSET = ("", "null", "~")
EARLY_S = 60
"""SLURM may send its signal this much earlier than it is asked to."""
OWN_OPTIONS = {
    *("array", "chdir", "dependency", "error", "job-name", "kill-on-invalid-dep", "open-mode", "output", "requeue"),
    *("ntasks-per-node", "signal", "wrap"),
}
"""Options of sbatch that `voco submit` sets by itself."""
TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d{1,2}))?(?::(\d{1,2}))?")


def limit_seconds(time: str) -> int:
    """Return a limit of time in seconds.

    Args:
        time: as SLURM writes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes or
            days-hours:minutes:seconds.
    Raises:
        ValueError: it is of none of these forms.
    """
    found = TIME.fullmatch(time)
    if found is None:
        raise ValueError("it is no time such as 24:00:00, 2-12 (days-hours) or 90 (minutes)")
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None or len(numbers) == 3:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    else:
        hours, minutes, seconds = (0, *numbers, 0)[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _one_line(value: str) -> str:
    """Refuse what would end a line of the script, and begin another."""
    if not value.isprintable():
        raise ValueError("it holds a line break or another character that is not seen")
    return value


def _time(value: str) -> str:
    limit_seconds(value)
    return value


def _memory(value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[1-9][0-9]*[KMGT]?", value):
        raise ValueError("it is no amount of memory such as 64G or 900M")
    return value


def _command(value: str | None) -> str | None:
    try:
        shlex.split(value or "")
    except ValueError as error:
        raise ValueError("a quotation in it does not end") from error
    return value


def _option_name(value: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9-]*", value):
        raise ValueError("it is no long name of an option, without its dashes, such as qos")
    return value


def _lines(value: Any) -> Any:
    return value.splitlines() if isinstance(value, str) else value


Word = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
OptionName = Annotated[str, AfterValidator(_option_name)]


class ClusterSettings(Section):
    """What a job of `voco submit` is given."""

    partition: Word | None = Field(None, description="partition; none is the site's default")
    account: Word | None = Field(None, description="account that pays; none is the site's default")
    time: Annotated[str, AfterValidator(_time)] = Field(
        "24:00:00", description="limit of a job, as SLURM writes it: 24:00:00, 2-12 (days-hours)"
    )
    nodes: PositiveInt = Field(1, description="nodes of a pretrain or finetune; everything else takes one")
    gpus_per_node: NonNegativeInt = Field(
        1, description="GPUs a node of a pretrain or finetune, a process each; other commands take one or none"
    )
    tasks_per_node: PositiveInt | Auto = Field(
        "auto", description="processes a node of a pretrain or finetune; auto is one a GPU"
    )
    cpus_per_task: PositiveInt = Field(8, description="cores of each process, its loader processes included")
    memory: Annotated[str | None, AfterValidator(_memory)] = Field(
        None, description="memory a node, such as 64G; none is the site's default"
    )
    signal_s: PositiveInt = Field(
        300, description="seconds before the limit at which a job is asked to stop, to write a checkpoint"
    )
    container: Annotated[Word | None, AfterValidator(_command)] = Field(
        None, description="words before the command, such as apptainer exec --nv voco.sif; none is this environment"
    )
    setup: Annotated[tuple[Word, ...], BeforeValidator(_lines)] = Field(
        (), description="lines of shell before the command, such as module load cuda"
    )
    options: dict[OptionName, Annotated[str, AfterValidator(_one_line)]] = Field(
        default_factory=dict, description="further options of sbatch by their long names, such as qos: high"
    )

    @property
    def tasks(self) -> int:
        """Return the processes a node of what trains."""
        return max(1, self.gpus_per_node) if self.tasks_per_node == "auto" else self.tasks_per_node

    @model_validator(mode="after")
    def _fits(self) -> Self:
        limit_s = limit_seconds(self.time)
        if limit_s < self.signal_s + 2 * EARLY_S:
            raise ValueError(
                f"time {self.time} leaves no time to work before the signal, {self.signal_s} s ahead of it (signal_s)"
            )
        if own := sorted(OWN_OPTIONS & set(self.options)):
            raise ValueError(f"options.{own[0]} is set by voco submit itself")
        return self


def load_cluster(file: Path | None = None, overrides: Sequence[str] = ()) -> ClusterSettings:
    """Return what jobs are given: overrides, then the file, then defaults.

    Args:
        file: given by ``--cluster``; none is ~/.config/voco/cluster.yaml, which may be missing.
        overrides: ``key=value`` as given to ``--set``.
    Raises:
        UsageError: all that is wrong, each with its place and, for an unknown key, the nearest known one.
    """
    usual = USUAL_FILE.expanduser()
    layers = [_override_layer(overrides)]
    if file is not None or usual.is_file():
        # As it is written: to YAML 24:00:00 is a number to the base of 60, and `no` a truth value.
        layers.append(yaml_layer(file or usual, loader=yaml.BaseLoader))
    values, origin = merge(layers)
    given = nest({key: value for key, value in values.items() if not isinstance(value, str) or value not in UNSET})
    try:
        return ClusterSettings.model_validate(given)
    except ValidationError as error:
        told = list(dict.fromkeys(_problem(details, origin) for details in error.errors()))
    if len(told) == 1:
        raise UsageError(told[0])
    raise UsageError(f"{len(told)} settings of the cluster are wrong:\n" + "\n".join(f"  {one}" for one in told))


def _override_layer(overrides: Sequence[str]) -> Layer:
    values = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {override!r} is not of the form key=value.", "for example --set time=12:00:00")
        values[key.strip()] = text.strip()
    return Layer("--set", values)


def _problem(details: Any, origin: dict[str, Layer]) -> str:
    """Return what is wrong with one value, and where it stands."""
    path = [str(part) for part in details["loc"]]
    names = list(ClusterSettings.model_fields)
    key = next((name for end in (3, 2, 1) if (name := ".".join(path[:end])) in origin), "")
    place = f"{origin[key].place(key)}: " if key else ""
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        name = path[0]
        near = nearest_key(name, names)
        advice = f"the nearest is {near}" if near else f"there are {', '.join(names)}"
        place = place or next((f"{layer.place(one)}: " for one, layer in origin.items() if one.startswith(name)), "")
        return f"{place}{name} is not a setting of a cluster; {advice}."
    if not path:
        return f"{_place_of(message, origin)}{message}."
    value = details["input"]
    return (
        f"{place}{key or path[0]}: {message[0].lower()}{message[1:].partition(', unable to parse')[0]} (got {value!r})."
    )


def _place_of(message: str, origin: dict[str, Layer]) -> str:
    """Return where the key stands with which the sentence of a rule begins."""
    key = message.split()[0]
    return f"{origin[key].place(key)}: " if key in origin else ""
