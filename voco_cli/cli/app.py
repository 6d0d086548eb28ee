"""The front door: the Typer app, and how an error becomes a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from voco_cli import __version__
from voco_cli.cli import cache, config
from voco_cli.cli.index import index
from voco_cli.cli.output import print_error
from voco_cli.cli.pretrain import pretrain
from voco_cli.cli.preview_labels import preview_labels
from voco_cli.errors import VocoError

app = typer.Typer(
    name="voco",
    help="Volume-contrastive pre-training of 3-D medical image encoders: from a folder of scans to an encoder, "
    "and proof of what it learned.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(config.app, name="config")
app.add_typer(cache.app, name="cache")
app.command("index")(index)
app.command("preview-labels")(preview_labels)
app.command("pretrain")(pretrain)


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
    """Run the command line; print a user's error as one sentence and leave with its exit code."""
    try:
        app()
    except VocoError as error:
        if os.environ.get("VOCO_DEBUG"):
            raise
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error(VocoError("Interrupted; nothing half-written was left behind."))
        sys.exit(130)
