"""`voco pretrain`: from a data file to an encoder, and proof of what it learned."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from voco_cli.cli.interrupts import going_on
from voco_cli.cli.options import (
    ConfigOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    RecipeOption,
    SetOption,
    StepsOption,
    TrustPickleOption,
    WeightsOption,
    given_words,
    require_agreement,
    settings_words,
)
from voco_cli.cli.plan import show_dry_run
from voco_cli.document.terminal import done, folded, out, print_json, shell_words
from voco_cli.errors import VocoError

if TYPE_CHECKING:
    from voco_cli.workflows.pretrain import PretrainResult


@going_on()
def pretrain(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="data.json as `voco index` writes it.")] = None,
    recipe: RecipeOption = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="NAMES",
            help="What is learned, in place of the recipe's: voco, mae, ...; A+B sums two over one encoder, A:B trains "
            "first A, then B, A=0.5 gives a weight.",
        ),
    ] = None,
    config: ConfigOption = None,
    override: SetOption = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", "-o", help="Run folder (by default runs/pretrain).")
    ] = None,
    steps: StepsOption = None,
    weights: WeightsOption = None,
    trust_pickle: TrustPickleOption = False,
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Pre-train an encoder on unlabelled scans.

    Builds the cache it needs, trains, and ends with figures on held-out scans against step 0 and chance. The same
    command resumes a run that was stopped.
    """
    from voco_cli.config import load_settings
    from voco_cli.config.stages import objective_flags

    flags = {"data.file": data, "run.dir": run_dir, "train.steps": steps, "model.weights": weights}
    flags |= {"model.trust_pickle": trust_pickle or None, "run.device": device, **objective_flags(objective)}
    require_agreement({**flags, "recipe": recipe}, override or ())
    resolved = load_settings(recipe, config, override or (), flags)

    from voco_cli.cli.progress import PretrainProgress
    from voco_cli.resources.costs import require_choice
    from voco_cli.workflows.pretrain import run_pretraining

    if dry_run:
        from voco_cli.resources.dry_run import dry_pretraining

        show_dry_run(lambda: dry_pretraining(resolved, PretrainProgress()), json)
        return
    if resolved.settings.data.file is not None and resolved.settings.data.file.is_file():
        given = {"-o": run_dir, "--steps": steps, "--weights": weights, "--device": device}
        words = [*settings_words(None, config, override), *given_words(given)]
        require_choice(resolved, shell_words("voco", "pretrain", *([data] if data else []), *words))
    result = run_pretraining(resolved, PretrainProgress())
    if result.is_main_process:
        _print_result(result, json, _with_labels(resolved.settings.data.file))
    if result.verdict is not None and result.verdict.status == "collapsed":
        raise VocoError(result.verdict.sentence)


def _print_result(result: PretrainResult, json: bool, labelled: Path | None) -> None:
    chance = {name: info.chance for name, info in result.infos.items() if info.chance is not None}
    if json:
        print_json(
            {
                "run": result.folder,
                "weights": result.weights,
                "verdict": result.verdict.status if result.verdict else None,
                "sentence": result.verdict.sentence if result.verdict else None,
                "figures": {"step 0": result.start, "end": result.end, "chance": chance},
            }
        )
        return
    if result.verdict is None:
        out.print(
            "No scans are held out, so nothing says whether it learned; `voco index --validation 0.1` holds some."
        )
    else:
        table = Table(
            *folded("on held-out scans", "step 0", "end", "chance"), box=None, header_style="bold", pad_edge=False
        )
        for name, info in result.infos.items():
            if name in result.end:
                at_chance = f"{chance[name]:.3g}" if name in chance else ""
                table.add_row(info.label, _figure(result.start[name]), _figure(result.end[name]), at_chance)
        out.print(table)
        style = {"learned": "bold green", "not yet": "bold yellow", "collapsed": "bold red"}[result.verdict.status]
        out.print(result.verdict.sentence, style=style, highlight=False, soft_wrap=True)
    encoder = loads(result.weights.with_suffix(".json").read_text())
    weights = f"{result.weights}: {len(encoder['names'])} tensors with the names of {encoder['loads_into']}"
    tuning = shell_words("voco", "tasks", "new", labelled or "LABELLED.json", "--weights", result.folder)
    following = f"{shell_words('voco', 'report', result.folder)}, or with labels: {tuning}"
    pictures = [result.folder / "figures" / "validation"] if result.verdict else []
    done([weights, result.folder / "metrics.jsonl", *pictures], following)


def _with_labels(data: Path | None) -> Path | None:
    """The list, where it names label maps, too."""
    from voco_cli.data.index.datalist_file import read_datalist

    if data is None:
        return None
    listed = read_datalist(data, check_files=False)
    return data if any(entry.label for split, entry in listed.entries() if split != "test") else None


def _figure(value: float) -> str:
    """Three decimals, and no sign before a zero."""
    return f"{round(value, 3) + 0.0:.3f}"
