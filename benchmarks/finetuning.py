"""Fine-tuning at equal minutes: a plain DynUNet recipe against the preset's, same data, same held-out cases, one run.

``python -m benchmarks finetuning --data DIR [--minutes M]``; DIR holds the hippocampus task of the Decathlon. The plain
side is the network and the recipe that a MONAI tutorial arrives at: DynUNet of 16 to 128 filters, four random patches a
step, AdamW at 1e-3, Dice and cross entropy, no augmentation, no schedule. Both learn in turns of some seconds in one
process until each has had its minutes of the clock, and are then measured on the same patients, whom neither has seen,
in the scans' own space.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.registry import Options
from benchmarks.rows import Figure, Note, Row
from voco_cli.config import Settings, load_settings
from voco_cli.finetune.patches import survey_labels
from voco_cli.finetune.segmentation import SegmentationTask
from voco_cli.tasks.cases import StoredCase, build_cases, open_cache, stored_cases
from voco_cli.tasks.find_data import find_task_data
from voco_cli.training.callbacks import Callback
from voco_cli.training.distributed import build_accelerator, device_context
from voco_cli.training.trainer import rate_multiplier

TURN_S = 20.0
TASK, TEST_PATIENTS, SEED = "msd_hippocampus", 40, 0
PLAIN = (
    "model.feature_size=16",
    "model.levels=4",
    "task.deep_supervision=0",
    "task.foreground_share=0",
    "task.patches_per_volume=1",
    "train.batch_size=4",
    "train.lr=1e-3",
    "train.weight_decay=0.01",
    "augment.flip_prob=0",
    "augment.rotate_prob=0",
    "augment.shift_prob=0",
    "augment.scale_prob=0",
    "augment.noise_prob=0",
    "augment.affine_prob=0",
)


@dataclass
class Learner:
    """One side: a job, its optimizer, and the minutes it has had.

    Attributes:
        schedule: whether the rate warms up and falls over the budget; the plain side keeps it.
    """

    name: str
    job: SegmentationTask
    schedule: bool
    budget_s: float
    used_s: float = 0.0
    steps: int = 0
    optimizer: torch.optim.AdamW = field(init=False)
    batches: Iterator[Any] = field(init=False)

    def __post_init__(self) -> None:
        train = self.job.settings.train
        groups = [{"params": group.parameters} for group in self.job.parameter_groups()]
        self.optimizer = torch.optim.AdamW(groups, lr=train.lr, weight_decay=train.weight_decay, foreach=True)
        self.batches = self.job.batches(0, 10**9)

    def turn(self) -> None:
        """Learn for some seconds, or until the budget is used up."""
        start = time.perf_counter()
        end = start + min(TURN_S, self.budget_s - self.used_s)
        while (now := time.perf_counter()) < end:
            self._step((self.used_s + now - start) / self.budget_s)
        self.used_s += time.perf_counter() - start

    def _step(self, share: float) -> None:
        train = self.job.settings.train
        rate = train.lr
        if self.schedule:
            rate *= rate_multiplier(round(1000 * share), 1000, round(1000 * train.warmup_share), train.warmup_start)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.job.train_step(self.job.model, next(self.batches), first_of_step=True)["loss"].backward()
        if self.schedule and train.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.job.model.parameters(), train.clip_norm, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1

    def measure(self, held_out: list[StoredCase]) -> dict[str, float]:
        """Dice on the held-out cases, in their own space."""
        self.job.model.eval()
        with torch.no_grad():
            return self.job.figures(np.array([self.job.measure_case(case) for case in held_out]))


def settings_of(data: Path, folder: Path, overrides: tuple[str, ...] = ()) -> Settings:
    """The preset, with a seeded split that keeps some patients out of everything."""
    common = ("task.split=seeded", f"task.test_patients={TEST_PATIENTS}", "task.validation_patients=1")
    flags = {"data.root": data, "cache.dir": folder, "run.device": "cpu", "seed": SEED}
    return load_settings(None, None, (*common, *overrides), flags, task=TASK).settings


def rows(options: Options) -> Iterator[Row]:
    """Steps and Dice of both sides."""
    if options.data is None:
        yield Note("skipped", "it needs --data DIR with the hippocampus task")
        return
    with tempfile.TemporaryDirectory() as folder:
        learners, held_out = _learners(options.data, Path(folder), options.minutes * 60)
        while any(one.used_s < one.budget_s for one in learners):
            for one in learners:
                one.turn()
        yield Note("data", f"{len(learners[0].job.training)} cases to train on, {len(held_out)} held out")
        for one in learners:
            yield Note(one.name, f"{one.steps} steps in {one.used_s / 60:.1f} minutes")
            for name, value in one.measure(held_out).items():
                yield Figure(f"{one.name}: {name}", "", [value])


def _learners(data: Path, folder: Path, budget_s: float) -> tuple[list[Learner], list[StoredCase]]:
    """Both sides at their start, and the cases that neither sees."""
    ours, plain = settings_of(data, folder), settings_of(data, folder, PLAIN)
    accelerator = build_accelerator(ours.run)
    datalist = find_task_data(ours).datalist
    everyone = [*datalist.training, *datalist.validation, *datalist.test]
    cache = open_cache(ours)
    stored = build_cases(cache, everyone, Callback())
    training, _ = stored_cases(cache, [*datalist.training, *datalist.validation], ours, stored)
    held_out, _ = stored_cases(cache, datalist.test, ours, stored)
    points = survey_labels(training, ours.task)
    learners = []
    for name, settings in (("plain DynUNet", plain), ("preset", ours)):
        job = SegmentationTask(settings, training, [], accelerator.device, points=points)
        job.start(device_context(accelerator))
        job.model.train()
        learners.append(Learner(name, job, name == "preset", budget_s))
    return learners, held_out
