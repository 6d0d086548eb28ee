"""`voco study`: do the weights help where labels are few."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from voco_cli.cli.interrupts import going_on
from voco_cli.cli.options import (
    ConfigOption,
    DataOption,
    DeviceOption,
    JsonOption,
    SetOption,
    TasksOption,
    TrustPickleOption,
    data_flags,
    require_agreement,
    warn_of_untrained_flips,
)
from voco_cli.cli.shards import Spread, spread_out
from voco_cli.document.terminal import done, note, print_blocks, print_json, shell_words, warn
from voco_cli.errors import UsageError
from voco_cli.training.callbacks import Callback

if TYPE_CHECKING:
    from voco_cli.data.parallel import Runner
    from voco_cli.document.blocks import Block
    from voco_cli.study.analysis import LabelEfficiency
    from voco_cli.study.plan import PlannedRun, StudyPlan
    from voco_cli.study.record import StudyRun
    from voco_cli.tasks.find_data import TaskData
    from voco_cli.workflows.study import StudyResult
    from voco_cli.workflows.study_overview import OverviewResult


@going_on()
def study(
    context: typer.Context,
    task: TasksOption,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            help="Start from these: a run folder, a file, hf://OWNER/REPO/FILE; repeatable. Fresh weights (none) "
            "are always compared with.",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="NAME,NAME,...",
            help="Pre-train on the task's training images, once for each seed, and start from that: voco, mae, ...; "
            "A+B sums two, A:B trains one after the other; none+ is from scratch with a pre-training's time on top.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help="Training time of each pre-training (by default 30)."),
    ] = None,
    pretrain_steps: Annotated[
        int | None,
        typer.Option("--pretrain-steps", min=1, help="Steps of each pre-training, in place of minutes."),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", help="Recipe of the pre-trainings' optimizer and augmentation; all else is the task's."
        ),
    ] = "debug",
    pretrain_config: Annotated[
        Path | None,
        typer.Option("--pretrain-config", help="YAML file of settings of the pre-trainings, such as crops."),
    ] = None,
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
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare", help="Only find out what shards share: the cases, and the time of a step of each pre-training."
        ),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Do a part of the runs alone, such as 2/4, of a study that --prepare has seen; "
            "`voco merge OUTPUT` joins all N.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether pre-trained weights help where labels are few.

    Fine-tunes from fresh and from the given weights on few labelled cases, with several seeds, and compares on the
    same test cases: paired tests, one table, one picture. The same command goes on with a study that was stopped.
    """
    objectives = [one.strip() for one in objective.split(",")] if objective else []
    if not weights and not objectives:
        raise UsageError("A study compares fresh weights with others.", "give --weights or --objective")
    if minutes is not None and pretrain_steps is not None:
        raise UsageError("--minutes and --pretrain-steps both say how long pre-trainings are.", "give one of them")
    if prepare and shard is not None:
        raise UsageError("--prepare and --shard exclude each other.", "prepare first, then do the shards")

    from voco_cli.study.plan import PretrainingPlan, make_plan
    from voco_cli.study.record import recorded_arms, with_recorded_names

    place, list_off = data_flags(data)
    given = override or ()
    if choose is None and not any(one.partition("=")[0].strip() == "task.choose" for one in given):
        choose = "last"
    flags = {**place, "train.steps": steps, "task.choose": choose, "run.device": device}
    flags["model.trust_pickle"] = trust_pickle or None
    budget = None if pretrain_steps else minutes or PretrainingPlan.minutes
    pretraining = PretrainingPlan(budget, pretrain_steps, recipe, pretrain_config)
    sizes = _numbers(cases)
    folders = _folders(output, task)
    plans = {}
    for one, folder in folders.items():
        require_agreement({**flags, "task.preset": one}, given)
        plan = make_plan(
            folder,
            one,
            weights or [],
            sizes,
            seeds,
            objectives=objectives,
            pretraining=pretraining,
            config=config,
            overrides=[*list_off, *given],
            flags=flags,
            known=recorded_arms(folder),
        )
        warn_of_untrained_flips(plan.shared_settings())  # wrong settings are told before anything heavy is imported
        plans[one] = with_recorded_names(plan)

    if prepare:
        _prepare(plans.values(), as_json)
        return
    with spread_out(context, output, None, shard) as spread:
        if spread.is_part:
            _run_shard(plans.values(), spread, as_json)
        else:
            _run_all(plans, spread, as_json)


def _prepare(plans: Collection[StudyPlan], as_json: bool) -> None:
    from voco_cli.workflows.study import prepare_study

    wrote = [file for plan in plans for file in prepare_study(plan, **_workings(plan)).wrote]
    if as_json:
        print_json({"wrote": wrote})
        return
    done(wrote, "the same command with --shard I/N in place of --prepare, for I from 1 to N")


def _run_shard(plans: Collection[StudyPlan], spread: Spread, as_json: bool) -> None:
    """Do every N-th unit of the runs of all studies."""
    units = [(plan.folder, tuple(runs)) for plan in plans for runs in plan.units().values()]
    own = {(folder, run) for folder, runs in spread.runner.share(units) for run in runs}
    failed = 0
    for plan in plans:
        runs = [run for run in plan.runs() if (plan.folder, run) in own]
        record = _run(plan, spread.runner, runs).record
        failed += sum(record.of(run).status == "failed" for run in runs)
    spread.finish_part(as_json, "runs", len(own), failed)


def _run_all(plans: Mapping[str, StudyPlan], spread: Spread, as_json: bool) -> None:
    from voco_cli.workflows.study_outcome import require_complete

    if len(plans) == 1:
        (plan,) = plans.values()
        results = [_run(plan, spread.runner)]
        spread.finish()
        _print_result(results[0], as_json)
    else:
        from voco_cli.workflows.study_overview import run_studies

        several = run_studies(spread.output, list(plans), lambda one: _run(plans[one], spread.runner))
        spread.finish()
        _print_overview(several, as_json)
        results = list(several.studies.values())
    for result in results:
        require_complete(result.record, result.outcome)


def _folders(output: Path, tasks: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each task's study: the output of a single one, else one named like the task inside it."""
    if len(tasks) == 1:
        return {tasks[0]: output}
    named: dict[str, Path] = {}
    for task in dict.fromkeys(tasks):
        folder = output / Path(task).stem
        if folder in named.values():
            raise UsageError(f"Two tasks are called {folder.name}, and each needs a folder.", "rename one of the files")
        named[task] = folder
    return named


def _workings(plan: StudyPlan) -> dict[str, Any]:
    """Return what tells of a study, and what pre-trains."""
    from voco_cli.cli.progress import PretrainProgress
    from voco_cli.study.analysis import METRICS
    from voco_cli.workflows.pretrain import run_pretraining

    return {
        "callback": StudyProgress(METRICS[plan.shared_settings().task.kind].title),
        "pretrain": lambda resolved: run_pretraining(resolved, PretrainProgress()),
    }


def _run(plan: StudyPlan, runner: Runner, own: Collection[PlannedRun] | None = None) -> StudyResult:
    from voco_cli.cli.progress import FinetuneProgress
    from voco_cli.workflows.finetune import run_finetuning
    from voco_cli.workflows.study import require_fitting_weights, run_study

    require_fitting_weights(plan)
    return run_study(
        plan,
        finetune=lambda resolved: run_finetuning(resolved, FinetuneProgress()),
        runner=runner,
        own=own,
        **_workings(plan),
    )


def _print_overview(result: OverviewResult, as_json: bool) -> None:
    from voco_cli.document.blocks import Bullets, Table
    from voco_cli.workflows.study_overview import overview_statements, standing_headings, standing_rows, task_rows

    if as_json:
        print_json(loads(result.wrote[0].read_text()))
        return
    headings = ["task", "cases", "weights", "score", "difference [95 %]", "shown"]
    print_blocks(
        [
            Table.of("by task", headings, task_rows(result.found), names=3),
            Table.of("over all tasks", standing_headings(), standing_rows(result.found)),
            Bullets(tuple(overview_statements(result.found, result.left_out))),
        ]
    )
    first = next(iter(result.studies.values())).wrote[0].parent
    done(result.wrote, shell_words("voco", "report", first))


class StudyProgress(Callback):
    """A line before each run, and what it came to after it; the run tells of itself between.

    Args:
        metric: title of the score.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def building(self, total: int) -> AbstractContextManager[Callable[[str, str | None], None]]:
        """Show the progress of the cache."""
        from voco_cli.cli.progress import RunProgress

        return RunProgress().building(total)

    def say(self, text: str, style: str | None = None) -> None:
        """Print what begins."""
        note(text, style)

    def planned(self, total: int, finished: int, data: TaskData) -> None:
        """Print how much there is to do, and on which cases."""
        note(f"{data.origin}: {data.split_words}")
        if data.missing:
            from voco_cli.foreign_text import named

            warn(f"{len(data.missing)} cases of the split are missing and left out: {named(data.missing, 3)}")
        note(f"{total} runs" + (f", {finished} of them finished already" if finished else ""))

    def run_started(self, run: PlannedRun, number: int, total: int) -> None:
        """Print which run begins."""
        note(f"run {number} of {total}: {run.title}")

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
    from voco_cli.workflows.study_outcome import outcome_object

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
    print_blocks(study_blocks(result, found))
    done(result.wrote, _next(result))


def study_blocks(result: StudyResult, found: LabelEfficiency) -> list[Block]:
    """Return the scores without what only a paper needs, the structures, what follows, and how to read it."""
    from voco_cli.document.blocks import Bullets, Sentence, Table
    from voco_cli.study.analysis import verdict
    from voco_cli.study.costs import COST_HEADINGS, cost_note, cost_rows
    from voco_cli.workflows.study_outcome import (
        conclusions,
        statements,
        structure_headings,
        structure_rows,
        study_headings,
        study_rows,
    )

    outcome, headings, rows = result.outcome, study_headings(found), study_rows(found)
    shown = [headings.index(name) for name in headings if name not in ("seeds", "p", "effect", "[these runs]")]
    short = [headings[i].replace("labelled cases", "cases").replace(" over seeds", "") for i in shown]
    blocks: list[Block] = [Table.of("label efficiency", short, [[row[i] for i in shown] for row in rows], names=2)]
    if found.by_structure:
        caption, headings = f"by {found.text.part}, with the most labelled cases", structure_headings(found)
        blocks.append(Table.of(caption, headings, structure_rows(found), names=len(headings) - 5))
    if any(one.pretraining_s is not None for one in outcome.costs):
        costs = Table.of("what each cost", COST_HEADINGS, cost_rows(outcome.costs), names=2)
        blocks += [costs, Sentence(cost_note(outcome.costs))]
    for gain, sentence in zip((*found.gains, *outcome.to_longer), conclusions(outcome), strict=True):
        shows = verdict(gain) in ("higher", "lower")
        blocks.append(Sentence(sentence, "good" if shows else "plain"))
    return [*blocks, Bullets(tuple(statements(result.record, outcome)))]


def _next(result: StudyResult) -> str:
    """Return the command that compares baseline and last arm case by case, with the most labels."""
    finished = [run for run in result.record.in_order() if run.status == "done"]
    last = finished[-1]
    first = next(run for run in finished if (run.cases, run.seed) == (last.cases, last.seed))
    folder = result.wrote[0].parent
    if first is last:
        return shell_words("voco", "report", folder)
    return shell_words("voco", "compare", folder / str(first.evaluation), folder / str(last.evaluation))


def _minutes(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{max(1, round(seconds / 60))} min"
