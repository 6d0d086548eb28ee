"""The plan of a fine-tuning, its labels, its last prediction and its measurement included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod
from statistics import fmean
from typing import Any

from voco_cli.config import Settings
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.errors import UsageError
from voco_cli.finetune.patches import survey_labels
from voco_cli.resources.amounts import Amount, Plan, total
from voco_cli.resources.cases import RunCases, Say, case_shapes, readable_sizes, seeded_order
from voco_cli.resources.costs import MEASURE_S, SURVEY_S, TIME_FACTOR, case_seconds, pass_seconds
from voco_cli.resources.machine import temporary_folder
from voco_cli.resources.plan import ESTIMATES, RunCosts, TrainingPlan, estimate_costs, label_map_bytes
from voco_cli.tasks.cases import open_cache
from voco_cli.tasks.find_data import find_task_data
from voco_cli.tasks.splits import subset
from voco_cli.tasks.targets import target_of
from voco_cli.training.distributed import device_alone
from voco_cli.workflows.evaluate import MEASURABLE


def plan_finetuning(settings: Settings, budget_s: float, say: Say) -> Plan:
    """Work out what a fine-tuning needs: a few cases are preprocessed, and one patch goes through the network.

    Args:
        budget_s: about how long cases are tried.
        say: shows what is being done.
    Raises:
        UsageError: settings or data that the run would refuse, too.
        DataError: none of the cases that were tried can be used; label values that no class has.
    """
    if not settings.task.classes:
        raise UsageError(f"The task {settings.task.preset} has no classes.", "list them under task.classes")
    datalist = find_task_data(settings).datalist
    cases = finetuning_cases(settings, datalist)
    with temporary_folder(cases.cache.folder) as folder:
        cases.find_missing(say)
        cases.try_some(seeded_order(cases.everyone, settings.seed), folder, budget_s, say)
        if settings.task.is_voxelwise:
            survey_labels(cases.stored, settings.task)  # refuses labels that no class has
    device = device_alone(settings.run)[0]
    one_pass = pass_seconds(settings, device)
    validation_s = predicting_seconds(datalist.validation, settings, one_pass)
    costs = estimate_costs(settings, validation_s, one_pass, device)
    survey_s, end_s = _labelled_seconds(settings, datalist, cases, one_pass)
    costs = replace(costs, survey_s=survey_s, end_s=end_s)
    return labelled_plan(settings, datalist, cases, costs, (ESTIMATES,))


def finetuning_cases(settings: Settings, datalist: Datalist) -> RunCases:
    """Return the cases that a fine-tuning reads from its cache."""
    training = subset(datalist.training, settings.task, settings.seed)
    return RunCases(tuple(training), datalist.validation, open_cache(settings))


def labelled_plan(
    settings: Settings, datalist: Datalist, cases: RunCases, costs: RunCosts, notes: tuple[str, ...], **figures: Any
) -> Plan:
    """Put together the plan of a fine-tuning, whose end predicts the cases that are measured."""
    predictions: Amount | None = None
    if settings.task.is_voxelwise:
        channels = len(settings.task.channels)
        sizes = readable_sizes(measured_entries(datalist, settings), settings.preprocess)
        predictions = label_map_bytes((size.source_vox // channels for size in sizes), settings)
    subject = f"fine-tuning of {settings.task.name}"
    return TrainingPlan(subject, settings, cases, costs, predictions, notes, figures).plan()


def measured_entries(datalist: Datalist, settings: Settings) -> list[Entry]:
    """Return the cases that are predicted and measured when the run is done: of the test split, else of validation."""
    target = target_of(settings.task)
    labelled = ([one for one in getattr(datalist, split) if target.is_known(one)] for split in MEASURABLE)
    return next(filter(None, labelled), [])


def predicting_seconds(entries: Iterable[Entry], settings: Settings, one_pass: Amount) -> Amount:
    """Return the seconds of predicting cases, their preprocessing left out."""
    shapes = [found for entry in entries if (found := case_shapes(entry, settings.preprocess)) is not None]
    return total([case_seconds(prepared, prod(source), settings, one_pass) for source, prepared in shapes])


def _labelled_seconds(
    settings: Settings, datalist: Datalist, cases: RunCases, one_pass: Amount
) -> tuple[Amount | None, Amount]:
    """Estimate going through all labels before training, and predicting and measuring at the end."""
    measured, labels = measured_entries(datalist, settings), settings.task.is_voxelwise
    rest_s = len(measured) * fmean(one.build_s for one in cases.tried) if cases.tried else 0.0
    if labels:
        source_vox = sum(size.source_vox for size in readable_sizes(measured, settings.preprocess))
        rest_s += source_vox * len(settings.task.classes) * MEASURE_S
    end = [predicting_seconds(measured, settings, one_pass), Amount.within(rest_s, TIME_FACTOR)]
    labelled_vox = sum(size.prepared_vox for size in readable_sizes(cases.everyone, settings.preprocess))
    return Amount.within(labelled_vox * SURVEY_S, TIME_FACTOR) if labels else None, total(end)
