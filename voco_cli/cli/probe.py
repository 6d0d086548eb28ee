"""`voco probe`: what frozen encoders know of a task, without fine-tuning."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.evaluate import print_lines, print_table
from voco_cli.cli.options import (
    CasesOption,
    DataOption,
    DeviceOption,
    JsonOption,
    SetOption,
    TaskOption,
    TrustPickleOption,
    data_flags,
    require_agreement,
)
from voco_cli.document.terminal import done, print_json, shell_words

if TYPE_CHECKING:
    from voco_cli.workflows.probe import ProbeResult


def probe(
    weights: Annotated[
        list[str],
        typer.Argument(metavar="RUN|FILE...", help="Weights: run folders, files, hf://OWNER/REPO/FILE."),
    ],
    task: TaskOption,
    data: DataOption = None,
    cases: CasesOption = None,
    override: SetOption = None,
    trust_pickle: TrustPickleOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what frozen encoders know of a task, without fine-tuning them.

    A linear model on their features, voxel by voxel or scan by scan, the nearest neighbours, and whether the nearest
    region of another patient is the same region: each beside a fresh encoder, with intervals by patient.
    """
    from voco_cli.config import load_settings

    place, list_off = data_flags(data)
    flags = {**place, "task.cases": cases, "model.trust_pickle": trust_pickle or None, "run.device": device}
    require_agreement({**flags, "task.preset": task}, override or ())
    resolved = load_settings(None, None, [*list_off, *(override or ())], flags, task=task)

    from voco_cli.cli.progress import FinetuneProgress
    from voco_cli.workflows.probe import run_probe

    result = run_probe(resolved, weights, FinetuneProgress())
    if as_json:
        print_json(asdict(result))
        return
    _print(result)
    words = ["--data", data] if data else []
    done([], shell_words("voco", "finetune", "--task", task, *words, "--weights", weights[0]))


def _print(result: ProbeResult) -> None:
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
    print_table(f"{result.num_measured} {result.split} cases", headings, rows, 2)
    shares = [f"{one.weights} filled {one.loaded:.0%} of the encoder" for one in result.encoders[1:]]
    print_lines(
        [
            f"Nothing of an encoder is trained; a linear model is, on {result.num_training} training cases. "
            "Measured on the preprocessed grid; intervals: bootstrap over patients.",
            *shares,
        ]
    )
