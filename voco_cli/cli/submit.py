"""`voco submit`: any command as a job of SLURM."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voco_cli.cli.option_groups import FinetuneOptions, OptionGroup, PretrainOptions
from voco_cli.document.terminal import done, note, print_line, shell_words
from voco_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from voco_cli.cluster.script import Job
    from voco_cli.config.cluster_schema import ClusterSettings

OWN = ("submit", "jobs")
JOBS_FOLDER = Path("jobs")
DRY_RUN = "--dry-run"
TRAININGS: dict[str, type[OptionGroup]] = {"pretrain": PretrainOptions, "finetune": FinetuneOptions}

JobsFolderOption = Annotated[
    Path,
    typer.Option(
        "--folder", "-f", metavar="DIR", help="Scripts, logs and the list of what was sent; where all nodes see it."
    ),
]


@dataclass(frozen=True)
class Command:
    """A command that is to be sent.

    Attributes:
        words: as typed, without ``voco`` and --dry-run.
        run: the run folder of a training.
        takes_shards: whether it can be done in parts.
        dry_run: --dry-run stands among its words.
    """

    words: tuple[str, ...]
    run: Path | None
    takes_shards: bool
    dry_run: bool


def submit(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="COMMAND ...", help="A command with all its options, as after voco.")
    ],
    cluster_file: Annotated[
        Path | None,
        typer.Option(
            "--cluster", metavar="FILE", help="Partition, account, time, ... (by default ~/.config/voco/cluster.yaml)."
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting of that file, such as time=12:00:00; repeatable."),
    ] = None,
    shards: Annotated[
        int, typer.Option("--shards", min=1, help="Parts of an array, for commands that take --shard.")
    ] = 8,
    folder: JobsFolderOption = JOBS_FOLDER,
    dry_run: Annotated[bool, typer.Option(DRY_RUN, help="Print the scripts that would be sent; send nothing.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Run it here and now, without SLURM.")] = False,
) -> None:
    """Send a command to SLURM; options of submit come first.

    pretrain and finetune are one job of as many processes as there are GPUs, asked to stop before the limit of time
    and put back into the queue until they are done. Commands that take --shard are an array, with voco merge behind
    it, and before that of a study a job that prepares it. Everything else is one job of one process.
    """
    from voco_cli.cluster.script import plan_job
    from voco_cli.config.cluster_schema import load_cluster

    cluster = load_cluster(cluster_file, override or ())
    command = parse(words, context, cluster)
    jobs = [plan_job(command.words, cluster, shards if command.takes_shards else 0)]
    if jobs[0].shards:
        from voco_cli.workflows.shards import merge_target

        jobs.append(plan_job(("merge", str(merge_target(command.words))), cluster))
        if command.words[0] == "study":
            jobs.insert(0, plan_job((*command.words, "--prepare"), cluster))
    folder = _checked(folder)
    if dry_run or command.dry_run:
        _show(jobs, cluster, folder)
    elif local:
        _run_here(jobs, cluster, folder, command.run)
    else:
        _send(jobs, cluster, folder, command.run)


def parse(words: Sequence[str], context: Any, cluster: ClusterSettings) -> Command:
    """Check a command as if it were to be run here.

    Raises:
        UsageError: there is no such command, option or setting; or it is one that sends.
        DataError: something that it is to read is not there.
    """
    root = context.parent
    inner, rest = root, list(words)
    while hasattr(inner.command, "commands"):
        name, found, rest = inner.command.resolve_command(inner, rest)
        if hasattr(found, "commands") and not rest:
            raise UsageError(f"voco {name} is a group of commands.", f"choose one of {', '.join(found.commands)}")
        if hasattr(found, "commands"):
            inner = type(root)(found, info_name=name, parent=inner)
            continue
        if inner is root and name in OWN:
            raise UsageError(
                f"voco submit sends other commands, not {name}.", "for example voco submit pretrain data.json"
            )
        inner = found.make_context(name, list(rest), parent=inner)
    given = inner.params
    if cluster.container is None:  # what a container sees is not known here
        _require_inputs(inner)
    return Command(
        tuple(word for word in words if word != DRY_RUN),
        _run_folder(words[0], given),
        any("--shard" in parameter.opts for parameter in inner.command.params) and not given.get("prepare"),
        bool(given.get("dry_run")),
    )


def _require_inputs(command: Any) -> None:
    """Raise if a file or folder is missing that a command is to read: the arguments that have no option's name."""
    for parameter in command.command.params:
        value = command.params.get(parameter.name) if parameter.param_type_name == "argument" else None
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and ":/" not in str(path) and not path.exists():
                raise DataError(f"{path} does not exist.", "nothing was sent; paths are seen from the current folder")


def _run_folder(name: str, given: dict[str, Any]) -> Path | None:
    """Return the run folder of a training, and refuse its settings where they are wrong."""
    if name not in TRAININGS:
        return None
    group = TRAININGS[name]
    options = group(**{field.name: given[field.name] for field in fields(group)})
    resolved = options.load() if isinstance(options, FinetuneOptions) else options.resolve()
    return Path(resolved.settings.run.dir)


def _checked(folder: Path) -> Path:
    """Return the folder of scripts and logs, from the root.

    Raises:
        UsageError: SLURM could not write to one of that name.
    """
    folder = folder.absolute()
    if "%" in str(folder) or not str(folder).isprintable() or not str(Path.cwd()).isprintable():
        raise UsageError(f"{folder} has a character in its name that SLURM would not take as it is.", "choose another")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file.", "choose another folder with --folder")
    return folder


def _show(jobs: Sequence[Job], cluster: ClusterSettings, folder: Path) -> None:
    """Print the scripts; the number of a job before is known only once it is sent."""
    from voco_cli.cluster.script import script_text

    after = None
    for job in jobs:
        typer.echo(script_text(job, cluster, folder, Path.cwd(), after))
        after = "NUMBER_OF_THE_JOB_BEFORE"


def _send(jobs: Sequence[Job], cluster: ClusterSettings, folder: Path, run: Path | None) -> None:
    from voco_cli.cluster.record import remember
    from voco_cli.cluster.script import require_submitit, send

    require_submitit()
    if shutil.which("sbatch") is None:
        raise UsageError(
            "There is no sbatch on the path: this is no machine that jobs are sent from.",
            "log in where SLURM is; --dry-run prints the script, --local runs the command here",
        )
    folder.mkdir(parents=True, exist_ok=True)
    after = None
    for job in jobs:
        after = send(job, cluster, folder, Path.cwd(), after)
        remember(_submitted(after, job, run), folder)
        print_line(f"sent as job {after}: {shell_words('voco', *job.words)}")
    done([folder / f"{after}_submission.sh"], _jobs_command(folder))


def _run_here(jobs: Sequence[Job], cluster: ClusterSettings, folder: Path, run: Path | None) -> None:
    """Run what would be sent, one process after the other; several processes of a training at once."""
    from voco_cli.cluster.record import finished, next_local, remember
    from voco_cli.cluster.script import local_commands

    folder.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        number = next_local(folder)
        remember(_submitted(number, job, run), folder)
        for part, command in enumerate(local_commands(job, cluster), 1):
            name = f"{number}_{part}" if job.shards else number
            finished(name, folder, "running")
            note(f"running {shell_words(*command)}")
            code = _run(command)
            finished(name, folder, code)
            if code:
                raise typer.Exit(code)
    done([], _jobs_command(folder))


def _run(command: Sequence[str]) -> int:
    """Run a command to its end; being stopped is handed on to it, and waited for."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                code = process.wait()
                return code if code >= 0 else 128 - code
            except KeyboardInterrupt:
                process.send_signal(signal.SIGTERM)


def _submitted(number: str, job: Job, run: Path | None) -> Any:
    from voco_cli.cluster.record import Submitted

    sent = datetime.now().astimezone().isoformat(timespec="seconds")
    place = None if run is None else str(run)
    return Submitted(number, job.words, str(Path.cwd()), place, job.processes, job.shards, sent)


def _jobs_command(folder: Path) -> str:
    return shell_words("voco", "jobs", *([] if folder == JOBS_FOLDER.absolute() else [folder]))
