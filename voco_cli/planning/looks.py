"""One look at held-out cases, as a validation has it, timed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.downstream.batches.survey import survey_labels
from voco_cli.evaluation.case_files import CasePair
from voco_cli.evaluation.folder import evaluate_pairs
from voco_cli.finetuning.classification_job import ClassificationJob
from voco_cli.finetuning.measure import options_of, task_classes, task_regions
from voco_cli.finetuning.segmentation_job import SegmentationJob
from voco_cli.planning.places import bytes_below
from voco_cli.planning.sweep import try_sweep
from voco_cli.planning.tried import Looks
from voco_cli.pretraining.crops import Case
from voco_cli.pretraining.health_check import HealthCheck
from voco_cli.pretraining.job import PretrainingJob
from voco_cli.settings import Settings

LONG_S = 20.0
"""A look that takes longer is not taken twice."""

AnyJob = PretrainingJob | SegmentationJob | ClassificationJob


def take_looks(job: AnyJob, held_out: Sequence[StoredCase], training: Sequence[StoredCase]) -> Looks:
    """Look once with a job that has been started; where nothing is held out, at a training case for the time alone."""
    if isinstance(job, PretrainingJob):
        return _pretraining_looks(job, held_out[:1])
    cases = held_out or training[:1]
    job.model.eval()
    start_s = time.perf_counter()
    if isinstance(job, ClassificationJob):
        for case in cases:
            job.logits(case)
        return Looks((time.perf_counter() - start_s) / len(cases))
    return _segmentation_looks(job, cases[0])


def _pretraining_looks(job: PretrainingJob, held_out: Sequence[StoredCase]) -> Looks:
    """At one case without the picture, and where that is quick once more with it."""
    if not held_out:
        return Looks()
    pictures, job.pictures = job.pictures, None
    job.health = HealthCheck([Case(case.name, case.volumes[0]) for case in held_out], job.settings)
    start_s = time.perf_counter()
    job.validate(1)
    case_s = (time.perf_counter() - start_s) / len(held_out)
    if pictures is None or case_s > LONG_S:
        return Looks(case_s)
    job.pictures = pictures
    start_s = time.perf_counter()
    job.validate(1)
    drawn_s = time.perf_counter() - start_s
    return Looks(case_s, max(0.0, drawn_s - case_s * len(held_out)), bytes_below(pictures))


def _segmentation_looks(job: SegmentationJob, case: StoredCase) -> Looks:
    settings, here = job.settings, job.here
    start_s = time.perf_counter()
    survey_labels([case], settings.task)
    survey_s = time.perf_counter() - start_s
    channels = np.stack([volume.read((0, 0, 0), case.shape_xyz) for volume in case.volumes])

    def network(windows: Tensor) -> Tensor:
        with torch.no_grad(), here.autocast():
            logits: Tensor = job.model(windows)
        return logits.float()

    sweep = try_sweep(channels, case.volumes[0].metadata.record, network, settings, here.device)
    return Looks(sweep.total_s, survey_s=survey_s, sweep=sweep, measure_s=_time_measuring(case, settings))


def _time_measuring(case: StoredCase, settings: Settings) -> float:
    """Seconds of measuring a prediction: the label map against itself takes as long as against a good one."""
    label = case.entry.label
    assert label is not None  # a segmentation has them
    start_s = time.perf_counter()
    pair = CasePair(case.name, case.entry.patient, label, label)
    evaluate_pairs(
        [pair], options_of(settings), classes=task_classes(settings.task), regions=task_regions(settings.task)
    )
    return time.perf_counter() - start_s
