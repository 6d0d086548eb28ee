"""`voco predict`: a fine-tuned network over scans, each result in its scan's own space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voco_cli.cli.interrupts import going_on
from voco_cli.cli.left_out import left_out_object, warn_of_failures, warn_of_passed_over
from voco_cli.cli.options import (
    DeviceOption,
    FinetunedArgument,
    FlipsOption,
    InputsArgument,
    JsonOption,
    OverlapOption,
    SetOption,
    require_agreement,
    setting_option,
    warn_of_untrained_flips,
)
from voco_cli.cli.plan import show_dry_run
from voco_cli.cli.shards import SchedulerOption, ShardOption, spread_out
from voco_cli.document.terminal import done, print_json, print_line, progress, shell_words
from voco_cli.errors import DataError, UsageError
from voco_cli.object_stores import is_remote, location

if TYPE_CHECKING:
    from voco_cli.data.index.datalist import Entry
    from voco_cli.data.parallel import Runner
    from voco_cli.predict.inputs import Inputs
    from voco_cli.predict.output_dir import PredictionReport
    from voco_cli.predict.predictor import Trained


@going_on()
def predict(
    context: typer.Context,
    run: FinetunedArgument,
    inputs: InputsArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the predictions.")],
    device: DeviceOption = None,
    flips: FlipsOption = None,
    overlap: OverlapOption = None,
    suffix: Annotated[
        Literal[".nii.gz", ".nii", ".nrrd", ".mha"] | None,
        setting_option("predict.suffix", "--suffix", default="the run's", metavar="SUFFIX"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what another network or other settings have predicted there.")
    ] = False,
    override: SetOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Predict the largest scan into a temporary folder, say what all will take here, and leave nothing.",
        ),
    ] = False,
    scheduler: SchedulerOption = None,
    shard: ShardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict label maps, or probabilities, of new scans.

    Each label map lies on its scan's own grid; a classification gives a table of probabilities. Cases that are
    finished are not predicted again.
    """
    from voco_cli.data.shards import own_entries
    from voco_cli.predict.inputs import find_inputs
    from voco_cli.predict.predictor import load_trained
    from voco_cli.workflows.shards import is_merging

    inputs, output = [location(one) for one in inputs], location(output)
    own = {"flips": flips, "overlap": overlap, "suffix": suffix}
    require_agreement({"run.device": device, **{f"predict.{key}": own[key] for key in own}}, override or ())
    # Merging needs the network's settings and hash alone.
    trained = load_trained(run, "cpu" if is_merging() else device, override or (), **own)
    if flips:
        _require_trained_flips(trained)
    warn_of_untrained_flips(trained.settings)
    if dry_run:
        from voco_cli.resources.dry_run import dry_prediction

        show_dry_run(lambda: dry_prediction(trained, inputs, output), as_json)
        return
    found = find_inputs(inputs, trained.settings.task, output)
    with spread_out(context, output, scheduler, shard) as spread:
        own_cases = own_entries(found.entries, inputs, spread.runner)
        report = _predict(trained, own_cases, output, overwrite, spread.runner)
        if spread.is_part:
            warn_of_failures(report.failed)
            spread.finish_part(as_json, "cases", len(own_cases), len(report.failed))
            return
        spread.finish()
    failed = [*found.refused, *report.failed]
    if as_json:
        done_now = {"output": output, "predicted": report.predicted, "kept": report.kept}
        print_json({**done_now, **left_out_object("case", failed, found.passed_over)})
    else:
        _print_summary(trained, found, report, output, len(failed))
    if failed:
        warn_of_failures(failed)
        total = len(failed) + len(report.predicted) + len(report.kept)
        raise DataError(f"{len(failed)} of {total} cases could not be predicted.", "The reasons are above.")


def _require_trained_flips(trained: Trained) -> None:
    """Refuse to average over flips that the network never saw, which makes it worse, or that nothing is done with.

    Raises:
        UsageError: the run is a classification, or was trained without flips.
    """
    from voco_cli.tasks.targets import target_of

    if not target_of(trained.settings.task).is_label_map:
        raise UsageError(f"--flips is for label maps, and {trained.run} predicts categories.", "leave --flips out")
    if trained.settings.augment.flip_prob == 0:
        raise UsageError(
            f"{trained.run} was trained without flips (augment.flip_prob is 0), so --flips would average over scans "
            "turned as it never saw one.",
            "leave `--flips` out, or insist with `--set predict.flips=true` in its place",
        )


def _predict(
    trained: Trained, entries: Sequence[Entry], output: Path, overwrite: bool, runner: Runner
) -> PredictionReport:
    from voco_cli.task_kinds import kind_of

    with progress("predicting", len(entries)) as advance:
        predict_all = kind_of(trained.settings.task).predict
        return predict_all(trained, entries, output, overwrite=overwrite, on_done=lambda *_: advance(), runner=runner)


def _print_summary(trained: Trained, found: Inputs, report: PredictionReport, output: Path, failures: int) -> None:
    from voco_cli.tasks.targets import target_of

    warn_of_passed_over(found.passed_over)
    print_line(f"{len(report.predicted)} predicted, {len(report.kept)} kept from before, {failures} failed.")
    if target_of(trained.settings.task).is_label_map:
        suffix = trained.settings.predict.suffix
        labels = shell_words("voco", "evaluate", "--predictions", output, "--labels", "LABELS")
        written = [*([f"{output}/<case>{suffix}"] if report.predicted else []), *map(str, report.written)]
        done(written, None if is_remote(output) else labels)  # label maps are evaluated on a disk
    else:
        done(report.written, shell_words("voco", "evaluate", trained.run))
