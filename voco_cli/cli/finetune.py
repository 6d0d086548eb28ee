"""`voco finetune`: from a labelled task to a trained network, and what it is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voco_cli.cli.evaluation_output import print_measured, report_failures
from voco_cli.cli.options import (
    ConfigOption,
    DataOption,
    DeviceOption,
    JsonOption,
    RequireCleanOption,
    SetOption,
    TaskOption,
    data_flags,
    require_agreement,
)
from voco_cli.cli.output import done, out, print_json, shell_words

if TYPE_CHECKING:
    from voco_cli.finetuning.run import FinetuneResult


def finetune(
    task: TaskOption,
    data: DataOption = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="Start from these: a run folder, a file, or hf://OWNER/REPO/FILE (by default fresh weights).",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", "-o", help="Run folder (by default runs/finetune)."),
    ] = None,
    config: ConfigOption = None,
    override: SetOption = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimizer steps of the whole run (by default the task's).")
    ] = None,
    cases: Annotated[
        int | None,
        typer.Option(
            "--cases",
            min=1,
            help="Train on that many cases only, drawn by patient; a smaller draw is part of a larger one.",
        ),
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option("--fraction", min=0, max=1, help="Train on that share of the training patients only."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Name of a split that comes with the package, a JSON file of cases, or seeded: drawn by patient "
            "(by default the task's).",
        ),
    ] = None,
    freeze_encoder: Annotated[
        bool,
        typer.Option("--freeze-encoder", help="Train the decoder or head only; the encoder stays as it is loaded."),
    ] = False,
    min_loaded: Annotated[
        float | None,
        typer.Option(
            "--min-loaded",
            min=0,
            max=1,
            help="Refuse weights that fill less than this share of the encoder's parameters.",
        ),
    ] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle",
            help="DANGEROUS: read weights from a pickle that names foreign code, and run that code with your rights.",
        ),
    ] = False,
    device: DeviceOption = None,
    require_clean: RequireCleanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network on a labelled task, and measure it.

    Trains, predicts the cases that were held out, and measures them in their own space. The same command resumes a
    run that was stopped.
    """
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
    require_agreement({**flags, "task.preset": task}, override or ())
    resolved = load_settings(None, config, [*list_off, *(override or ())], flags, task=task)

    from voco_cli.cli.finetune_progress import FinetuneProgress
    from voco_cli.finetuning.run import finetune as run_finetuning

    result = run_finetuning(resolved, FinetuneProgress(), require_clean)
    if result.to_be_told:
        _print_result(result, as_json)


def _print_result(result: FinetuneResult, as_json: bool) -> None:
    measured = result.measured
    if as_json:
        _print_json(result)
    else:
        out.print(f"Result: {result.how_chosen}.", markup=False, highlight=False, soft_wrap=True)
        if measured is not None:
            print_measured(measured)
        if result.evaluated_split == "validation" and "the best of" in result.how_chosen:
            text = "The weights were chosen on the very cases that are measured here; a test split would say more."
            out.print(text, style="yellow", highlight=False, soft_wrap=True)
        places = [result.weights, result.folder / "metrics.jsonl", *([measured.folder] if measured else [])]
        done(places, shell_words("voco", "predict", result.folder, "NEW_SCANS", "-o", "predictions"))
    if measured is not None:
        report_failures(measured.evaluation)


def _print_json(result: FinetuneResult) -> None:
    summary = json.loads((result.evaluation / "summary.json").read_text()) if result.evaluation else None
    print_json(
        {
            "run": result.folder,
            "weights": result.weights,
            "step": result.chosen_step,
            "chosen": result.how_chosen,
            "split": result.evaluated_split,
            "evaluation": result.evaluation,
            "summary": summary,
        }
    )
