"""`voco plan`: what a run will need here, before it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.interrupts import Stopped, Terminated
from voco_cli.cli.option_groups import FinetuneOptions, PretrainOptions, group_with_default, with_option_group
from voco_cli.cli.options import (
    DeviceOption,
    FinetunedArgument,
    FlipsOption,
    InputsArgument,
    JsonOption,
    OverlapOption,
    SetOption,
    given_words,
    settings_words,
    spoken_recipe,
)
from voco_cli.document.terminal import done, note, print_blocks, print_json, print_line, shell_words
from voco_cli.errors import Interrupted, VocoError

if TYPE_CHECKING:
    from voco_cli.document.blocks import Block
    from voco_cli.resources.amounts import Amount, Need, Plan


app = typer.Typer(
    cls=group_with_default("pretrain"),
    help="Say what a run will need here, before it runs.\n\nDisk, memory, GPU memory and time against what is free: "
    "estimated from headers, a few scans that are preprocessed and one crop through the network; --dry-run on the run "
    "itself measures. The options are those of the run; `voco plan data.json` plans a pre-training. Where something "
    "does not fit, it says what to change, and the exit code is 1.",
    no_args_is_help=True,
)

SecondsOption = Annotated[
    float, typer.Option("--seconds", metavar="N", min=1, help="About how long scans may be tried.")
]


@app.command("pretrain")
@with_option_group
def plan_pretrain(options: PretrainOptions, seconds: SecondsOption = 20.0, as_json: JsonOption = False) -> None:
    """Plan a pre-training; the word pretrain may be left out."""
    resolved = options.resolve()

    from voco_cli.cli.progress import PretrainProgress
    from voco_cli.config.stages import stages_apart
    from voco_cli.resources.amounts import in_stages
    from voco_cli.resources.plan import plan_pretraining
    from voco_cli.workflows.pretrain_checks import before_pretraining

    plans = []
    for stage in stages_apart(resolved):
        if stage.settings.data.file is not None:
            stage, _ = before_pretraining(stage, PretrainProgress())
        plans.append(plan_pretraining(stage.settings, seconds, note))
    plan = in_stages(plans)
    spoken = replace(options, recipe=options.recipe or spoken_recipe(resolved))
    show_plan(plan, as_json, shell_words("voco", "pretrain", *spoken.words()))


@app.command("finetune")
@with_option_group
def plan_finetune(options: FinetuneOptions, seconds: SecondsOption = 20.0, as_json: JsonOption = False) -> None:
    """Plan a fine-tuning, its last prediction and measurement included."""
    resolved = options.load()

    from voco_cli.cli.progress import FinetuneProgress
    from voco_cli.resources.plan import plan_finetuning
    from voco_cli.workflows.finetune_checks import before_finetuning

    resolved, _ = before_finetuning(resolved, FinetuneProgress())
    plan = plan_finetuning(resolved.settings, seconds, note)
    show_plan(plan, as_json, shell_words("voco", "finetune", *options.words()))


@app.command("predict")
def plan_predict(
    run: FinetunedArgument,
    inputs: InputsArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the predictions; nothing is written.")
    ] = Path("predictions"),
    flips: FlipsOption = None,
    overlap: OverlapOption = None,
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
        print_blocks(plan_blocks(plan))
    if not plan.fits:
        short = [need for need in plan.needs if not need.fits]
        what = [f"{_name(need)} needs {_needed(need)}, {size(need.free_bytes)} free" for need in short]
        raise VocoError(f"This does not fit here: {'; '.join(what)}.", plan.advice[0] if plan.advice else None)
    if not as_json:
        print_line("It fits.", "bold green")
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


def plan_blocks(plan: Plan) -> list[Block]:
    """Return a plan as blocks: what it needs against what is free, its time, notes, and what to change."""
    from voco_cli.document.blocks import Bullets, Column, Heading, Table

    needs: list[tuple[str, ...]] = []
    for need in plan.needs:
        fits = "yes" if need.fits else "no"
        needs.append((_name(need), _needed(need), size(need.free_bytes), fits, need.total.known))
        if len(need.parts) > 1:
            needs += [(f"  {part.name}", bytes_words(part.amount), "", "", part.amount.known) for part in need.parts]
    headings = [*map(Column, (plan.subject, "needed", "free", "fits", ""))]
    short = [n for n, row in enumerate(needs) if row[3] == "no"]
    blocks: list[Block] = [Table.of("", headings, needs, marked=short)]
    if plan.time_s is not None:
        times = [(part.name, seconds_words(part.amount), part.amount.known) for part in plan.times]
        times.append(("all of it", seconds_words(plan.time_s), plan.time_s.known))
        blocks.append(Table.of("", [*map(Column, ("time", "", ""))], times, marked=[len(times) - 1]))
    blocks.append(Bullets(tuple(f"note: {text}" for text in plan.notes)))
    if plan.advice:
        blocks += [Heading("What to change:", 3), Bullets(tuple(f"  {text}" for text in plan.advice))]
    return blocks


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
