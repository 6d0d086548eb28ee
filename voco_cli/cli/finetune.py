"""`voco finetune`: from a labelled task to a trained network, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voco_cli.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    RequireCleanOption,
    SetOption,
    TaskOption,
    data_flags,
)
from voco_cli.cli.output import done, out, print_json

if TYPE_CHECKING:
    from voco_cli.finetuning.run import FinetuneResult


def finetune(
    task: TaskOption,
    data: DataOption = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Start from these: a run folder, a file, or hf://owner/repository/file."),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", "-o", help="Run folder; the same command on it resumes (runs/finetune by default)."),
    ] = None,
    config: ConfigOption = None,
    override: SetOption = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimizer steps of the whole run.")] = None,
    cases: Annotated[
        int | None, typer.Option("--cases", min=1, help="Train on that many cases: seeded, nested, by patient.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option("--fraction", min=0, max=1, help="Train on that share of the training patients.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Shipped split, a JSON file of cases, or seeded: drawn by patient.")
    ] = None,
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="Leave the encoder as it is loaded: a linear probe.")
    ] = False,
    min_loaded: Annotated[
        float | None,
        typer.Option("--min-loaded", min=0, max=1, help="Least share of the encoder that the weights must fill."),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="DANGEROUS: run the code that a file of weights names.")
    ] = False,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")] = None,
    require_clean: RequireCleanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network on a labelled task and measure it; the same command resumes a run that was stopped."""
    from voco_cli.settings import load_settings

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
    resolved = load_settings(None, config, [*list_off, *(override or ())], flags, task=task)

    from voco_cli.cli.finetune_progress import FinetuneProgress
    from voco_cli.finetuning.run import finetune as run_finetuning

    result = run_finetuning(resolved, FinetuneProgress(), require_clean)
    if result.to_be_told:
        _print_result(result, as_json)


def _print_result(result: FinetuneResult, as_json: bool) -> None:
    import json

    summary = json.loads((result.evaluation / "summary.json").read_text()) if result.evaluation else None
    if as_json:
        print_json(
            {
                "run": result.folder,
                "weights": result.weights,
                "chosen": result.how_chosen,
                "split": result.evaluated_split,
                "evaluation": result.evaluation,
                "summary": summary,
            }
        )
        return
    wrote: list[str | Path] = [result.weights, result.folder / "metrics.jsonl"]
    out.print(f"Result: {result.how_chosen}.", markup=False, highlight=False, soft_wrap=True)
    if result.evaluation is not None:
        out.print((result.evaluation / "table.md").read_text(), markup=False, highlight=False, soft_wrap=True)
        if result.evaluated_split == "validation":
            out.print(
                "Measured on the validation cases, which the weights may have been chosen on: a test split says more.",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )
        wrote.append(result.evaluation)
    done(wrote, f"voco predict {result.folder} NEW_SCANS -o predictions")
