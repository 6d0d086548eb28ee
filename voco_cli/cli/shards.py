"""Options of commands that work scan by scan on several machines: `--scheduler` of a cluster, `--shard` of an array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voco_cli.cli.interrupts import going_on
from voco_cli.document.terminal import done, print_json, print_line, shell_words
from voco_cli.errors import UsageError

if TYPE_CHECKING:
    from voco_cli.data.parallel import Runner
    from voco_cli.data.shards import MergedOutcomes, ShardOutcomes

SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Work on a Dask cluster, such as tcp://host:8786, which sees the same files under the same paths.",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="Do a part of the scans alone, such as 2/4; `voco merge OUTPUT` joins all N."
    ),
]

ELSEWHERE = ("shard", "as_json", "quiet", "debug", "dry_run")
MACHINE = ("workers", "scheduler", "device")
"""Options that say where a command runs, and change nothing in what it writes."""


@dataclass(frozen=True)
class Spread:
    """Where the scans of a command are worked on, and which of them.

    Attributes:
        runner: what does the jobs.
        output: what the whole command writes.
        outcomes: of a shard, or of all when they are merged; none where the command does all at once.
    """

    runner: Runner
    output: Path
    outcomes: ShardOutcomes | MergedOutcomes | None

    @property
    def is_part(self) -> bool:
        """Return whether it is a shard, which writes its part alone."""
        return self.runner.is_part

    @property
    def is_merge(self) -> bool:
        """Return whether the outcomes are those of the shards."""
        return self.outcomes is not None and not self.is_part

    def finish(self) -> None:
        """Close the part of a shard, or remove all parts after the output was written."""
        if self.outcomes is not None:
            self.outcomes.finish()

    def finish_part(self, as_json: bool, what: str, count: int, failed: int = 0) -> None:
        """Close the part of a shard, and say what to do next.

        Args:
            what: the things that the shard has worked on, in a word.
            failed: of them; `voco merge` says it with the reasons.
        """
        from voco_cli.data.shards import ShardOutcomes

        assert isinstance(self.outcomes, ShardOutcomes)
        self.finish()
        shard, path = self.outcomes.part.shard, self.outcomes.path
        if as_json:
            print_json({"output": self.output, "shard": str(shard), "part": path, what: count, "failed": failed})
            return
        print_line(f"Shard {shard}: {count} {what}{f', {failed} failed' if failed else ''}.")
        done([path], f"{shell_words('voco', 'merge', self.output)}, when all {shard.count} are done")


@contextmanager
def spread_out(context: typer.Context, output: Path, scheduler: str | None, shard: str | None) -> Iterator[Spread]:
    """Open what the scans of a command are worked on with: this machine or a cluster, all of them or a shard.

    Args:
        context: of the command.
        output: what the whole command writes.
        scheduler, shard: as they were given.
    Raises:
        UsageError, ResourceError: no such shard, or a cluster that does not answer.
        Interrupted: a shard was stopped; what it has done is kept.
    """
    from voco_cli.data.parallel import Runner
    from voco_cli.data.shards import Shard, ShardOutcomes, ShardPart, part_file
    from voco_cli.workflows.shards import MERGING

    with ExitStack() as stack:
        outcomes: ShardOutcomes | MergedOutcomes | None = MERGING.get()
        if shard is not None:
            if context.params.get("dry_run"):
                raise UsageError("--dry-run and --shard exclude each other.", "leave one of them out")
            one = Shard.parse(shard)
            command = context.command_path.split()[1:] + given(context, (*ELSEWHERE, *MACHINE))
            part = ShardPart(one, tuple(command), tuple(given(context, _others(context))), str(Path.cwd()))
            outcomes = ShardOutcomes(part_file(output, one), part)
            stack.enter_context(going_on())
        cluster = None
        if scheduler is not None:
            from voco_cli.data.dask_cluster import DaskCluster

            cluster = stack.enter_context(DaskCluster(scheduler))
        try:
            yield Spread(Runner(cluster, outcomes), output, outcomes)
        finally:
            if outcomes is not None:
                outcomes.close()


def _others(context: typer.Context) -> list[str]:
    return [name for name in context.params if name not in MACHINE]


def given(context: typer.Context, leaving_out: Sequence[str] = ()) -> list[str]:
    """Return the words of a command line, as its parser understood them: options in their order, then arguments.

    Args:
        leaving_out: parameters by name.
    """
    options: list[str] = []
    arguments: list[str] = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in leaving_out or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params.get(parameter.name or "")
        if parameter.param_type_name == "argument":
            arguments += _texts(value)
        elif getattr(parameter, "is_flag", False):
            options += [(parameter.opts if value else parameter.secondary_opts)[0]]
        else:
            options += [word for text in _texts(value) for word in (parameter.opts[0], text)]
    separator = ["--"] if any(word.startswith("-") for word in arguments) else []
    return [*options, *separator, *arguments]


def _texts(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list | tuple) else [value])]
