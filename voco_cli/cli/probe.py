"""`voco probe`: what frozen encoders know of a task, without fine-tuning."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.option_groups import TaskOptions, with_option_group
from voco_cli.cli.options import CasesOption, DeviceOption, JsonOption, SetOption, TrustPickleOption
from voco_cli.document.terminal import done, print_blocks, print_json, shell_words

if TYPE_CHECKING:
    from voco_cli.document.blocks import Block
    from voco_cli.workflows.probe import ProbeResult


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(TaskOptions):
    """The task that encoders are asked about."""

    cases: CasesOption = None
    override: SetOption = None
    trust_pickle: TrustPickleOption = False
    device: DeviceOption = None


@with_option_group
def probe(
    weights: Annotated[
        list[str],
        typer.Argument(metavar="RUN|FILE...", help="Weights: run folders, files, hf://OWNER/REPO/FILE."),
    ],
    options: ProbeOptions,
    as_json: JsonOption = False,
) -> None:
    """Tell what frozen encoders know of a task.

    Nothing is fine-tuned: a linear model on their features, voxel by voxel or scan by scan, the nearest neighbours, and
    whether the nearest region of another patient is the same one; each beside a fresh encoder, with intervals by
    patient.
    """
    resolved = options.load()

    from voco_cli.cli.progress import FinetuneProgress
    from voco_cli.workflows.probe import network_overrides, run_probe

    result = run_probe(resolved, weights, FinetuneProgress())
    if as_json:
        print_json(asdict(result))
        return
    print_blocks(probe_blocks(result))
    labelled = TaskOptions(task=options.task, data=options.data)
    sets = [word for one in network_overrides(resolved.settings, weights[0]) for word in ("--set", one)]
    done([], shell_words("voco", "finetune", *labelled.words(), "--weights", weights[0], *sets))


def probe_blocks(result: ProbeResult) -> list[Block]:
    """Return the figures of each encoder beside those of a fresh one, and how they were taken."""
    from voco_cli.document.blocks import Bullets, Table
    from voco_cli.evaluate.tables import figure, interval, with_interval
    from voco_cli.workflows.probe import FRESH

    rows = []
    for name in result.encoders[0].figures:
        for one in result.encoders:
            found = one.figures[name]
            difference = with_interval(*found.minus_fresh, sign=True) if found.minus_fresh else ""
            cells = [figure(found.value), interval(found.low, found.high), difference]
            chance = figure(result.chance[name]) if name in result.chance else ""
            rows.append([name, one.weights, *cells, chance])
    headings = ["frozen features", "weights", "value", "[95 %]", f"minus {FRESH} [95 %]", "chance"]
    shares = (f"{one.weights} filled {one.loaded:.0%} of the encoder" for one in result.encoders[1:])
    how = (
        f"Nothing of an encoder is trained; a linear model is, on {result.num_training} training cases. "
        "Measured on the preprocessed grid; intervals: bootstrap over patients."
    )
    return [
        Table.of(f"{result.num_measured} {result.split} cases", headings, rows, names=2),
        Bullets((how, *shares)),
    ]
