"""The look at held-out scans: always the same crops, never augmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from voco_cli.engine.job import Place
from voco_cli.method.draws import draw_crops
from voco_cli.method.health import Figures, LookedAt, Verdict, health_figures, true_ranks, verdict
from voco_cli.method.objective import Embedded, VolumeContrast
from voco_cli.pretraining.crops import Case, read_crops
from voco_cli.pretraining.embedded_crops import embed_crops
from voco_cli.settings import Settings

FIXED_STEP = 2**31
"""The step whose draws the fixed crops are: one that no training reaches."""


@dataclass(frozen=True)
class FixedCrops:
    """What is looked at every time; as stored, a tensor a scan.

    Attributes:
        random: random crops, S x X x Y x Z.
        bases: base crops, K x X x Y x Z.
        labels_VSK: position labels of the random crops.
    """

    random: list[Tensor]
    bases: list[Tensor]
    labels_VSK: Tensor


@dataclass(frozen=True)
class Look:
    """One look at the held-out scans.

    Attributes:
        figures: what is measured.
        logits_VSK: predicted overlaps of the random crops with the base crops, on the CPU.
        ranks_VS: rank of each random crop's true base crop, on the CPU.
    """

    figures: Figures
    logits_VSK: Tensor
    ranks_VS: Tensor


class HealthCheck:
    """Fixed crops of the held-out scans, and the figures of a model on them.

    Args:
        cases: held-out scans; the first ``health.cases`` are looked at.
        settings: crops and health.
    """

    def __init__(self, cases: Sequence[Case], settings: Settings) -> None:
        self.settings = settings
        self.cases = list(cases)[: settings.health.cases]
        self.crops = settings.crops.model_copy(update={"random_per_volume": settings.health.crops_per_case})

    @cached_property
    def fixed(self) -> FixedCrops:
        """The crops, read once."""
        random, bases, labels = [], [], []
        for case in self.cases:
            draws = draw_crops(0, FIXED_STEP, case.name, case.volume.shape_xyz, self.crops)
            random_SXYZ, bases_KXYZ = read_crops(case.volume, draws, self.settings)
            random.append(torch.from_numpy(random_SXYZ))
            bases.append(torch.from_numpy(bases_KXYZ))
            labels.append(torch.from_numpy(draws.labels_SK))
        return FixedCrops(random, bases, torch.stack(labels))

    @torch.no_grad()
    def look(self, model: VolumeContrast, place: Place, own_teacher: bool = False) -> Look | None:
        """Look with the model, all crops projected together; None where nothing is held out.

        Args:
            own_teacher: let the student stand in for the teacher, as if it had just been copied.
        """
        if not self.cases:
            return None
        fixed = self.fixed
        stored = [*fixed.random, *fixed.bases]
        rows = embed_crops(model, stored, self.crops.network_size_vox, place, own_teacher)
        num_scans, num_random = fixed.labels_VSK.shape[:2]
        student = Embedded.from_rows(rows.student_NC, num_scans, num_random)
        teacher = Embedded.from_rows(rows.teacher_NC, num_scans, num_random)
        figures = health_figures(model, student, teacher, fixed.labels_VSK)
        cosines = model.cosines(student, teacher).cpu()
        logits = model.cosines(student, teacher, after=torch.relu).cpu()
        return Look(figures, logits, true_ranks(cosines, fixed.labels_VSK.float().argmax(-1, keepdim=True)))

    def verdict(self, start: Figures, now: Figures) -> Verdict:
        """What the last figures say against the first."""
        grid = self.crops.grid_xyz
        seen = LookedAt(len(self.cases), self.crops.random_per_volume, grid[0] * grid[1] * grid[2])
        return verdict(start, now, seen, self.settings.health)
