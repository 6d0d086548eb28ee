"""The look at held-out scans: always the same crops, never augmented."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from voco_cli.engine.job import Place
from voco_cli.method.augment import network_input
from voco_cli.method.draws import draw_crops
from voco_cli.method.health import Figures, Verdict, health_figures, verdict
from voco_cli.method.objective import Embedded, VolumeContrast
from voco_cli.pretraining.crops import Case, read_crops
from voco_cli.settings import Settings

FIXED_STEP = 2**31
"""The step whose draws the fixed crops are: one that no training reaches."""


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
    def _fixed(self) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Random crops, base crops (as stored, a tensor a scan) and labels_VSK."""
        random, bases, labels = [], [], []
        for case in self.cases:
            draws = draw_crops(0, FIXED_STEP, case.name, case.volume.shape_xyz, self.crops)
            random_SXYZ, bases_KXYZ = read_crops(case.volume, draws, self.settings)
            random.append(torch.from_numpy(random_SXYZ))
            bases.append(torch.from_numpy(bases_KXYZ))
            labels.append(torch.from_numpy(draws.labels_SK))
        return random, bases, torch.stack(labels)

    @torch.no_grad()
    def figures(self, model: VolumeContrast, place: Place, own_teacher: bool = False) -> Figures:
        """Figures of the model, all crops projected together; empty where nothing is held out.

        Args:
            own_teacher: let the student stand in for the teacher, as if it had just been copied.
        """
        if not self.cases:
            return {}
        random, bases, labels = self._fixed
        training = model.training
        model.eval()
        stored = [*random, *bases]
        features = self._embed(model, model.encoder, stored, place)
        teacher_encoder = None if own_teacher else model.teacher_encoder
        teacher_features = features if teacher_encoder is None else self._embed(model, teacher_encoder, stored, place)
        with place.autocast():
            student_rows = model.projector(features)
            teacher_rows = student_rows
            if model.teacher_projector is not None and not own_teacher:
                teacher_rows = model.teacher_projector(teacher_features)
        num_scans, num_random = labels.shape[:2]
        student = Embedded.from_rows(student_rows, num_scans, num_random)
        teacher = Embedded.from_rows(teacher_rows, num_scans, num_random)
        model.train(training)
        return health_figures(model, student, teacher, labels)

    def verdict(self, start: Figures, now: Figures) -> Verdict:
        """What the last figures say against the first."""
        grid = self.crops.grid_xyz
        return verdict(start, now, len(self.cases) * grid[0] * grid[1] * grid[2], self.settings.health)

    def _embed(self, model: VolumeContrast, encoder: nn.Module, stored: Sequence[Tensor], place: Place) -> Tensor:
        with place.autocast():
            return torch.cat([model.embed(encoder, rows) for rows in self._inputs(stored, place.device)]).float()

    def _inputs(self, stored: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        for rows in stored:
            n = len(rows)
            still = torch.zeros(n, 3, dtype=torch.bool), torch.zeros(n, dtype=torch.int64), torch.zeros(n)
            yield network_input(rows.to(device), *still, self.crops.network_size_vox)
