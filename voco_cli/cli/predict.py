"""`voco predict`: a fine-tuned network over scans, each result in its scan's own space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voco_cli.cli.interrupts import going_on
from voco_cli.cli.options import DeviceOption, JsonOption, SetOption, require_agreement, warn_of_untrained_flips
from voco_cli.cli.plan import show_dry_run
from voco_cli.document.terminal import done, out, print_json, progress, shell_words, warn
from voco_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from voco_cli.predict.inputs import Inputs
    from voco_cli.predict.predictor import Trained
    from voco_cli.predict.segmentation import Report

SHOWN_FAULTS = 20


@going_on()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of voco finetune.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Scans: NIfTI, NRRD, MetaImage, DICOM series, folders, data.json."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the predictions.")],
    device: DeviceOption = None,
    flips: Annotated[
        bool | None,
        typer.Option("--flips", help="Average over the eight flips of each window, which takes eight times as long."),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of a window that the next one covers (by default the run's)."),
    ] = None,
    suffix: Annotated[
        Literal[".nii.gz", ".nii", ".nrrd", ".mha"] | None,
        typer.Option(metavar="SUFFIX", help="Format of the label maps: .nii.gz (by default), .nii, .nrrd or .mha."),
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
    as_json: JsonOption = False,
) -> None:
    """Predict label maps, or probabilities, of new scans.

    Each label map lies on its scan's own grid; a classification gives a table of probabilities. Cases that are
    finished are not predicted again.
    """
    from voco_cli.predict.inputs import find_inputs
    from voco_cli.predict.predictor import load_trained

    own = {"flips": flips, "overlap": overlap, "suffix": suffix}
    require_agreement({"run.device": device, **{f"predict.{key}": own[key] for key in own}}, override or ())
    trained = load_trained(run, device, override or (), **own)
    if flips:
        _require_trained_flips(trained)
    warn_of_untrained_flips(trained.settings)
    if dry_run:
        from voco_cli.resources.dry_run import dry_prediction

        show_dry_run(lambda: dry_prediction(trained, inputs, output), as_json)
        return
    found = find_inputs(inputs, trained.settings.task, output)
    report = _predict(trained, found, output, overwrite)
    failed = [*found.refused, *report.failed]
    if as_json:
        passed_over = [{"path": one.path, "reason": one.reason} for one in found.passed_over]
        print_json(
            {
                "output": output,
                "predicted": report.predicted,
                "kept": report.kept,
                "failed": [{"case": case, "reason": reason} for case, reason in failed],
                "passed_over": passed_over,
            }
        )
    else:
        _print_summary(trained, found, report, output, len(failed))
    _raise_failures(failed, len(failed) + len(report.predicted) + len(report.kept))


def _require_trained_flips(trained: Trained) -> None:
    """Refuse to average over flips that the network never saw, which makes it worse, or that nothing is done with.

    Raises:
        UsageError: the run is a classification, or was trained without flips.
    """
    if trained.settings.task.kind == "classification":
        raise UsageError(f"--flips is for label maps, and {trained.run} predicts categories.", "leave --flips out")
    if trained.settings.augment.flip_prob == 0:
        raise UsageError(
            f"{trained.run} was trained without flips (augment.flip_prob is 0), so --flips would average over scans "
            "turned as it never saw one.",
            "leave `--flips` out, or insist with `--set predict.flips=true` in its place",
        )


def _predict(trained: Trained, found: Inputs, output: Path, overwrite: bool) -> Report:
    from voco_cli.predict.segmentation import Report, predict_entries

    with progress("predicting", len(found.entries)) as advance:

        def on_done(entry: Any, reason: str | None) -> None:
            advance()

        if trained.settings.task.kind == "segmentation":
            return predict_entries(trained, found.entries, output, overwrite=overwrite, on_done=on_done)
        from voco_cli.predict.classification import classify_entries

        table = classify_entries(trained, found.entries, output, overwrite=overwrite, on_done=on_done)
    asked = {entry.name for entry in found.entries}
    failed = tuple((case, reason) for case, reason in table.failed.items() if case in asked)
    there = asked & table.rows.keys()
    predicted, kept = sorted(there & table.computed), sorted(there - table.computed)
    return Report(tuple(predicted), tuple(kept), failed, (output / "probabilities.csv",))


def _print_summary(trained: Trained, found: Inputs, report: Report, output: Path, failures: int) -> None:
    if found.passed_over:
        first, *others = found.passed_over
        what = f"note: passed over {first.path}: {first.reason.rstrip('.')}"
        more = f"; and {len(others)} more, all in --json" if others else ""
        warn(f"{what}{more}.")
    out.print(
        f"{len(report.predicted)} predicted, {len(report.kept)} kept from before, {failures} failed.", highlight=False
    )
    if trained.settings.task.kind == "segmentation":
        suffix = trained.settings.predict.suffix
        labels = shell_words("voco", "evaluate", "--predictions", output, "--labels", "LABELS")
        done([f"{output}/<case>{suffix}", *report.written] if report.predicted else report.written, labels)
    else:
        done(report.written, shell_words("voco", "evaluate", trained.run))


def _raise_failures(failed: list[tuple[str, str]], total: int) -> None:
    if not failed:
        return
    for case, reason in failed[:SHOWN_FAULTS]:
        named = reason if case in reason else f"{case}: {reason}"
        warn(named)
    if len(failed) > SHOWN_FAULTS:
        warn(f"and {len(failed) - SHOWN_FAULTS} more; --json lists all")
    raise DataError(f"{len(failed)} of {total} cases could not be predicted.", "The reasons are above.")
