"""The front door: the commands, and how they end."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from voco_cli import __version__
from voco_cli.cli import cache, config, plan, tasks, weights
from voco_cli.cli.bench import bench
from voco_cli.cli.compare import compare
from voco_cli.cli.demo import demo
from voco_cli.cli.doctor import doctor
from voco_cli.cli.embed import embed
from voco_cli.cli.evaluate import evaluate
from voco_cli.cli.faults import tell
from voco_cli.cli.finetune import finetune
from voco_cli.cli.front import Commands
from voco_cli.cli.index import index
from voco_cli.cli.locate import locate
from voco_cli.cli.predict import predict
from voco_cli.cli.pretrain import pretrain
from voco_cli.cli.preview_case import preview_case
from voco_cli.cli.preview_labels import preview_labels
from voco_cli.cli.report import report
from voco_cli.cli.streams import SIGPIPE_CODE, flushed, open_streams, reader_has_gone
from voco_cli.cli.study import study

app = typer.Typer(
    name="voco",
    cls=Commands,
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
app.add_typer(plan.app, name="plan")
app.command("index")(index)
app.command("preview-labels")(preview_labels)
app.command("preview-case")(preview_case)
app.command("pretrain")(pretrain)
app.command("locate")(locate)
app.command("embed")(embed)
app.command("finetune")(finetune)
app.command("predict")(predict)
app.command("evaluate")(evaluate)
app.command("compare")(compare)
app.command("study")(study)
app.command("report")(report)
app.command("demo")(demo)
app.command("doctor")(doctor)
app.command("bench")(bench)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voco {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What the command says of itself as a whole."""


def main() -> None:
    """Run the command line; tell any error as one sentence and leave with its exit code."""
    # Read once, when the tensor library loads. Threads that wait by spinning took two to five times the clock of a
    # training step where the cores were shared with other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    open_streams()
    try:
        code = app(prog_name="voco", standalone_mode=False)
    except SystemExit as leaving:
        code = SIGPIPE_CODE if reader_has_gone(leaving) else leaving.code
    except BrokenPipeError:
        code = SIGPIPE_CODE
    except (Exception, KeyboardInterrupt) as error:
        code = tell(error)
    sys.exit(flushed(code))
