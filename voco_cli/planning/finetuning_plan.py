"""`voco plan finetune`: what a fine-tuning will need here, its last prediction and measurement included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from statistics import fmean

from voco_cli.dataset.datalist import Datalist, Entry
from voco_cli.downstream.tasks.data import find_task_data
from voco_cli.downstream.tasks.subset import subset
from voco_cli.errors import UsageError
from voco_cli.finetuning.cases import open_cache
from voco_cli.finetuning.finetuned_run import MEASURABLE
from voco_cli.planning.apart import tidy_when_terminated
from voco_cli.planning.disk import label_map_bytes
from voco_cli.planning.places import temporary_folder
from voco_cli.planning.quantities import Amount, Part, Plan
from voco_cli.planning.sampled_run import RunCases, SampledRun, Tell, sample_run
from voco_cli.planning.sampling import case_size, seeded_order
from voco_cli.planning.training import Extra, Tried, training_plan, try_steps
from voco_cli.settings import Settings


def plan_finetuning(settings: Settings, budget_s: float, tell: Tell) -> Plan:
    """Preprocess a few cases and run a few steps in a temporary folder, and work out what the whole run needs.

    Args:
        budget_s: about how long that may take.
        tell: what is being done.
    Raises:
        UsageError: settings or data that the run would refuse, too.
        DataError: none of the cases that were tried can be used; label values that no class has.
    """
    if not settings.task.classes:
        raise UsageError(f"The task {settings.task.preset} has no classes.", "list them under task.classes")
    datalist = find_task_data(settings).datalist
    training = subset(datalist.training, settings.task, settings.seed)
    cases = RunCases(tuple(training), datalist.validation, open_cache(settings))
    with tidy_when_terminated(), temporary_folder(cases.cache.folder) as folder:
        order = _order(training, settings)
        run = sample_run(cases, order, settings.seed, folder, budget_s, tell)
        tried = try_steps(settings, run, folder, budget_s, tell)
        return training_plan(
            f"fine-tuning of {settings.task.name}", settings, run, tried, _extra(settings, datalist, run, tried)
        )


def _order(training: Sequence[Entry], settings: Settings) -> list[Entry]:
    """By seed; of a classification the categories in turn, as a few cases must show more than one."""
    groups: dict[str | None, list[Entry]] = defaultdict(list)
    for entry in seeded_order(training, settings.seed):
        groups[entry.category].append(entry)
    return [entry for entry in chain(*zip_longest(*groups.values())) if entry is not None]


def _extra(settings: Settings, datalist: Datalist, run: SampledRun, tried: Tried) -> Extra:
    """Surveying labels, validating whole scans, and predicting and measuring at the end."""
    measured = _measured(datalist, settings)
    disk: tuple[Part, ...] = ()
    if settings.task.kind == "segmentation":
        sizes = [size.source_vox for entry in measured if (size := case_size(entry, settings.preprocess))]
        channels = len(settings.task.channels)
        disk = (Part("predictions", label_map_bytes((vox // channels for vox in sizes), settings)),)
    if tried.trial is None or tried.trial.steps is None:
        return Extra(disk=disk)
    looks = tried.trial.looks
    build_s = fmean(one.build_s for one in run.sample.cases) if run.sample and run.sample.cases else 0.0
    ends = _alike(measured, settings, run, tried) * looks.case_s + len(measured) * (build_s + looks.measure_s)
    after = (Part("predicting and measuring at the end", Amount.of(ends, "measured")),)
    before: tuple[Part, ...] = ()
    if settings.task.kind == "segmentation":
        survey_s = looks.survey_s * (len(run.cases.training) + len(run.cases.held_out))
        before = (Part("looking at labels", Amount.of(survey_s, "measured")),)
    validated = _alike(datalist.validation, settings, run, tried)
    return Extra(disk=disk, before=before, after=after, validated_cases=validated)


def _measured(datalist: Datalist, settings: Settings) -> list[Entry]:
    """Cases that are predicted and measured when the run is done: of the test split, else of validation."""
    for split in MEASURABLE:
        entries: tuple[Entry, ...] = getattr(datalist, split)
        labelled = [one for one in entries if (one.label if settings.task.kind == "segmentation" else one.category)]
        if labelled:
            return labelled
    return []


def _alike(entries: Sequence[Entry], settings: Settings, run: SampledRun, tried: Tried) -> float:
    """As how many scans of the size of the one that was tried these count; all alike for a classification."""
    sweep = tried.trial.looks.sweep if tried.trial else None
    if sweep is None:
        return len(entries)
    channels = len(settings.task.channels)
    sizes = [case_size(entry, settings.preprocess) for entry in entries]
    return sum(size.source_vox / channels / sweep.source_vox if size else 1.0 for size in sizes)
