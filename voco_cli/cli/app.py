"""The command line: all commands in the order of work, the options of every command, and the way a call ends."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption

from voco_cli import __version__
from voco_cli.cli import cache, collections, config, plan, synthesize, tasks, weights
from voco_cli.cli.compare import compare
from voco_cli.cli.demo import demo
from voco_cli.cli.doctor import doctor
from voco_cli.cli.embed import embed
from voco_cli.cli.evaluate import evaluate
from voco_cli.cli.exit import VisibleFormatter, open_streams, run_to_the_end
from voco_cli.cli.finetune import finetune
from voco_cli.cli.index import index
from voco_cli.cli.interrupts import Stopped
from voco_cli.cli.jobs import jobs
from voco_cli.cli.locate import locate
from voco_cli.cli.merge import merge
from voco_cli.cli.options import SETTING, setting_help
from voco_cli.cli.predict import predict
from voco_cli.cli.pretrain import pretrain
from voco_cli.cli.preview_labels import preview_labels
from voco_cli.cli.probe import probe
from voco_cli.cli.report import report
from voco_cli.cli.study import study
from voco_cli.cli.submit import submit
from voco_cli.document.terminal import be_quiet, is_quiet

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "voco demo",
        "voco index scans/ -o data.json",
        "voco preview-labels scans/one.nii.gz",
        "voco pretrain data.json",
        "voco finetune --task btcv --data /data/BTCV --weights runs/pretrain",
    ),
    "index": (
        "voco index scans/ -o data.json",
        "voco index scans/ --check full --patient-pattern '/(P[0-9]+)_'",
        "voco index scans/ --label-pattern '../masks/{stem}_mask.nii.gz'",
        "voco index scans/ -o data.json --shard 2/4",
        "voco index /data --collection voco_10k -o data.json",
    ),
    "collections": ("voco collections list",),
    "collections list": ("voco collections list",),
    "collections show": (
        "voco collections show voco_10k",
        "voco collections show my_scans.yaml",
    ),
    "collections check": (
        "voco collections check voco_10k /data",
        "voco collections check btcv /data --json",
    ),
    "preview-labels": (
        "voco preview-labels scans/one.nii.gz",
        "voco preview-labels scans/one.nii.gz --grid 3x3 --crops 6 -o grid.pdf",
    ),
    "cache": ("voco cache build data.json",),
    "cache build": (
        "voco cache build data.json --dry-run",
        "voco cache build data.json --recipe tpami --dir /fast/cache",
    ),
    "cache verify": (
        "voco cache verify data.json",
        "voco cache verify data.json --repair",
    ),
    "cache stats": ("voco cache stats data.json",),
    "cache prune": (
        "voco cache prune data.json",
        "voco cache prune data.json --yes",
    ),
    "merge": ("voco merge data.json",),
    "pretrain": (
        "voco pretrain data.json --recipe debug",
        "voco pretrain data.json --run-dir runs/first --set train.batch_size=4",
        "voco pretrain data.json --dry-run",
    ),
    "locate": (
        "voco locate runs/pretrain scans/one.nii.gz",
        "voco locate runs/pretrain scans/one.nii.gz --against scans/two.nii.gz",
    ),
    "embed": (
        "voco embed runs/pretrain scans/ -o embeddings.npz",
        "voco embed runs/pretrain data.json -o embeddings.parquet --crops 32",
    ),
    "plan": ("voco plan data.json --recipe tpami",),
    "plan pretrain": (
        "voco plan data.json --recipe tpami",
        "voco plan data.json --set train.batch_size=8 --seconds 30",
    ),
    "plan finetune": ("voco plan finetune --task btcv --data /data/BTCV --weights runs/pretrain",),
    "plan predict": ("voco plan predict runs/finetune new_scans/ -o predictions",),
    "doctor": (
        "voco doctor",
        "voco doctor --data data.json",
    ),
    "tasks": ("voco tasks list",),
    "tasks list": ("voco tasks list",),
    "tasks show": ("voco tasks show btcv",),
    "tasks check": (
        "voco tasks check /data/BTCV --task btcv",
        "voco tasks check --task my_task.yaml --labels",
    ),
    "tasks new": (
        "voco tasks new data.json -o my_task.yaml",
        "voco tasks new categories.csv --images scans/",
    ),
    "tasks preview": (
        "voco tasks preview scan.nii.gz label.nii.gz --classes liver=1,spleen=2",
        "voco tasks preview data.json --case case_7 --require-fit",
    ),
    "finetune": (
        "voco finetune --task btcv --data /data/BTCV --weights runs/pretrain",
        "voco finetune --task my_task.yaml --cases 10 -o runs/scratch",
    ),
    "predict": (
        "voco predict runs/finetune new_scans/ -o predictions",
        "voco predict runs/finetune data.json -o predictions --flips",
    ),
    "evaluate": (
        "voco evaluate runs/finetune",
        "voco evaluate --predictions predictions/ --labels labels/ --tolerance-mm 1",
        "voco evaluate runs/finetune --by-size 5,10,20",
    ),
    "compare": (
        "voco compare runs/scratch runs/finetune",
        "voco compare evaluation_a evaluation_b --metric nsd -o a_or_b",
    ),
    "study": (
        "voco study --task my_task.yaml --weights runs/pretrain --cases 5,10",
        "voco study --task my_task.yaml --objective none+,voco,mae --minutes 30",
    ),
    "synthesize": ("voco synthesize ct.nii.gz organs.nii.gz -o out --organ liver",),
    "synthesize paint": (
        "voco synthesize ct.nii.gz organs.nii.gz -o out --organ liver --size 5:20",
        "voco synthesize ct.nii.gz organs.nii.gz -o out --organ liver --copies 20",
    ),
    "synthesize kit": ("voco synthesize kit painted --real data.json --lesion tumour -o readers",),
    "synthesize read": ("voco synthesize read readers answers_a.csv answers_b.csv",),
    "probe": ("voco probe runs/pretrain --task my_task.yaml",),
    "report": (
        "voco report runs/pretrain",
        "voco report runs/scratch runs/finetune runs/study -o all.html",
    ),
    "demo": (
        "voco demo",
        "voco demo --out try",
    ),
    "submit": (
        "voco submit pretrain data.json --recipe tpami",
        "voco submit --dry-run --set nodes=4 pretrain data.json",
        "voco submit --shards 64 cache build data.json",
    ),
    "jobs": ("voco jobs",),
    "config": ("voco config show --recipe tpami",),
    "config show": (
        "voco config show --recipe tpami",
        "voco config show --config voco.yaml --set train.steps=1000",
    ),
    "config schema": ("voco config schema",),
    "config init": (
        "voco config init -o voco.yaml --recipe debug",
        "voco config init -o btcv.yaml --task btcv",
    ),
    "weights": ("voco weights inspect runs/pretrain",),
    "weights inspect": ("voco weights inspect runs/pretrain",),
    "weights export": ("voco weights export runs/pretrain -o encoder.pt --format monai",),
}


PANELS: dict[str, dict[str, Any]] = {
    "First look": {"demo": demo},
    "Data": {
        "index": index,
        "collections": collections.app,
        "preview-labels": preview_labels,
        "cache": cache.app,
        "synthesize": synthesize.app,
    },
    "Pre-training": {"plan": plan.app, "pretrain": pretrain, "locate": locate, "embed": embed, "probe": probe},
    "Downstream": {
        "tasks": tasks.app,
        "finetune": finetune,
        "predict": predict,
        "evaluate": evaluate,
        "compare": compare,
        "study": study,
        "report": report,
    },
    "Cluster": {"submit": submit, "jobs": jobs, "merge": merge},
    "Machine and settings": {"doctor": doctor, "config": config.app, "weights": weights.app},
}
"""Commands in the order of work: functions, and groups of commands."""
ORDER = [name for names in PANELS.values() for name in names]
EVERYWHERE = "Anywhere in any command"
OF_SUBMIT = {"allow_interspersed_args": False}
"""What follows the command that is sent belongs to it."""
NUMBER = "N"
"""What help calls a number that has limits."""

EXIT_CODES = {
    0: "done",
    1: "a finding, such as missing scans",
    2: "wrong usage or input",
    3: "data damaged or missing",
    4: "out of disk or memory",
    75: "interrupted, and the same command goes on",
    130: "interrupted; 143 by SIGTERM",
}


class SettingOption(TyperOption):
    """An option whose help is the description of a setting, read when it is shown: most calls show no help."""

    help: str = property(lambda self: setting_help(self.__dict__["help"]))  # type: ignore[assignment]


class Commands(TyperGroup):
    """The commands in the order of work, each with its examples and the options that may stand anywhere."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: self.commands[name] for name in ORDER}  # Typer puts groups behind commands
        shared = [option for option in self.params if getattr(option, "rich_help_panel", "") == EVERYWHERE]
        for path, command in _below(self):
            command.params += shared
            for parameter in _with_short_types(command.get_params(typer.Context(command))):
                if (getattr(parameter, "help", None) or "").startswith(SETTING):
                    parameter.__class__ = SettingOption
            paragraphs = (command.help or "").split("\n\n")
            command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
            command.epilog = _examples(path) or command.epilog
        codes = "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
        self.epilog = f"{_examples('')}\n\nExit codes: {codes}."

    def get_params(self, ctx: Any) -> Any:
        """Return those of the whole program; Typer adds two of its own after the group is made."""
        return _with_short_types(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Typer ends on Ctrl-C without a word, and we have a sentence for it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise Stopped(interrupt) from interrupt


def _examples(path: str) -> str:
    lines = EXAMPLES.get(path, ())
    return "\n".join(["Example:" if len(lines) == 1 else "Examples:", *lines]) if lines else ""


def _with_short_types(parameters: Any) -> Any:
    """Drop Typer's <bool> of flags, which take no value, and its <int range> [x>=1], which leaves the help no room."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.metavar is None and (getattr(parameter, "min", None), getattr(parameter, "max", None)) != (
            None,
            None,
        ):
            parameter.metavar = NUMBER
    return parameters


def _below(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all commands under a group, each with its full name."""
    for name, command in group.commands.items():
        yield f"{path}{name}", command
        if hasattr(command, "commands"):
            yield from _below(command, f"{path}{name} ")


app = typer.Typer(
    name="voco",
    cls=Commands,
    help="Volume-contrastive pre-training of 3-D medical image encoders: from a folder of scans to an encoder, "
    "and proof of what it learned.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for _panel, _commands in PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            context = OF_SUBMIT if _command is submit else None
            app.command(_name, rich_help_panel=_panel, context_settings=context)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voco {__version__}")
        raise typer.Exit


def _quiet(context: typer.Context, wanted: bool) -> None:
    """Silence the command where any part of the line asks for it; each call begins as talkative as any."""
    be_quiet(wanted or (context.parent is not None and is_quiet()))


def _debug(wanted: bool) -> None:
    if wanted:
        os.environ["VOCO_DEBUG"] = "1"
        to_terminal = logging.StreamHandler()
        to_terminal.setFormatter(VisibleFormatter("%(asctime)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[to_terminal])
        if sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            *("--quiet", "-q"),
            callback=_quiet,
            expose_value=False,
            is_eager=True,
            rich_help_panel=EVERYWHERE,
            help="No progress, no notes, no next step; results, warnings and errors stay.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            callback=_debug,
            expose_value=False,
            is_eager=True,
            rich_help_panel=EVERYWHERE,
            help="Show the traceback of an error, and what the libraries log; also VOCO_DEBUG=1.",
        ),
    ] = False,
) -> None:
    """Take the options of the program; those that may stand anywhere are given to every command, too."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    # Read once, when the tensor library loads. Threads that wait by spinning took two to five times the clock of a
    # training step where the cores were shared with other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    open_streams()
    sys.exit(run_to_the_end(lambda: app(prog_name="voco", standalone_mode=False)))
