"""`voco plan`: what a run will need here, before it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from voco_cli.cli.interrupts import Stopped, Terminated
from voco_cli.cli.options import (
    CasesOption,
    ConfigOption,
    DataOption,
    DeviceOption,
    FractionOption,
    FreezeEncoderOption,
    JsonOption,
    MinLoadedOption,
    RecipeOption,
    SetOption,
    SplitOption,
    StepsOption,
    TaskOption,
    TrustPickleOption,
    WeightsOption,
    data_flags,
    given_words,
    require_agreement,
    settings_words,
    spoken_recipe,
)
from voco_cli.document.terminal import done, note, out, print_json, shell_words
from voco_cli.errors import Interrupted, VocoError

if TYPE_CHECKING:
    from voco_cli.resources.amounts import Amount, Need, Plan


DEFAULT = "pretrain"


class _PretrainByDefault(TyperGroup):
    """A group in which `voco plan data.json` is `voco plan pretrain data.json`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PretrainByDefault,
    help="Say what a run will need here, before it runs.\n\nDisk, memory, GPU memory and time against what is free: "
    "estimated from headers, a few scans that are preprocessed and one crop through the network; --dry-run on the run "
    "itself measures. The options are those of the run; `voco plan data.json` plans a pre-training. Where something "
    "does not fit, it says what to change, and the exit code is 1.",
    no_args_is_help=True,
)

SecondsOption = Annotated[
    float, typer.Option("--seconds", metavar="N", min=1, help="About how long scans may be tried.")
]
RunDirOption = Annotated[
    Path | None, typer.Option("--run-dir", "-o", help="Run folder of the run; nothing is written there.")
]


@app.command("pretrain")
def plan_pretrain(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="data.json as `voco index` writes it.")] = None,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    override: SetOption = None,
    run_dir: RunDirOption = None,
    steps: StepsOption = None,
    weights: WeightsOption = None,
    trust_pickle: TrustPickleOption = False,
    device: DeviceOption = None,
    seconds: SecondsOption = 20.0,
    as_json: JsonOption = False,
) -> None:
    """Plan a pre-training; the word pretrain may be left out."""
    from voco_cli.config import load_settings

    flags = {"data.file": data, "run.dir": run_dir, "train.steps": steps, "model.weights": weights}
    flags |= {"model.trust_pickle": trust_pickle or None, "run.device": device}
    require_agreement({**flags, "recipe": recipe}, override or ())
    resolved = load_settings(recipe, config, override or (), flags)

    from voco_cli.cli.progress import PretrainProgress
    from voco_cli.resources.plan import plan_pretraining
    from voco_cli.workflows.pretrain_checks import before_pretraining

    if resolved.settings.data.file is not None:
        resolved, _ = before_pretraining(resolved, PretrainProgress())
    plan = plan_pretraining(resolved.settings, seconds, note)
    words = [
        *settings_words(recipe or spoken_recipe(resolved), config, override),
        *given_words({"-o": run_dir, "--steps": steps, "--weights": weights, "--device": device}),
        *(["--trust-pickle"] if trust_pickle else []),
    ]
    show_plan(plan, as_json, shell_words("voco", "pretrain", *([data] if data else []), *words))


@app.command("finetune")
def plan_finetune(
    task: TaskOption,
    data: DataOption = None,
    weights: WeightsOption = None,
    run_dir: RunDirOption = None,
    config: ConfigOption = None,
    override: SetOption = None,
    steps: StepsOption = None,
    cases: CasesOption = None,
    fraction: FractionOption = None,
    split: SplitOption = None,
    freeze_encoder: FreezeEncoderOption = False,
    min_loaded: MinLoadedOption = None,
    trust_pickle: TrustPickleOption = False,
    device: DeviceOption = None,
    seconds: SecondsOption = 20.0,
    as_json: JsonOption = False,
) -> None:
    """Plan a fine-tuning, its last prediction and measurement included."""
    from voco_cli.config import load_settings

    place, list_off = data_flags(data)
    flags: dict[str, Any] = {
        **place,
        "model.weights": weights,
        "run.dir": run_dir,
        "train.steps": steps,
        "task.cases": cases,
        "task.fraction": fraction,
        "task.split": split,
        "task.freeze_encoder": freeze_encoder or None,
        "model.min_loaded": min_loaded,
        "model.trust_pickle": trust_pickle or None,
        "run.device": device,
    }
    require_agreement({**flags, "task.preset": task}, override or ())
    resolved = load_settings(None, config, [*list_off, *(override or ())], flags, task=task)

    from voco_cli.cli.progress import FinetuneProgress
    from voco_cli.resources.plan import plan_finetuning
    from voco_cli.workflows.finetune_checks import before_finetuning

    resolved, _ = before_finetuning(resolved, FinetuneProgress())
    plan = plan_finetuning(resolved.settings, seconds, note)
    given: dict[str, Any] = {"--data": data, "--weights": weights, "-o": run_dir, "--steps": steps, "--cases": cases}
    given |= {"--fraction": fraction, "--split": split, "--min-loaded": min_loaded, "--device": device}
    switches = {"--freeze-encoder": freeze_encoder, "--trust-pickle": trust_pickle}
    words = [
        *settings_words(None, config, override),
        *given_words(given),
        *(name for name, on in switches.items() if on),
    ]
    show_plan(plan, as_json, shell_words("voco", "finetune", "--task", task, *words))


@app.command("predict")
def plan_predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of voco finetune.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Scans: NIfTI, NRRD, MetaImage, DICOM series, folders, data.json."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the predictions; nothing is written.")
    ] = Path("predictions"),
    flips: Annotated[
        bool | None,
        typer.Option("--flips", help="Average over the eight flips of each window, which takes eight times as long."),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of a window that the next one covers (by default the run's)."),
    ] = None,
    override: SetOption = None,
    device: DeviceOption = None,
    seconds: SecondsOption = 20.0,
    as_json: JsonOption = False,
) -> None:
    """Plan the prediction of scans with a fine-tuned network."""
    from voco_cli.resources.plan_predict import plan_prediction

    asked = {"flips": flips, "overlap": overlap}
    plan = plan_prediction(run, inputs, output, seconds, note, device=device, overrides=override or (), predict=asked)
    words = [
        *settings_words(None, None, override),
        *given_words({"--overlap": overlap, "--device": device}),
        *(["--flips"] if flips else []),
    ]
    show_plan(plan, as_json, shell_words("voco", "predict", run, *inputs, "-o", output, *words))


NARROW = 0.02
"""A spread below this share of the amount is not shown."""


def show_plan(plan: Plan, as_json: bool, then: str) -> None:
    """Print a plan and what to run next.

    Raises:
        VocoError: it does not fit; with what is short, and what to change first.
    """
    if as_json:
        print_json(plan.to_json())
    else:
        _print_plan(plan)
    if not plan.fits:
        short = [need for need in plan.needs if not need.fits]
        what = [f"{_name(need)} needs {_needed(need)}, {size(need.free_bytes)} free" for need in short]
        raise VocoError(f"This does not fit here: {'; '.join(what)}.", plan.advice[0] if plan.advice else None)
    if not as_json:
        out.print("It fits.", style="bold green")
        done([], then)


def show_dry_run(measure: Callable[[], Plan], as_json: bool) -> None:
    """Run a few steps, or one case, and print what the whole will take; nothing goes on after a signal.

    Raises:
        Stopped: by a signal, with nothing left behind.
        VocoError: it does not fit.
    """
    try:
        plan = measure()
    except KeyboardInterrupt as interrupt:
        raise Stopped(interrupt) from interrupt
    except Interrupted as stopped:  # the loop has heard the signal itself
        by_keyboard = "SIGINT" in stopped.message
        raise Stopped(KeyboardInterrupt() if by_keyboard else Terminated()) from stopped
    show_plan(plan, as_json, shell_words("voco", *(word for word in sys.argv[1:] if word != "--dry-run")))


def _print_plan(plan: Plan) -> None:
    table = Table(plan.subject, "needed", "free", "fits", "", box=None, header_style="bold", pad_edge=False)
    for need in plan.needs:
        fits = "yes" if need.fits else "[bold red]no[/bold red]"
        table.add_row(escape(_name(need)), _needed(need), size(need.free_bytes), fits, need.total.known)
        if len(need.parts) > 1:
            for part in need.parts:
                table.add_row(f"  {part.name}", bytes_words(part.amount), "", "", part.amount.known)
    out.print(table)
    out.print()
    _print_time(plan)
    for said in plan.notes:
        out.print(f"note: {said}", markup=False, highlight=False, soft_wrap=True)
    if plan.advice:
        out.print("What to change:", style="bold")
        for advice in plan.advice:
            out.print(f"  {advice}", markup=False, highlight=False, soft_wrap=True)


def _print_time(plan: Plan) -> None:
    time_s = plan.time_s
    if time_s is None:
        return
    table = Table("time", "", "", box=None, header_style="bold", pad_edge=False)
    for part in plan.times:
        table.add_row(part.name, seconds_words(part.amount), part.amount.known)
    table.add_row("all of it", seconds_words(time_s), time_s.known, style="bold")
    out.print(table)


def _name(need: Need) -> str:
    if need.kind == "memory":
        return f"memory, {need.where}"
    return f"{need.kind} of {need.where}"


def _needed(need: Need) -> str:
    words = size(need.needed_bytes)
    wide = need.high_bytes > need.needed_bytes * (1 + NARROW)
    return f"{words}, up to {size(need.high_bytes)}" if wide else words


def bytes_words(amount: Amount) -> str:
    """Return bytes with their spread, for people."""
    return _with_spread(amount, size)


def seconds_words(amount: Amount) -> str:
    """Return seconds with their spread, for people."""
    return _with_spread(amount, duration)


def _with_spread(amount: Amount, words: Callable[[float], str]) -> str:
    middle, low, high = (words(value) for value in (amount.value, amount.low, amount.high))
    narrow = amount.high - amount.low <= NARROW * amount.value
    return middle if narrow or low == high else f"{middle} ({low} to {high})"


def size(value: float) -> str:
    """Return bytes for people."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}" if value < 1000 * factor else f"{value / factor:.0f} {unit}"
    return f"{value / 1e3:.0f} kB"


def duration(seconds: float) -> str:
    """Return seconds for people."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 3597:  # above, the minutes would read 60.0
        return f"{seconds / 60:.1f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes:02d} min"
