"""`voco study`: do the weights help where labels are few."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voco_cli.cli.evaluate import print_lines, print_table
from voco_cli.cli.interrupts import going_on
from voco_cli.cli.options import (
    ConfigOption,
    DataOption,
    DeviceOption,
    JsonOption,
    SetOption,
    TaskOption,
    TrustPickleOption,
    data_flags,
    require_agreement,
    warn_of_untrained_flips,
)
from voco_cli.document.terminal import done, note, print_json, shell_words, warn
from voco_cli.errors import UsageError
from voco_cli.training.callbacks import Callback

if TYPE_CHECKING:
    from voco_cli.study.analysis import LabelEfficiency
    from voco_cli.study.plan import PlannedRun, StudyRun
    from voco_cli.tasks.find_data import TaskData
    from voco_cli.workflows.study import StudyResult


@going_on()
def study(
    task: TaskOption,
    weights: Annotated[
        list[str],
        typer.Option(
            "--weights",
            help="Start from these: a run folder, a file, hf://OWNER/REPO/FILE; repeatable. Fresh weights (none) "
            "are always compared with.",
        ),
    ],
    data: DataOption = None,
    cases: Annotated[
        str,
        typer.Option(
            "--cases",
            metavar="N,N,...",
            help="Numbers of labelled cases to train on; a smaller set is part of a larger.",
        ),
    ] = "5,10,20",
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds", min=1, help="Runs of each kind: each seed draws other labelled cases and other fresh weights."
        ),
    ] = 3,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the study.")] = Path(
        "runs/study"
    ),
    config: ConfigOption = None,
    override: SetOption = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimizer steps of each run (by default the task's).")
    ] = None,
    choose: Annotated[
        Literal["last", "best"] | None,
        typer.Option(
            help="Weights that are measured: those of the last step (by default), or the best on "
            "validation cases, whose labels are then needed, too."
        ),
    ] = None,
    trust_pickle: TrustPickleOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether pre-trained weights help where labels are few.

    Fine-tunes from fresh and from the given weights on few labelled cases, with several seeds, and compares on the
    same test cases: paired tests, one table, one picture. The same command goes on with a study that was stopped.
    """
    from voco_cli.study.plan import make_plan, recorded_arms, with_recorded_names

    place, list_off = data_flags(data)
    given = override or ()
    if choose is None and not any(one.partition("=")[0].strip() == "task.choose" for one in given):
        choose = "last"
    flags = {**place, "train.steps": steps, "task.choose": choose, "run.device": device}
    flags["model.trust_pickle"] = trust_pickle or None
    require_agreement({**flags, "task.preset": task}, given)
    plan = make_plan(
        output,
        task,
        weights,
        _numbers(cases),
        seeds,
        config=config,
        overrides=[*list_off, *given],
        flags=flags,
        known=recorded_arms(output),
    )
    shared = plan.shared_settings()  # wrong settings are told before anything heavy is imported
    kind = shared.task.kind
    warn_of_untrained_flips(shared)
    plan = with_recorded_names(plan)

    from voco_cli.cli.progress import FinetuneProgress
    from voco_cli.study.analysis import METRICS
    from voco_cli.workflows.finetune import run_finetuning
    from voco_cli.workflows.study import require_fitting_weights, run_study
    from voco_cli.workflows.study_outcome import require_complete

    require_fitting_weights(plan)
    result = run_study(
        plan,
        StudyProgress(METRICS[kind].title),
        finetune=lambda resolved: run_finetuning(resolved, FinetuneProgress()),
    )
    _print_result(result, as_json)
    require_complete(result.record, result.outcome)


class StudyProgress(Callback):
    """A line before each run, and what it came to after it; the run tells of itself between.

    Args:
        metric: title of the score.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def planned(self, total: int, finished: int, data: TaskData) -> None:
        """Print how much there is to do, and on which cases."""
        note(f"{data.origin}: {data.split_words}")
        if data.missing:
            from voco_cli.foreign_text import named

            warn(f"{len(data.missing)} cases of the split are missing and left out: {named(data.missing, 3)}")
        note(f"{total} runs" + (f", {finished} of them finished already" if finished else ""))

    def run_started(self, run: PlannedRun, number: int, total: int) -> None:
        """Print which run begins."""
        note(f"run {number} of {total}: {run.record.title}")

    def run_ended(self, record: StudyRun, left_s: float) -> None:
        """Print its score."""
        score = "not defined" if record.score is None else f"{record.score:.4f}"
        found = f"{self.metric} {score}" if record.status == "done" else f"failed: {record.reason}"
        left = "" if math.isnan(left_s) or left_s <= 0 else f"; about {_minutes(left_s)} left"
        note(f"{record.title}: {found}{left}")


def _numbers(text: str) -> list[int]:
    """Read ``5,10,20`` as numbers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--cases {text!r} is no list of numbers.", "for example --cases 5,10,20") from error


def _print_result(result: StudyResult, as_json: bool) -> None:
    from voco_cli.study.analysis import verdict
    from voco_cli.workflows.study_outcome import (
        conclusion,
        outcome_object,
        statements,
        structure_headings,
        structure_rows,
    )

    found = result.outcome.found
    if as_json:
        print_json(
            {
                "study": result.wrote[0].parent,
                "runs": [vars(run) for run in result.record.in_order()],
                **outcome_object(result.record, result.outcome),
            }
        )
        return
    if found is None:
        return
    _print_scores(found)
    if found.by_structure:
        several = len({one.run for one in found.by_structure}) > 1
        title = f"by {found.text.part}, with the most labelled cases"
        _table(title, structure_headings(found), structure_rows(found), 2 if several else 1)
    for gain in found.gains:
        bold = verdict(gain) in ("higher", "lower")
        print_lines([conclusion(gain, found.baseline)], "bold" if bold else None)
    print_lines(statements(result.record, result.outcome))
    done(result.wrote, _next(result))


def _print_scores(found: LabelEfficiency) -> None:
    """Print the first table without what only a paper needs."""
    from voco_cli.workflows.study_outcome import study_headings, study_rows

    headings, rows = study_headings(found), study_rows(found)
    shown = [headings.index(name) for name in headings if name not in ("seeds", "p", "effect", "[these runs]")]
    _table(
        "label efficiency",
        [headings[i].replace("labelled cases", "cases").replace(" over seeds", "") for i in shown],
        [[row[i] for i in shown] for row in rows],
        2,
    )


def _next(result: StudyResult) -> str:
    """Return the command that compares baseline and last arm case by case, with the most labels."""
    finished = [run for run in result.record.in_order() if run.status == "done"]
    last = finished[-1]
    first = next(run for run in finished if (run.cases, run.seed) == (last.cases, last.seed))
    folder = result.wrote[0].parent
    if first is last:
        return shell_words("voco", "report", folder)
    return shell_words("voco", "compare", folder / str(first.evaluation), folder / str(last.evaluation))


def _table(title: str, headings: list[str], rows: list[list[str]], names: int) -> None:
    broken = [heading.replace(" [", "\n[").replace(" better", "\nbetter").replace(" (", "\n(") for heading in headings]
    print_table(title, broken, rows, names, whole_figures=True)


def _minutes(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{max(1, round(seconds / 60))} min"
