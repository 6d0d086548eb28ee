"""The front door: the Typer app, and how an error becomes a sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from voco_cli import __version__
from voco_cli.cli import cache, config, tasks, weights
from voco_cli.cli.compare import compare
from voco_cli.cli.evaluate import evaluate
from voco_cli.cli.finetune import finetune
from voco_cli.cli.index import index
from voco_cli.cli.output import print_error
from voco_cli.cli.predict import predict
from voco_cli.cli.pretrain import pretrain
from voco_cli.cli.preview_labels import preview_labels
from voco_cli.cli.study import study
from voco_cli.errors import DataError, ResourceError, VocoError

SIGPIPE_CODE = 128 + 13


class _Stopped(VocoError):
    """Ctrl-C where nothing has a checkpoint to write."""

    exit_code = 130


class _Commands(TyperGroup):
    """Typer ends on Ctrl-C without a word; we have a sentence for it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise _Stopped("Interrupted; nothing half-written was left behind.") from interrupt


app = typer.Typer(
    name="voco",
    cls=_Commands,
    help="Volume-contrastive pre-training of 3-D medical image encoders: from a folder of scans to an encoder, "
    "and proof of what it learned.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(config.app, name="config")
app.add_typer(cache.app, name="cache")
app.add_typer(weights.app, name="weights")
app.add_typer(tasks.app, name="tasks")
app.command("index")(index)
app.command("preview-labels")(preview_labels)
app.command("pretrain")(pretrain)
app.command("finetune")(finetune)
app.command("predict")(predict)
app.command("evaluate")(evaluate)
app.command("compare")(compare)
app.command("study")(study)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voco {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["VOCO_DEBUG"] = "1"


def main() -> None:
    """Run the command line; tell any error as one sentence and leave with its exit code."""
    # Read once, when the tensor library loads. Threads that wait by spinning took two to five times the clock of a
    # training step where the cores were shared with other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
        code: int | str | None = 0
    except SystemExit as leaving:
        code = SIGPIPE_CODE if isinstance(leaving.__context__, BrokenPipeError) else leaving.code
    except BrokenPipeError:
        code = SIGPIPE_CODE
    except Exception as error:
        code = _tell(error)
    sys.exit(_flushed(code))


def _tell(error: Exception) -> int:
    """Print what went wrong; returns the exit code."""
    if os.environ.get("VOCO_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    told = error if isinstance(error, VocoError) else _unforeseen(error)
    if os.environ.get("RANK", "0") == "0" or told is not error:
        print_error(told)
    elif alone := [note for note in getattr(error, "__notes__", ()) if note.startswith("on process")]:
        # Where torchrun starts several processes, all end with the same sentence, unless a note says otherwise.
        print_error(VocoError(f"{alone[0]}: {told.message}", told.hint))
    return told.exit_code


def _unforeseen(error: Exception) -> VocoError:
    """What no line of ours has foreseen: the system's refusals, and faults of our own."""
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        kind = ResourceError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM) else DataError
        return kind(f"{name}{error.strerror}.")
    return VocoError(
        f"The command failed unexpectedly ({type(error).__name__}: {error}).",
        "this is a fault of voco; `voco --debug ...` shows where it lies",
    )


def _flushed(code: int | str | None) -> int | str | None:
    """The exit code, once everything printed has reached its reader, or the reader has gone away."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = SIGPIPE_CODE
    if code == SIGPIPE_CODE:
        # What is still buffered goes nowhere, or the interpreter would complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
