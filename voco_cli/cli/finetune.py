"""`voco finetune`: from a labelled task to a trained network, and what it is worth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from voco_cli.cli.evaluate import measured_blocks, report_failures
from voco_cli.cli.interrupts import going_on
from voco_cli.cli.option_groups import FinetuneOptions, with_option_group
from voco_cli.cli.options import DryRunOption, JsonOption, RecheckOption, RequireCleanOption, warn_of_untrained_flips
from voco_cli.cli.plan import show_dry_run
from voco_cli.document.terminal import done, print_blocks, print_json, print_line, shell_words

if TYPE_CHECKING:
    from voco_cli.workflows.finetune import FinetuneResult


@going_on()
@with_option_group
def finetune(
    options: FinetuneOptions,
    require_clean: RequireCleanOption = False,
    recheck: RecheckOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network on a labelled task, and measure it.

    Trains, predicts the cases that were held out, and measures them in their own space. The same command resumes a
    run that was stopped.
    """
    resolved = options.load()
    warn_of_untrained_flips(resolved.settings)

    from voco_cli.cli.progress import FinetuneProgress
    from voco_cli.workflows.finetune import run_finetuning

    if dry_run:
        from voco_cli.resources.dry_run import dry_finetuning

        show_dry_run(lambda: dry_finetuning(resolved, FinetuneProgress()), as_json)
        return
    result = run_finetuning(resolved, FinetuneProgress(), require_clean, recheck=recheck)
    if result.is_main_process:
        _print_result(result, as_json)


def _print_result(result: FinetuneResult, as_json: bool) -> None:
    measured = result.measured
    if as_json:
        _print_json(result)
    else:
        print_line(f"Result: {result.how_chosen}.")
        if measured is not None:
            print_blocks(measured_blocks(measured.evaluation, measured.provenance))
        if result.evaluated_split == "validation" and "the best of" in result.how_chosen:
            text = "The weights were chosen on the very cases that are measured here; a test split would say more."
            print_line(text, "yellow")
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
